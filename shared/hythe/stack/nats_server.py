"""The bus server of a stack: its port, its configuration file, and when it may be used."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from hythe import durable
from hythe.errors import FailedPrecondition
from hythe.settings import Settings
from hythe.stack import programs
from hythe.stack.nats_config import SYNC_ALWAYS_SINCE, render
from hythe.stack.streams import parse_version

OLDEST = (2, 9)


class NatsServer:
    """What `hythe up` needs to know to start the server.

    Attributes:
        program: path of the program.
        version: its version as numbers.
        warnings: what the user should know about this version.
    """

    def __init__(self, settings: Settings, public_keys: dict[str, str]) -> None:
        """Look for the program and its version.

        Raises:
            FailedPrecondition: it is missing, or too old.
        """
        self._settings = settings
        self._keys = public_keys
        self.directory = settings.root / "nats"
        self.program, of_system = programs.find_nats_server(settings.nats_server)
        text = programs.version_of(self.program)
        self.version = parse_version(text.rpartition(" ")[2])
        if self.version < OLDEST:
            raise FailedPrecondition(
                f"start nats-server: {self.program} is {text or 'of unknown version'}, Hythe needs 2.9 or later",
                next_step="run `make setup`, which brings the pinned one, or set HYTHE_NATS_SERVER",
            )
        self.warnings = _warnings(self.program, self.version, of_system)

    @property
    def config(self) -> Path:
        """Path of the configuration file."""
        return self.directory / "nats.conf"

    def prepare(self, *, keep_port: bool) -> int:
        """Choose the port, write configuration and bus.json, and return the port.

        A port that the settings name is used or refused. Else the one of earlier starts is kept while it is free.

        Args:
            keep_port: a server of this stack is already listening on the remembered port.

        Raises:
            FailedPrecondition: the port that the settings name is taken by somebody else.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        port = self._choose_port(keep_port)
        text = render(
            port=port,
            store=self.directory / "store",
            host=self._settings.host,
            public_keys=self._keys,
            version=self.version,
            events_bytes=self._settings.events_bytes,
        )
        durable.write_atomic(self.config, text.encode(), durable=False)
        content = json.dumps({"url": url_of(port)}).encode()
        durable.write_atomic(self._settings.bus_file, content, mode=0o644, durable=False)
        return port

    def _choose_port(self, keep: bool) -> int:
        wanted = self._settings.nats_port
        remembered = self._remembered_port()
        if keep and remembered and wanted in (0, remembered):
            return remembered
        if wanted and not _free(wanted):
            raise FailedPrecondition(
                f"start nats-server: port {wanted} on 127.0.0.1 is taken",
                cause="another process listens there",
                next_step="stop it, or choose another HYTHE_NATS_PORT (0 picks a free one)",
            )
        port = wanted or (remembered if remembered and _free(remembered) else _free_port())
        if port != remembered:
            durable.write_atomic(self.directory / "port", f"{port}\n".encode(), durable=False)
        return port

    def _remembered_port(self) -> int:
        try:
            text = (self.directory / "port").read_text().strip()
        except FileNotFoundError:
            return 0
        return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 65536 else 0


def url_of(port: int) -> str:
    """Return the address of the bus on this host."""
    return f"nats://127.0.0.1:{port}"


def _warnings(program: Path, version: tuple[int, ...], of_system: bool) -> list[str]:
    found = []
    shown = ".".join(map(str, version))
    if of_system:
        found.append(f"using the system's {program} {shown}, which is fit for loopback on one host only")
    if version < SYNC_ALWAYS_SINCE:
        found.append(f"nats-server {shown} cannot sync each event to disk: a power cut may lose up to a minute of them")
    return found


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
