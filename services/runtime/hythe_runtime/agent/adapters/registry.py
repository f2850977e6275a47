"""Who this agent is, and telling it to metadata over the bus."""

from __future__ import annotations

from pathlib import Path

from hythe import __version__, clock, durable, subjects
from hythe.bus.connection import Bus
from hythe.errors import DataLoss, InvalidArgument
from hythe.identifiers import check_id, new_id
from hythe.wire.records import HostRecord, HostRegister

MACHINE_ID = Path("/etc/machine-id")


class BusRegistry:
    """`hythe_runtime.agent.ports.Registry` by requests."""

    def __init__(self, bus: Bus, host: str, instance: str, root_id: str) -> None:
        self._bus = bus
        self._subject = subjects.rpc(subjects.NO_NAMESPACE, bus.key_name, "metadata", "host", "register")
        self._request = HostRegister(
            name=host,
            machine_id=machine_id(),
            boot_id=clock.boot_id(),
            instance=instance,
            root_id=root_id,
            version=__version__,
        )

    async def register(self) -> None:
        """Tell metadata that this is the agent of the host; repeating it changes nothing."""
        await self._bus.call(self._subject, self._request, HostRecord)


def machine_id(path: Path = MACHINE_ID) -> str:
    """Return the id of the machine's operating system, empty where it has none, as in many containers."""
    try:
        text = path.read_text().strip()
    except OSError:
        return ""
    return text if text.isascii() and len(text) <= 64 else ""


def ensure_root_id(directory: Path) -> str:
    """Return the id of the root directory that `directory` belongs to; made durably when it is asked for first.

    Raises:
        DataLoss: the file holds something else.
    """
    path = directory / "root-id"
    try:
        return check_id(path.read_text().strip(), "root id")
    except FileNotFoundError:
        made = new_id()
        durable.write_atomic(path, f"{made}\n".encode())
        return made
    except (InvalidArgument, UnicodeDecodeError) as error:
        raise DataLoss(
            f"read {path}: it is not an id",
            cause=str(error),
            next_step="remove the file: the next start makes a new id, which is taken 30 s after the host fell silent",
        ) from error
