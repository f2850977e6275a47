"""The metadata store as its service sees it: records of intent, and the promises that every body of the store keeps.

Bodies: SQLite (`hythe_metadata.adapters.sqlite_store`); a Redis body belongs beside it. One contract suite
(``tests/contract/test_metadata_store.py``) runs on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from hythe.ports.events import OutgoingEvent

Desired = Literal["running", "stopped", "removed"]
Phase = Literal["creating", "created", "removing"]
FinishOutcome = Literal["created", "removing", "absent"]

ALL_NAMESPACES = ""

RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asks for a change: taken from the request's subject and headers, never from its body.

    Attributes:
        namespace: namespace that the change belongs to.
        caller: name of the key that asked, fixed by its permissions.
        request_id: the same for every repetition of one request; empty when repetitions need not be known.
        trace_id: 32 hex digits, or empty.
    """

    namespace: str
    caller: str = ""
    request_id: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class ContainerWish:
    """A container to be begun. `spec` is JSON text that the store keeps and never reads; `lease_s` counts from now."""

    id: str
    name: str
    reference: str
    digest: str | None
    host: str
    spec: str
    lease_s: float = 60.0


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """Intent about one container.

    Attributes:
        digest: digest of the image's root manifest or index; empty only for a container of a bundle directory.
        spec: JSON text as it was given.
        era: era of the store when the desired state was last set; with `epoch_revision` the epoch of commands.
        epoch_revision: revision of the store at the last change of the desired state.
        revision: revision of the store at the last change of this record.
        created_at: RFC 3339 UTC.
        lease_expired: the record is still ``creating`` and its lease has run out: somebody must settle it.
    """

    id: str
    namespace: str
    name: str
    reference: str
    digest: str
    host: str
    spec: str
    desired: Desired
    phase: Phase
    era: int
    epoch_revision: int
    revision: int
    created_at: str
    lease_expired: bool = False


@dataclass(frozen=True, slots=True)
class ImageWish:
    """A name to be pointed at a root manifest or index; `if_revision` 0 means: only if there is no such name."""

    reference: str
    digest: str
    media_type: str
    size_bytes: int
    if_revision: int | None = None


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image name and what it points to. Times are RFC 3339 UTC."""

    namespace: str
    reference: str
    digest: str
    media_type: str
    size_bytes: int
    revision: int
    created_at: str
    updated_at: str


@dataclass(frozen=True, slots=True)
class Page(Generic[RecordT]):
    """Part of a list; `next` is the `after` of the following part, empty at the end."""

    records: tuple[RecordT, ...]
    next: str = ""


class Store(Protocol):
    """The only writer of intent (ARCHITECTURE §7).

    Each change is one transaction: its effect, its result for repetitions and its event are kept together or not at
    all, and are durable when the call returns. Changes raise one revision that never goes back. A change that raises
    has changed nothing, but for errors whose outcome is ``unknown``.

    Every method may raise Unavailable (the store is closed or held by another program), ResourceExhausted (its disk is
    full), FailedPrecondition (it cannot be written) or DataLoss (what was read back is not what was written).
    """

    @property
    def store_id(self) -> str:
        """Id of this store, 32 hex digits, made when it was created."""

    @property
    def era(self) -> int:
        """Raised whenever the store was restored from a copy; the higher part of every epoch."""

    async def begin(self, origin: Origin, wish: ContainerWish) -> ContainerRecord:
        """Reserve the name, record spec and placement, take a lease; at most once per container id.

        The same wish again answers the record as it is now, whatever became of it. Without a digest the image is looked up.

        Raises:
            InvalidArgument: an id, name or namespace breaks its rule.
            AlreadyExists: another container of the namespace has the name.
            Conflict: the id came before with another wish.
            NotFound: no such image (details ``kind=image``).
            FailedPrecondition: a container of this id existed and is gone.
        """

    async def finish(self, origin: Origin, container_id: str, outcome: FinishOutcome) -> ContainerRecord | None:
        """Settle a record; repeating it changes nothing, and a record never goes back in its life.

        Returns:
            The record as it is now; None when there is none.
        """

    async def desire(self, origin: Origin, container_id: str, desired: Desired) -> ContainerRecord:
        """Set the desired state and raise the epoch, once per request id.

        Raises:
            NotFound: no such container (details ``kind=container``).
            FailedPrecondition: it is being removed, and only ``removed`` can be desired of it.
            Conflict: the request id came before with another wish.
        """

    async def container(self, namespace: str, key: str) -> ContainerRecord:
        """Return one container by full id, by name, or by unique prefix of the id.

        One that is being removed is found by its full id only.

        Raises:
            NotFound: nothing matches (details ``kind=container``).
            InvalidArgument: several ids begin with `key`; the candidates are named.
        """

    async def containers(self, namespace: str, after: str, limit: int) -> Page[ContainerRecord]:
        """List containers by id that are not being removed; `ALL_NAMESPACES` lists all.

        A page holds at most `limit` records and, beyond the first, no more than 512 KiB of specs.
        """

    async def put_image(self, origin: Origin, wish: ImageWish) -> ImageRecord:
        """Point a name at a digest, once per request id; with `if_revision` only if nobody changed it since.

        Pointing it where it points already changes nothing.

        Raises:
            InvalidArgument: reference or digest is malformed.
            Conflict: `if_revision` is not the present revision (details ``revision`` and ``digest``), or the request id
                came before with another wish.
        """

    async def image(self, namespace: str, reference: str) -> ImageRecord:
        """Return one image.

        Raises:
            NotFound: no such name (details ``kind=image``).
        """

    async def images(self, namespace: str, after: str, limit: int) -> Page[ImageRecord]:
        """List the images of one namespace by reference, at most `limit`; `ALL_NAMESPACES` lists all.

        The list of all is ordered by namespace, then by reference; its `after` and `next` are both, joined by a space.

        Raises:
            InvalidArgument: `after` is no such pair where all namespaces are listed.
        """

    async def remove_image(self, origin: Origin, reference: str, if_revision: int | None = None) -> None:
        """Forget a name, once per request id; with `if_revision` only if nobody changed it since.

        Raises:
            NotFound: no such name (details ``kind=image``).
            Conflict: `if_revision` is not the present revision (details ``revision`` and ``digest``), or the request id
                came before with another wish.
        """

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each change that was asked for; in the event loop, quick."""

    async def outgoing(self, after: int, limit: int) -> Sequence[OutgoingEvent]:
        """Return the oldest events beyond sequence `after` that are not marked as sent, in order."""

    def sent(self, sequences: Sequence[int]) -> None:
        """Mark events as being in the event stream; not durable at once, so a crash may show them again."""

    async def close(self) -> None:
        """Carry out what was accepted, refuse the rest, give all files back."""
