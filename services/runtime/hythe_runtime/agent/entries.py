"""The entries of the journal: each is one step of one container, or a line of a snapshot of all of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from hythe.errors import DataLoss
from hythe.process import ProcessIdentity
from hythe_runtime.agent import codec
from hythe_runtime.agent.model import Bundle, Epoch, Event, Exit, Intent, Order, Record, Tombstone
from hythe_runtime.agent.states import Step


@dataclass(frozen=True, slots=True)
class Asked:
    """A container was asked for; nothing has been done for it before this is durable."""

    kind: ClassVar[Step] = "asked"
    intent: Intent

    @property
    def id(self) -> str:
        """The container's id."""
        return self.intent.id


@dataclass(frozen=True, slots=True)
class Prepared:
    """Its bundle is on disk; its root file system may be mounted from now on."""

    kind: ClassVar[Step] = "prepared"
    id: str
    bundle: Bundle


@dataclass(frozen=True, slots=True)
class Created:
    """Its first process exists and waits to be started; `conmon` watches it, or is gone already (None).

    `stdin` is the socket that its standard input comes from, empty without one; `log` the file that its output goes to.
    """

    kind: ClassVar[Step] = "created"
    id: str
    at: str
    trace_id: str
    conmon: ProcessIdentity | None
    pid: int
    stdin: str = ""
    log: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """Its command runs."""

    kind: ClassVar[Step] = "started"
    id: str
    at: str
    trace_id: str


@dataclass(frozen=True, slots=True)
class Commanded:
    """A command was accepted."""

    kind: ClassVar[Step] = "commanded"
    id: str
    epoch: Epoch
    order: Order | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """Its first process is no more; `oom_kills` of its processes were killed for want of memory while it ran."""

    kind: ClassVar[Step] = "ended"
    id: str
    at: str
    trace_id: str
    exit: Exit
    oom_kills: int = 0


@dataclass(frozen=True, slots=True)
class Removing:
    """It goes, with all it has on this host."""

    kind: ClassVar[Step] = "removing"
    id: str
    at: str
    trace_id: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Removed:
    """Nothing is left of it on this host; `at_s` is the wall clock in seconds since 1970."""

    kind: ClassVar[Step] = "removed"
    id: str
    at_s: int


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The bus has stored the container's events up to `number`."""

    kind: ClassVar[str] = "confirmed"
    id: str
    number: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Snapshot line: a container that is here."""

    kind: ClassVar[str] = "kept"
    record: Record


@dataclass(frozen=True, slots=True)
class Buried:
    """Snapshot line: a container that was removed."""

    kind: ClassVar[str] = "buried"
    tombstone: Tombstone


@dataclass(frozen=True, slots=True)
class Owed:
    """Snapshot line: an event that the bus has not confirmed."""

    kind: ClassVar[str] = "owed"
    event: Event


StepEntry = Asked | Prepared | Created | Started | Commanded | Ended | Removing | Removed
Entry = StepEntry | Confirmed | Kept | Buried | Owed

_KINDS: dict[str, type[Entry]] = {
    cls.kind: cls
    for cls in (
        Asked,
        Prepared,
        Created,
        Started,
        Commanded,
        Ended,
        Removing,
        Removed,
        Confirmed,
        Kept,
        Buried,
        Owed,
    )
}


def encode(entry: Entry) -> bytes:
    """Return `entry` as one line of JSON without its newline."""
    return json.dumps({"kind": entry.kind, **codec.encode(entry)}, separators=(",", ":")).encode()


def decode(line: bytes) -> Entry:
    """Return the entry that `line` spells.

    Raises:
        DataLoss: it spells none, though its checksum was right: it was written by something else.
    """
    try:
        data = json.loads(line)
        return codec.decode(_KINDS[data["kind"]], data)
    except (ValueError, KeyError, TypeError) as error:
        raise DataLoss(f"read the journal: an entry is not understood: {line[:100]!r}", cause=repr(error)) from error
