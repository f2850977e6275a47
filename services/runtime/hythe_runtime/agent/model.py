"""What an agent knows of a container: what was asked for, what is there for it on the host, and how it went."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hythe.ports.snapshots import Mount
from hythe.process import ProcessIdentity

State = Literal["creating", "created", "running", "exited", "removing", "removed"]

ENDED: frozenset[State] = frozenset(("exited", "removing", "removed"))
STARTED: frozenset[State] = frozenset(("running", "exited", "removing", "removed"))


@dataclass(frozen=True, slots=True, order=True)
class Epoch:
    """Order of commands to one container: era of the store, then revision of the desired state (ARCHITECTURE §6)."""

    era: int
    revision: int


@dataclass(frozen=True, slots=True)
class Order:
    """A command to a container that is here, and who gave it.

    Attributes:
        caller: key that asked for it, as the bus fixed it where the request came in.
        signal: number of the signal that ``kill`` sends.
    """

    verb: Literal["stop", "kill", "remove"]
    caller: str = ""
    request_id: str = ""
    signal: int = 0


@dataclass(frozen=True, slots=True)
class Intent:
    """What was asked for.

    Attributes:
        caller: key that asked for it, as the bus fixed it where the request came in.
        digest: digest of the image's root manifest or index; empty when bundle shall look it up by reference.
        spec: the request's container spec as it came, in its wire form; only the bundle service reads all of it.
        created_at: RFC 3339, UTC, by this host's clock.
    """

    id: str
    namespace: str
    name: str
    reference: str
    digest: str
    spec: Mapping[str, Any]
    plain_http: bool
    epoch: Epoch
    request_id: str
    trace_id: str
    created_at: str
    caller: str = ""

    def body_hash(self) -> str:
        """Return a hash of all that makes two requests with one id the same request."""
        body = [self.namespace, self.name, self.reference, self.digest, dict(self.spec), self.plain_http]
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    @property
    def auto_remove(self) -> bool:
        """Whether the container and all it has go when it ends."""
        return bool(self.spec.get("auto_remove"))

    @property
    def stdin(self) -> bool:
        """Whether the container's standard input is kept open for a client."""
        return bool(self.spec.get("stdin"))

    @property
    def stop_timeout_s(self) -> float:
        """Seconds between the stop signal and SIGKILL."""
        return float(self.spec.get("stop_timeout_s", 10.0))

    @property
    def labels(self) -> dict[str, str]:
        """The labels that the request gave."""
        return dict(self.spec.get("labels") or {})


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk, as the bundle service made it; `mounts` make its `rootfs`."""

    path: str
    rootfs: str
    mounts: tuple[Mount, ...]
    args: tuple[str, ...]
    stop_signal: str


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container's first process ended; `code` is None when nobody could learn it, `reason` then says why."""

    code: int | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a container, as the outbox holds it until the bus has stored it.

    Attributes:
        number: counts the events of one container from 1, without gaps, across its runs.
        past: last token of its subject, a past participle.
        attributes: containerd's payload fields as text.
        caller: key that asked for it; empty where nobody did, as for an end that came by itself.
    """

    container_id: str
    namespace: str
    number: int
    run: int
    topic: str
    past: str
    time: str
    request_id: str
    trace_id: str
    attributes: Mapping[str, str]
    caller: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One container as the journal has it.

    Attributes:
        epoch: the highest epoch that a command to it bore.
        run: number of the present run, from 1; part of every path and event.
        conmon: the monitor of the present run, None before it was made.
        pid: the container's first process; 0 before it was made.
        number: number of its latest event.
        order: the latest command to it, None if there was none since it was asked for.
    """

    intent: Intent
    state: State
    epoch: Epoch
    run: int = 1
    bundle: Bundle | None = None
    conmon: ProcessIdentity | None = None
    pid: int = 0
    exit: Exit | None = None
    created_at: str = ""
    started_at: str = ""
    finished_at: str = ""
    reason: str = ""
    number: int = 0
    order: Order | None = None

    @property
    def id(self) -> str:
        """The container's id."""
        return self.intent.id


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is kept of a removed container, so that a late command to it is refused.

    Attributes:
        at_s: wall-clock time of its removal, seconds since 1970.
    """

    id: str
    namespace: str
    epoch: Epoch
    at_s: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """A container as the outside sees it; `change` numbers the changes of all containers since this process started."""

    record: Record
    change: int
