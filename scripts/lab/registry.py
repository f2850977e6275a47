"""A real docker-registry on loopback on a port of its own, and how an image is pushed to any registry."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from scripts.lab.images import Blob, Image, Index

_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")


class PushFailed(Exception):
    """A registry refused a part of an image; the message has its answer."""


class Registry:
    """A docker-registry process; use it as a context manager, or call `start` and `stop`.

    Attributes:
        address: ``127.0.0.1:<port>`` once started.
    """

    def __init__(self, directory: Path, *, htpasswd: str = "") -> None:
        """Prepare a registry that keeps everything below `directory`.

        Args:
            htpasswd: lines ``USER:BCRYPT``; who is none of these users gets nothing. Anybody gets all without them.
        """
        self.directory = directory
        self._htpasswd = htpasswd
        self.address = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, timeout_s: float = 20.0) -> None:
        """Start the registry; a stopped one starts again on the same port with the same content.

        Raises:
            FileNotFoundError: docker-registry is not installed.
            TimeoutError: it did not listen in time; the message has its log.
        """
        program = shutil.which("docker-registry")
        if program is None:
            raise FileNotFoundError("docker-registry is not installed (Debian package docker-registry)")
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "config.yml"
        config.write_text(
            json.dumps(
                {
                    "version": 0.1,
                    "log": {"level": "info"},
                    "storage": {
                        "filesystem": {"rootdirectory": str(self.directory / "data")},
                        "delete": {"enabled": True},
                    },
                    "http": {"addr": self.address or "127.0.0.1:0", "secret": os.urandom(8).hex()},
                    **self._authentication(),
                }
            )
        )
        log = self.directory / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [program, "serve", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={"PATH": os.defpath},
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while True:
            found = _LISTENING.search(log.read_text())
            if found:
                self.address = f"127.0.0.1:{found.group(1)}"
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise TimeoutError(f"docker-registry does not listen:\n{log.read_text()}")
            time.sleep(0.005)

    def _authentication(self) -> dict[str, object]:
        if not self._htpasswd:
            return {}
        path = self.directory / "htpasswd"
        path.write_text(self._htpasswd)
        return {"auth": {"htpasswd": {"realm": "lab", "path": str(path)}}}

    def stop(self) -> None:
        """End the process; does nothing when it is not running."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def push(self, image: Image | Index, name: str) -> str:
        """Push `image` as ``<repository>:<tag>`` and return the reference that pulls it, with this registry's address."""
        push(f"http://{self.address}", image, name)
        return f"{self.address}/{name}"

    def __enter__(self) -> Registry:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def push(url: str, image: Image | Index, name: str) -> None:
    """Push `image` to the registry at `url` (``http://host:port``) as `name`, ``<repository>:<tag>``.

    Blobs that the registry has are not sent again.

    Raises:
        PushFailed: the registry refused a part.

    Spec: OCI distribution-spec, "Pushing blobs", "Pushing manifests".
    """
    repository, _, tag = name.rpartition(":")
    address = urlsplit(url).netloc
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        for blob in image.blobs:
            _push_blob(connection, repository, blob)
        for manifest in image.manifests:
            reference = tag if manifest is image.root else manifest.digest
            _expect(connection, "PUT", f"/v2/{repository}/manifests/{reference}", manifest, 201)
    finally:
        connection.close()


def _push_blob(connection: http.client.HTTPConnection, repository: str, blob: Blob) -> None:
    connection.request("HEAD", f"/v2/{repository}/blobs/{blob.digest}")
    response = connection.getresponse()
    response.read()
    if response.status == 200:
        return
    location = _expect(connection, "POST", f"/v2/{repository}/blobs/uploads/", None, 202)
    parts = urlsplit(location)
    query = f"{parts.query}&" if parts.query else ""
    target = f"{parts.path}?{query}digest={blob.digest.replace(':', '%3A')}"
    _expect(connection, "PUT", target, Blob(blob.data, "application/octet-stream"), 201)


def _expect(connection: http.client.HTTPConnection, method: str, target: str, body: Blob | None, status: int) -> str:
    headers = {"Content-Type": body.media_type} if body else {"Content-Length": "0"}
    connection.request(method, target, body.data if body else None, headers)
    response = connection.getresponse()
    answer = response.read()
    if response.status != status:
        raise PushFailed(f"{method} {target.partition('?')[0]}: {response.status} {answer.decode(errors='replace')}")
    return response.getheader("Location") or ""
