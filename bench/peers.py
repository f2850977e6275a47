"""containerd and docker beside Hythe: private daemons with root, state and socket of their own, driven by their commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType


class Containerd:
    """A containerd of this bench alone; use it as a context manager."""

    def __init__(self, directory: Path) -> None:
        self._socket = directory / "containerd.sock"
        config = directory / "config.toml"
        directory.mkdir()
        config.write_text(
            f'version = 2\nroot = "{directory}/root"\nstate = "{directory}/state"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{self._socket}"\n'
        )
        self._log = (directory / "log").open("wb")
        self._process = subprocess.Popen(["containerd", "--config", str(config)], stdout=self._log, stderr=self._log)
        self._number = 0

    @staticmethod
    def missing() -> str:
        """Return why it cannot be measured here; empty when it can."""
        absent = [name for name in ("containerd", "ctr") if shutil.which(name) is None]
        return f"{' and '.join(absent)} not installed (Debian package containerd)" if absent else ""

    def __enter__(self) -> Containerd:
        deadline = time.monotonic() + 20
        while subprocess.run([*self._ctr, "version"], capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError("containerd does not answer")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    @property
    def _ctr(self) -> list[str]:
        return ["ctr", "--address", str(self._socket)]

    def pull(self, reference: str) -> None:
        """Fetch and unpack an image from a registry that speaks HTTP."""
        subprocess.run([*self._ctr, "images", "pull", "--plain-http", reference], check=True, capture_output=True)

    def fetch(self, reference: str) -> float:
        """``ctr content fetch --plain-http IMAGE``; return the seconds of the whole process."""
        command = [*self._ctr, "content", "fetch", "--plain-http", reference]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start

    def run(self, reference: str) -> float:
        """``ctr run --rm IMAGE ID true``; return the seconds of the whole process."""
        self._number += 1
        command = [*self._ctr, "run", "--rm", reference, f"bench-{os.getpid()}-{self._number}", "true"]
        start = time.perf_counter()
        subprocess.run(command, check=True)
        return time.perf_counter() - start


class Dockerd:
    """A dockerd of this bench alone, without networks; use it as a context manager."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._socket = f"unix://{directory}/docker.sock"
        self._log = (directory / "log").open("wb")
        options = ["--bridge=none", "--iptables=false", "--ip6tables=false", f"--host={self._socket}"]
        places = [f"--data-root={directory}/data", f"--exec-root={directory}/exec", f"--pidfile={directory}/pid"]
        self._process = subprocess.Popen(["dockerd", *options, *places], stdout=self._log, stderr=self._log)

    @staticmethod
    def missing() -> str:
        """Return why it cannot be measured here; empty when it can."""
        absent = [name for name in ("dockerd", "docker") if shutil.which(name) is None]
        return f"{' and '.join(absent)} not installed (Debian package docker.io)" if absent else ""

    def __enter__(self) -> Dockerd:
        deadline = time.monotonic() + 20
        while subprocess.run([*self._docker, "version"], capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError("dockerd does not answer")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    @property
    def _docker(self) -> list[str]:
        return ["docker", "--host", self._socket]

    def pull(self, reference: str) -> float:
        """``docker pull IMAGE``, which unpacks as well; return the seconds of the whole process."""
        start = time.perf_counter()
        subprocess.run([*self._docker, "pull", reference], check=True, capture_output=True)
        return time.perf_counter() - start
