"""`hythe status`: what each process of the stack is, and whether it answers."""

from __future__ import annotations

import json
import os
import time

from hythe.client.sync_bus import open_bus
from hythe.errors import HytheError
from hythe.process import ProcessIdentity
from hythe.settings import Settings
from hythe.stack import processes, up_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hythe.client.protocol import Frame
    from hythe.client.sync_bus import SyncBus

PING_TIMEOUT_S = 1.0
SUPERVISOR = "hythe up"
HEALTHY = "healthy"


def collect(settings: Settings) -> list[dict[str, Any]]:
    """Return one row per process of the stack: name, pid, health, uptime, restarts, metrics port, version.

    Health is ``healthy`` (runs, is ready and answers on the bus), ``starting`` (runs, not ready), ``silent`` (runs, does not
    answer) or ``dead``. The supervisor is healthy while it runs.
    """
    found = up_file.read(up_file.path_in(settings.state))
    bus, trouble = _open(settings)
    alive = {name: started.identity.alive() for name, started in found.processes.items()}
    expected = {name for name, lives in alive.items() if lives} & set(processes.MODULES)
    answers = _ping(bus, expected) if bus is not None else {}
    rows = [_row(SUPERVISOR, found.supervisor, HEALTHY)]
    for name in processes.NAMES:
        started = found.processes.get(name)
        said = up_file.read_ready(settings.state, name)
        identity = started.identity if started else (up_file.identity_of_ready(said) if said else None)
        if name == processes.NATS:
            health = HEALTHY if bus is not None else "silent"
        elif said is None or up_file.identity_of_ready(said) != identity:
            health = "starting"
        else:
            health = HEALTHY if name in answers else "silent"
        row = _row(name, identity, health)
        row["restarts"] = started.restarts if started else 0
        if row["health"] != "dead" and said is not None:
            row["metrics_port"] = said.get("metrics_port") or None
        if name == processes.NATS and bus is not None:
            row["version"], row["address"] = bus.server_version, bus.url
        elif name in answers:
            row["version"] = str(answers[name].get("version", ""))
        if name == processes.NATS and trouble:
            row["trouble"] = trouble
        rows.append(row)
    if bus is not None:
        bus.close()
    return rows


def _row(name: str, identity: ProcessIdentity | None, health: str) -> dict[str, Any]:
    lives = identity is not None and identity.alive()
    return {
        "name": name,
        "pid": identity.pid if identity is not None and lives else None,
        "health": health if lives else "dead",
        "uptime_s": _uptime_s(identity) if identity is not None and lives else None,
        "restarts": 0,
        "metrics_port": None,
        "version": "",
        "address": "",
        "trouble": "",
    }


def _uptime_s(identity: ProcessIdentity) -> float:
    started_s = identity.start_ticks / os.sysconf("SC_CLK_TCK")
    return round(time.clock_gettime(time.CLOCK_BOOTTIME) - started_s, 1)


def _open(settings: Settings) -> tuple[SyncBus | None, str]:
    try:
        bus = open_bus(settings)
        bus.flush(PING_TIMEOUT_S)
    except HytheError as error:
        return None, error.message
    return bus, ""


def _ping(bus: SyncBus, expected: set[str]) -> dict[str, dict[str, Any]]:
    """Return the answer to ``$SRV.PING`` of each service, waiting up to 1 s for those that are `expected`."""
    answers: dict[str, dict[str, Any]] = {}

    def take(frame: Frame) -> None:
        if frame.status == 0:
            answer = json.loads(frame.data)
            answers[str(answer.get("name", "")).removeprefix("hythe-")] = answer

    inbox, stop = bus.listen(take)
    bus.publish("$SRV.PING", b"", None, inbox)
    deadline = time.monotonic() + PING_TIMEOUT_S
    try:
        while not expected <= answers.keys() and time.monotonic() < deadline:
            bus.pump(deadline - time.monotonic())
    except HytheError:
        pass  # the bus went away: those that did not answer are silent
    stop()
    return answers
