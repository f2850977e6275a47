"""What `hythe up` writes down about its processes, so that the next one can adopt them after a crash."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hythe import __version__, durable
from hythe.process import ProcessIdentity


@dataclass(slots=True)
class Started:
    """A process of the stack.

    Attributes:
        started_at: RFC 3339 UTC.
        restarts: how often it was started again after it had died, since `hythe up`.
    """

    identity: ProcessIdentity
    started_at: str
    restarts: int = 0


@dataclass(slots=True)
class UpFile:
    """The content of ``<state>/up.json``.

    Attributes:
        version: version of Hythe that started the processes.
        supervisor: the `hythe up` itself.
        processes: by name, in the order of their start.
    """

    supervisor: ProcessIdentity | None = None
    processes: dict[str, Started] = field(default_factory=dict)
    version: str = __version__

    def write(self, path: Path) -> None:
        """Replace the file at once; it need not survive a reboot."""
        content = {
            **(_identity_json(self.supervisor) if self.supervisor else {}),
            "version": self.version,
            "processes": {
                name: {**_identity_json(p.identity), "started_at": p.started_at, "restarts": p.restarts}
                for name, p in self.processes.items()
            },
        }
        durable.write_atomic(path, json.dumps(content).encode(), mode=0o644, durable=False)


def path_in(state: Path) -> Path:
    """Return the path of the file in a state directory."""
    return state / "up.json"


def read(path: Path) -> UpFile:
    """Return what the file says; a missing or damaged one says nothing."""
    try:
        content = json.loads(path.read_bytes())
        return UpFile(
            supervisor=_identity(content) if "pid" in content else None,
            processes={
                str(name): Started(_identity(p), str(p["started_at"]), int(p["restarts"]))
                for name, p in content["processes"].items()
            },
            version=str(content["version"]),
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return UpFile()


def read_ready(state: Path, service: str) -> dict[str, Any] | None:
    """Return what a service that is ready says about itself (``services/<service>.json``), or None."""
    try:
        content = json.loads((state / "services" / f"{service}.json").read_bytes())
        _identity(content)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    found: dict[str, Any] = content
    return found


def identity_of_ready(ready: dict[str, Any]) -> ProcessIdentity:
    """Return which process wrote a service's readiness."""
    return _identity(ready)


def _identity(content: dict[str, Any]) -> ProcessIdentity:
    return ProcessIdentity(int(content["pid"]), int(content["start_ticks"]), str(content["boot_id"]))


def _identity_json(identity: ProcessIdentity) -> dict[str, int | str]:
    return {"pid": identity.pid, "start_ticks": identity.start_ticks, "boot_id": identity.boot_id}
