"""The content port: blobs by digest, and ingests, which become blobs only by being whole and verified.

Blobs are shared by all namespaces here; who may see which, under which labels, is `hythe.ports.namespace_content`.
Bodies live in the distribution service; the contract suite is ``tests/contract/test_content.py``. Every call may block
on a disk or a network: call it in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from hythe.digest import Digest

MAX_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A whole, verified blob.

    Attributes:
        committed_ns: wall-clock time of its commit, nanoseconds since 1970.
    """

    digest: Digest
    size_bytes: int
    committed_ns: int


@dataclass(frozen=True, slots=True)
class IngestStatus:
    """An ingest that is in progress or was left for somebody to take up again. Times are nanoseconds since 1970.

    Attributes:
        reference: the name it was opened by, free text.
        offset: bytes that it holds.
        total_bytes: what it was promised to become; None if not said.
    """

    reference: str
    offset: int
    total_bytes: int | None
    started_ns: int
    updated_ns: int


class Ingest(Protocol):
    """One blob on its way in, held by one writer. Leaving its ``with`` block closes it."""

    @property
    def offset(self) -> int:
        """How many bytes it holds: where the next `write` goes."""

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`; it is hashed on its way, and never read again.

        Raises:
            DataLoss: that is more than the promised total. The ingest is removed.
            ResourceExhausted: no room. The ingest is removed, so that it gives its room back.
            FailedPrecondition: the store is read-only.
        """

    def read_back(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset` on of what was written so far; for readers that don't wait for the commit.

        What it returns is not verified yet. Callable from any thread; nothing comes once the ingest was committed, aborted
        or closed.
        """

    def commit(self, expected: Digest | None = None, size_bytes: int | None = None) -> BlobInfo:
        """Make it a blob, readable and durable, if its bytes are what was promised; the ingest is gone in any case.

        Args:
            expected: digest that was promised; None when nobody promised one: the bytes' own is taken.
            size_bytes: size that was promised; None when nobody did.

        When this returns, bytes and name survive power loss. A blob of that digest that is there already is a success.

        Raises:
            DataLoss: another size or digest.
            ResourceExhausted, FailedPrecondition: as for `write`.
        """

    def abort(self) -> None:
        """Remove it with all its bytes; nothing happens when it is gone already."""

    def close(self) -> None:
        """Let go of it. Unless it was committed or aborted, its bytes, if any, are kept for a later `Content.open_ingest`."""

    def __enter__(self) -> Ingest:
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""


class Content(Protocol):
    """A store of blobs. Nothing that is not whole and verified can ever be read from it."""

    def info(self, digest: Digest) -> BlobInfo:
        """Return what is known about a blob.

        Raises:
            NotFound: it isn't here (details ``kind=blob``).
        """

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield a range of a blob in chunks of at most 1 MiB.

        Args:
            offset: first byte, from the start of the blob; its size gives nothing.
            length: bytes wanted; None, or more than there are, gives all to the end.

        Raises:
            NotFound: it isn't here; raised by the call itself.
            OutOfRange: `offset` is negative or lies beyond the end, or `length` is negative; raised by the call itself.
        """

    def locate(self, digest: Digest) -> Path:
        """Return the path of a blob on this host, valid until it is deleted: open it at once.

        Raises:
            NotFound: it isn't here.
            Unimplemented: this body keeps no files on this host.
        """

    def presign(self, digest: Digest, lifetime_s: float) -> str | None:
        """Return a URL from which anybody can read the blob, with Range, for `lifetime_s` seconds.

        None where the store itself serves nobody: then its process does, with tickets of its own.

        Raises:
            NotFound: it isn't here.
        """

    def walk(self) -> Iterator[BlobInfo]:
        """Yield all blobs in no particular order; one that comes or goes meanwhile may be missed."""

    def delete(self, digest: Digest) -> None:
        """Remove a blob. Who has it open goes on reading.

        Raises:
            NotFound: it isn't here.
        """

    def check_room(self, size_bytes: int) -> None:
        """Return if `size_bytes` more can be taken in without touching the reserve of the file system.

        Raises:
            ResourceExhausted: not enough room; the message has the figures.
        """

    def open_ingest(self, reference: str, *, total_bytes: int | None = None, resume: bool = False) -> Ingest:
        """Begin an ingest, or take up the one left under `reference`.

        With `resume` the bytes left there are kept and hashed again; without, they are dropped. One writer at a time.

        Args:
            reference: any text that names what comes in, e.g. ``layer-sha256:…``.
            total_bytes: size that it is promised to have; checked against the room there is.

        Raises:
            Unavailable: another writer holds it.
            DataLoss: what was left is longer than `total_bytes`; it is removed.
            ResourceExhausted, FailedPrecondition: as for `Ingest.write`.
        """

    def status(self, reference: str) -> IngestStatus:
        """Return how far an ingest is.

        Raises:
            NotFound: there is none of that name (details ``kind=ingest``).
        """

    def ingests(self) -> Iterator[IngestStatus]:
        """Yield all ingests, held or left, in no particular order."""

    def abort(self, reference: str) -> None:
        """Remove an ingest that nobody holds.

        Raises:
            NotFound: there is none of that name.
            Unavailable: a writer holds it.
        """
