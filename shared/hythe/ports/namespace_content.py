"""Content as one namespace sees it: containerd's content store, with labels, filters and its classes of errors.

A blob is visible in a namespace once it was committed or published there; its bytes are kept once for all. Bodies: a
directory, S3 and memory, each beside records of its own (`hythe_distribution.namespace_store`), and the bus proxy
(`hythe.client.content`). The contract suite is ``tests/contract/test_namespace_content.py``. Every call may block: call
it in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from hythe.digest import Digest
from hythe.ports.content import IngestStatus


@dataclass(frozen=True, slots=True)
class LabelledBlob:
    """A whole, verified blob as one namespace knows it. Times are nanoseconds since 1970."""

    digest: Digest
    size_bytes: int
    created_ns: int
    updated_ns: int
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


class NamespaceIngest(Protocol):
    """One blob on its way into a namespace, held by one writer. Leaving its ``with`` block closes it and keeps its bytes."""

    @property
    def offset(self) -> int:
        """How many bytes it holds: where the next `write` goes."""

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`.

        Raises:
            DataLoss: that is more than the promised total. The ingest is removed.
            ResourceExhausted, FailedPrecondition: no room, or the store is read-only.
            Unavailable: the store is away.
        """

    def commit(
        self, expected: Digest | None = None, size_bytes: int | None = None, labels: Mapping[str, str] | None = None
    ) -> LabelledBlob:
        """Make it a blob, durable and visible in this namespace under `labels`; the ingest is gone in any case.

        Raises:
            FailedPrecondition: its bytes have another size or digest.
            AlreadyExists: the blob is visible in this namespace already (details ``digest``); nothing is lost by it.
            InvalidArgument: a label breaks its rule.
            Unavailable, ResourceExhausted: as for `write`; no blob is there then.
        """

    def abort(self) -> None:
        """Remove it with all its bytes; nothing happens when it is gone already."""

    def close(self) -> None:
        """Let go of it and keep its bytes, if any, for whoever opens it again."""

    def __enter__(self) -> NamespaceIngest:
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""


class NamespaceContent(Protocol):
    """The content store of one namespace. Every method may raise Unavailable: the store is away."""

    def info(self, digest: Digest) -> LabelledBlob:
        """Return what is known about a blob.

        Raises:
            NotFound: this namespace doesn't see it (details ``kind=blob``).
        """

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield a range of a blob in chunks of at most 1 MiB; see `hythe.ports.content.Content.read`.

        Raises:
            NotFound, OutOfRange: as there; raised by the call itself.
        """

    def walk(self, filters: Sequence[str] = ()) -> Iterator[LabelledBlob]:
        """Yield the blobs that match one of `filters`, all where there are none, ordered by digest.

        A filter is containerd's: ``field==value``, ``!=``, ``~=`` (regular expression), a field alone (it is set), joined
        by commas (and). Fields: ``digest``, ``size``, ``labels.<key>`` or ``labels."<key>"``.

        Raises:
            InvalidArgument: a filter cannot be read; raised by the call itself.
        """

    def label(self, digest: Digest, changes: Mapping[str, str]) -> LabelledBlob:
        """Set labels; an empty value takes one away. What is not named stays.

        Raises:
            NotFound: this namespace doesn't see it.
            InvalidArgument: a key or value breaks its rule (4096 bytes together).
        """

    def delete(self, digest: Digest) -> None:
        """Take a blob out of this namespace; its bytes go when no namespace sees it any more.

        Raises:
            NotFound: this namespace doesn't see it.
        """

    def open_ingest(
        self,
        reference: str,
        *,
        total_bytes: int | None = None,
        expected: Digest | None = None,
        resume: bool = False,
    ) -> NamespaceIngest:
        """Begin an ingest, or with `resume` take up the one left under `reference`; references are the namespace's own.

        Where another namespace has the blob `expected`, the ingest begins at its end: committing it is enough.

        Raises:
            AlreadyExists: this namespace sees `expected` already (details ``digest``).
            Unavailable: another writer holds it.
            DataLoss: what was left is longer than `total_bytes`; it is removed.
            InvalidArgument: the reference is empty or longer than 1024 characters.
            ResourceExhausted, FailedPrecondition: no room, or the store is read-only.
        """

    def status(self, reference: str) -> IngestStatus:
        """Return how far an ingest of this namespace is.

        Raises:
            NotFound: there is none of that name (details ``kind=ingest``).
        """

    def ingests(self) -> Iterator[IngestStatus]:
        """Yield all ingests of this namespace, held or left, ordered by reference."""

    def abort(self, reference: str) -> None:
        """Remove an ingest that nobody holds.

        Raises:
            NotFound: there is none of that name.
            Unavailable: a writer holds it.
        """
