"""containerd and docker beside Hythe: private daemons with root, state and socket of their own, driven by their commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_START_S = 20.0
_END_S = 20.0


class PeerFailed(Exception):
    """A peer did not start or refused a command; the message has what it said."""


class _Daemon:
    """A daemon of this bench alone, and the command that talks to it; use it as a context manager."""

    def __init__(
        self, directory: Path, daemon: Sequence[str], client: Sequence[str], variables: Mapping[str, str] | None = None
    ) -> None:
        self._variables = {**os.environ, **(variables or {})}
        self._daemon = list(daemon)
        self._client = list(client)
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._daemon, stdout=log, stderr=log, env=self._variables, start_new_session=True
            )
        try:
            deadline = time.monotonic() + _START_S
            while subprocess.run([*self._client, "version"], capture_output=True, check=False).returncode:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise PeerFailed(f"{self._daemon[0]} does not answer\n{self._log.read_text(errors='replace')}")
                time.sleep(0.05)
        except BaseException:  # an interrupt, too, must not leave it running
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, *arguments: str) -> float:
        """Run the command; return the seconds of the whole process."""
        return timed(*self._client, *arguments)


class Containerd(_Daemon):
    """A containerd of this bench alone."""

    def __init__(self, directory: Path, *, unpigz: bool = True) -> None:
        """Prepare one that keeps everything in the new `directory`; without `unpigz` it inflates by Go's own library."""
        directory.mkdir()
        socket, config = directory / "containerd.sock", directory / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{directory}/root"\nstate = "{directory}/state"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{socket}"\n'
            f'[plugins."io.containerd.internal.v1.opt"]\npath = "{directory}/opt"\n'  # else it makes /opt/containerd
        )
        super().__init__(
            directory,
            ["containerd", "--config", str(config)],
            ["ctr", "--address", str(socket)],
            {} if unpigz else {"CONTAINERD_DISABLE_PIGZ": "1"},
        )
        self._number = 0

    @staticmethod
    def missing() -> str:
        """Return why it cannot be measured here; empty when it can."""
        return _missing("containerd", "containerd", "ctr")

    def pull(self, reference: str) -> float:
        """``ctr images pull --plain-http IMAGE``; return the seconds of the whole process."""
        return self._ask("images", "pull", "--plain-http", reference)

    def fetch(self, reference: str) -> float:
        """``ctr content fetch --plain-http IMAGE``; return the seconds of the whole process."""
        return self._ask("content", "fetch", "--plain-http", reference)

    def run(self, reference: str) -> float:
        """``ctr run --rm IMAGE ID true``; return the seconds of the whole process."""
        self._number += 1
        return self._ask("run", "--rm", reference, f"bench-{os.getpid()}-{self._number}", "true")


class Dockerd(_Daemon):
    """A dockerd of this bench alone, without networks."""

    def __init__(self, directory: Path) -> None:
        """Prepare one that keeps everything in the new `directory`."""
        directory.mkdir()
        host = f"unix://{directory}/docker.sock"
        options = ["--bridge=none", "--ip-forward=false", "--iptables=false", "--ip6tables=false", f"--host={host}"]
        places = [f"--data-root={directory}/data", f"--exec-root={directory}/exec", f"--pidfile={directory}/pid"]
        super().__init__(directory, ["dockerd", *options, *places], ["docker", "--host", host])

    @staticmethod
    def missing() -> str:
        """Return why it cannot be measured here; empty when it can."""
        return _missing("docker.io", "dockerd", "docker")

    def pull(self, reference: str) -> float:
        """``docker pull IMAGE``, which unpacks as well; return the seconds of the whole process."""
        return self._ask("pull", reference)


class Podman:
    """podman, which needs no daemon."""

    @staticmethod
    def missing() -> str:
        """Return why it cannot be measured here; empty when it can."""
        return _missing("podman", "podman")

    @staticmethod
    def pull(reference: str, directory: Path) -> float:
        """``podman pull IMAGE`` with all it keeps in the new `directory`; return the seconds of the whole process.

        Its own mounts are cleared away afterwards.
        """
        with tempfile.TemporaryDirectory(prefix="hythe-") as run:  # podman takes no run directory above 50 characters
            places = ["--root", f"{directory}/root", "--runroot", f"{run}/run", "--tmpdir", f"{run}/tmp"]
            options = ["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]
            try:
                return timed("podman", *places, *options, "pull", "--tls-verify=false", reference)
            finally:
                subprocess.run(["umount", f"{directory}/root/overlay"], capture_output=True, check=False)


class Skopeo:
    """skopeo, which needs no daemon."""

    @staticmethod
    def missing() -> str:
        """Return why it cannot be measured here; empty when it can."""
        return _missing("skopeo", "skopeo")

    @staticmethod
    def fetch(reference: str, directory: Path) -> float:
        """``skopeo copy docker://IMAGE dir:…`` to the new `directory`; return the seconds of the whole process."""
        return timed("skopeo", "copy", "--src-tls-verify=false", f"docker://{reference}", f"dir:{directory}")


def timed(*command: str) -> float:
    """Run a command; return the seconds of the whole process.

    Raises:
        PeerFailed: its exit code is not 0.
    """
    start = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    elapsed_s = time.perf_counter() - start
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace")
        raise PeerFailed(f"{' '.join(command)}: exit code {done.returncode}\n{said}")
    return elapsed_s


def _missing(package: str, *programs: str) -> str:
    absent = [name for name in programs if shutil.which(name) is None]
    return f"{' and '.join(absent)} not installed (Debian package {package})" if absent else ""
