"""Stopping all containers of a host for `hythe down`: through the services while they live, else with runc itself."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from hythe import subjects
from hythe.client.operation import follow_all
from hythe.client.sync_bus import SyncBus
from hythe.errors import HytheError
from hythe.settings import Settings
from hythe.stack import leftovers, programs

_RUNC_TIMEOUT_S = 10.0
_LIVING = ("creating", "created", "running", "unknown")


def stop_through_services(bus: SyncBus, stop_timeout_s: float) -> tuple[list[str], list[str]]:
    """Ask runtime to stop every container: stop signal, kill after `stop_timeout_s`; all at once.

    Returns:
        Names of the containers that are stopped, and a warning for each that could not be.

    Raises:
        HytheError: runtime cannot say which containers there are.
    """
    listed = bus.call(_subject(bus, "", "list"), {"all": False})
    warnings = [str(text) for text in listed.get("warnings", [])]
    living = [status for item in listed["containers"] if (status := item.get("status")) and _lives(status)]
    operations = [
        bus.begin(_subject(bus, str(status["namespace"]), "stop"), {"key": status["id"], "timeout_s": stop_timeout_s})
        for status in living
    ]
    follow_all(operations)
    stopped = []
    for status, operation in zip(living, operations, strict=True):
        if operation.error is None:
            stopped.append(str(status["name"]))
        else:
            warnings.append(f"stop {status['name']}: {operation.error.message}")
    return stopped, warnings


def _lives(status: dict[str, Any]) -> bool:
    return status["status"] in _LIVING


def _subject(bus: SyncBus, namespace: str, verb: str) -> str:
    return subjects.rpc(namespace, bus.key_name, "runtime", "container", verb)


def stop_with_runc(settings: Settings, stop_timeout_s: float) -> list[str]:
    """Stop what runs below this stack's runc directory: its own stop signal, SIGKILL after `stop_timeout_s`; return the ids.

    For when the services are gone. What they know of the containers they will find ended.
    """
    root = settings.state / "runc"
    runc = programs.find("runc")
    if runc is None or not root.is_dir():
        return []
    ids = [item["id"] for item in _list(runc, root) if item.get("status") in ("running", "paused", "created")]
    for container in ids:
        _runc(runc, root, "kill", container, _stop_signal(settings, container))
    deadline = time.monotonic() + stop_timeout_s
    while ids and time.monotonic() < deadline:
        if not any(item.get("status") == "running" for item in _list(runc, root)):
            break
        time.sleep(0.05)
    for item in _list(runc, root):
        _runc(runc, root, "delete", "--force", item["id"])
    return ids


def _stop_signal(settings: Settings, container: str) -> str:
    """Return the stop signal that the container's bundle has on record, SIGTERM where none can be read."""
    for path in (settings.root / "bundle" / "bundles").glob(f"*/{container}/record.json"):
        try:
            return str(json.loads(path.read_text()).get("stop_signal") or "SIGTERM")
        except (OSError, ValueError, AttributeError):
            pass
    return "SIGTERM"


def _list(runc: Path, root: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(_runc(runc, root, "list", "--format", "json") or "null")
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _runc(runc: Path, root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [str(runc), "--root", str(root), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_RUNC_TIMEOUT_S,
            check=False,
            env={"PATH": programs.SYSTEM_PATH},
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout


def kill_leftovers(settings: Settings) -> int:
    """Kill what still lives in this stack's cgroups, containers first, then their monitors; return how many processes."""
    places = leftovers.cgroup_directories(settings)
    if not places:
        return 0
    killed = leftovers.kill_all([place / "ctr" for place in places if (place / "ctr").is_dir()])
    deadline = time.monotonic() + 2.0
    while leftovers.processes_in(places) and time.monotonic() < deadline:
        time.sleep(0.01)  # a monitor writes the exit code down and ends by itself
    return killed + leftovers.kill_all(places)


def describe(error: HytheError) -> str:
    """Return an error as one line of a warning."""
    return f"{error.message}{f' ({error.cause})' if error.cause else ''}"
