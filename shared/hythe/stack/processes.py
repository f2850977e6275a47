"""The processes of a stack: how each is started, with which environment, and when it counts as ready."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hythe.process import ProcessIdentity, identify
from hythe.settings import Settings
from hythe.stack import up_file
from hythe.stack.nats_server import NatsServer
from hythe.stack.programs import SYSTEM_PATH, search_path

NATS = "nats-server"
MODULES = {
    "metadata": "hythe_metadata",
    "distribution": "hythe_distribution",
    "bundle": "hythe_bundle",
    "runtime": "hythe_runtime.controller",
    "agent": "hythe_runtime.agent",
}
NAMES = (NATS, *MODULES)
MAX_LOG_BYTES = 8 << 20
OOM_SCORE = -500
_INHERITED_BY_CONTAINERS = ("agent",)
_PASSED_ON = (
    *("HYTHE_CONFIG", "HYTHE_FAILPOINTS", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "DOCKER_CONFIG"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "no_proxy"),
)


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """How to start one process and to see that it is ready.

    Attributes:
        environment: its whole environment; nothing is inherited.
        ready: tells whether that very process is ready, with a remark for the user, or None while it is not.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    log: Path
    ready: Callable[[ProcessIdentity], str | None]


def clean_environment(settings: Settings, service: str = "") -> dict[str, str]:
    """Return the environment of a process of the stack: the settings that concern it, and what is harmless of the caller's.

    Only distribution learns of HOME: credential helpers keep their stores there. An environment made from nothing keeps the
    caller's secrets, sockets and trace out (ARCHITECTURE §6).
    """
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    passed_on |= {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    if settings.otlp_endpoint:
        passed_on["OTEL_EXPORTER_OTLP_ENDPOINT"] = settings.otlp_endpoint
    if service == "distribution" and "HOME" in os.environ:
        passed_on["HOME"] = os.environ["HOME"]
    return {**passed_on, "PATH": search_path(), **settings.environment(service)}


def nats_spec(settings: Settings, server: NatsServer, ready: Callable[[ProcessIdentity], str | None]) -> ProcessSpec:
    """Return how to start the server of the bus."""
    return ProcessSpec(
        NATS,
        (str(server.program), "-c", str(server.config)),
        {"PATH": SYSTEM_PATH, "GOGC": "50"},
        settings.log_dir / f"{NATS}.log",
        ready,
    )


def service_spec(settings: Settings, name: str) -> ProcessSpec:
    """Return how to start one of Hythe's services."""

    def ready(identity: ProcessIdentity) -> str | None:
        said = up_file.read_ready(settings.state, name)
        if said is None or up_file.identity_of_ready(said) != identity:
            return None
        return f"metrics on port {said['metrics_port']}" if said.get("metrics_port") else ""

    return ProcessSpec(
        name,
        (sys.executable, "-m", MODULES[name]),
        clean_environment(settings, name),
        settings.log_dir / f"{name}.log",
        ready,
    )


def start(spec: ProcessSpec) -> tuple[ProcessIdentity, int, int]:
    """Start the process in a session of its own, its output appended to its log.

    Returns:
        Its identity, a pidfd, and the offset in bytes at which its log begins.

    Raises:
        OSError: the program cannot be started.
    """
    rotate(spec.log)
    with spec.log.open("ab") as log:
        begin = log.tell()
        child = subprocess.Popen(
            spec.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=spec.environment,
            cwd="/",
            start_new_session=True,
        )
    child.returncode = 0  # reaped by whoever holds the pidfd, never by subprocess
    if spec.name not in _INHERITED_BY_CONTAINERS:
        _protect_from_oom(child.pid)
    return identify(child.pid) or ProcessIdentity(child.pid, -1, ""), os.pidfd_open(child.pid), begin


def rotate(log: Path) -> None:
    """Move a log that has grown beyond 8 MiB aside, replacing the one moved before."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def last_lines(log: Path, count: int, begin: int) -> list[str]:
    """Return the last `count` lines of a log from offset `begin` on, as far as 16 KiB hold them."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(begin, size - (16 << 10)))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []


def _protect_from_oom(pid: int) -> None:
    try:
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(OOM_SCORE))
    except OSError:
        pass  # not permitted here (no CAP_SYS_RESOURCE), or it has ended already
