"""Service processes of one small stack, for tests of the distribution service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from hythe import settings
from hythe.bus.connection import Bus
from hythe.metrics import Metrics
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.waiting import eventually


class ServiceProcess:
    """One service as a process of its own.

    Attributes:
        root: the stack's root directory.
        log: file with what it says.
    """

    def __init__(
        self, service: str, directory: Path, bus: SecuredBus, root: Path | None = None, **variables: str
    ) -> None:
        """Prepare ``hythe-<service>`` with state below `directory`; `root` may lie elsewhere, with the keys in it."""
        self.root = root or directory
        self.log = directory / f"{service}.log"
        self._service = service
        self._ready = directory / "state" / "services" / f"{service}.json"
        config = directory / "hythe.toml"
        config.touch()
        self._environment = {
            "PATH": os.defpath,
            "HYTHE_ROOT": str(self.root),
            "HYTHE_STATE": str(directory / "state"),
            "HYTHE_HOST": HOST,
            "NATS_URL": bus.url,
            "HYTHE_CONFIG": str(config),
            **variables,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self._ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", f"hythe_{self._service}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        eventually(lambda: self._ready.exists() or self._dead(), what=f"hythe-{self._service} is ready")
        assert not self._dead(), self.log.read_text()

    def _dead(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal and return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(20)

    def wait(self) -> int:
        """Wait until it ends by itself and return its exit code."""
        process, self._process = self._process, None
        assert process is not None
        return process.wait(20)

    def peak_bytes(self) -> int:
        """Return the most memory that it has had in RAM so far, shared libraries included."""
        [line] = [each for each in Path(f"/proc/{self.pid}/status").read_text().splitlines() if "VmHWM" in each]
        return int(line.split()[1]) * 1024

    def figures(self) -> str:
        """Return its ``/metrics``."""
        port = json.loads(self._ready.read_text())["metrics_port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read(), "utf-8")


async def connect(service: ServiceProcess, bus: SecuredBus, key_name: str) -> Bus:
    """Connect to the bus as another service of the same stack."""
    flags = {"root": str(bus.keys.parent), "state": str(service.log.parent / "state"), "nats_url": bus.url}
    return await Bus.connect(settings.load(flags, {}), key_name, Metrics(key_name))
