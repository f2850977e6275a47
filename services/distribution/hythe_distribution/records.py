"""The port of what namespaces know about blobs: who sees which, under which labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hythe.digest import Digest
from hythe.ports.namespace_content import LabelledBlob
from hythe_distribution.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Publication:
    """A whole blob that a namespace shall see; `labels` are laid over those it has there."""

    digest: Digest
    size_bytes: int
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class BlobChange:
    """The present state of a record that changed. `gone`: the namespace doesn't see the blob any more.

    Attributes:
        sequence: number of its last change among those of all records; grows.
    """

    sequence: int
    namespace: str
    digest: Digest
    size_bytes: int = 0
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    gone: bool = False


class Records(Protocol):
    """Records of blobs by namespace; they say nothing of whether the bytes are there. Every call may block.

    Bodies: SQLite beside a directory, objects beside the blobs in S3, memory. All may raise Unavailable (the store is
    away), ResourceExhausted or FailedPrecondition (it cannot be written). What becomes visible and what ceases to be leaves
    an event behind in the process's ledger, together with the change.
    """

    @property
    def ledger(self) -> Ledger:
        """What is kept beside these records."""

    def publish(self, namespace: str, blobs: Sequence[Publication]) -> None:
        """Make blobs visible; durable when this returns. A body that can't do all at once does them in order.

        Raises:
            InvalidArgument: a label breaks its rule; nothing was done then.
        """

    def get(self, namespace: str, digest: Digest) -> LabelledBlob:
        """Return a record.

        Raises:
            NotFound: the namespace doesn't see the blob (details ``kind=blob``).
        """

    def walk(self, namespace: str, after: str = "") -> Iterator[LabelledBlob]:
        """Yield the records of a namespace ordered by digest, those whose digest's text comes after `after`."""

    def label(self, namespace: str, digest: Digest, changes: Mapping[str, str]) -> LabelledBlob:
        """Set labels, take away those with an empty value, and return the record.

        Raises:
            NotFound: the namespace doesn't see the blob.
            InvalidArgument: a label breaks its rule.
        """

    def withdraw(self, namespace: str, digest: Digest) -> None:
        """Forget a record.

        Raises:
            NotFound: there is none.
        """

    def withdraw_all(self, namespace: str, digests: Sequence[Digest]) -> tuple[Digest, ...]:
        """Forget those of the records that there are, and return their digests; durable when this returns."""

    def changes(self, after: int, limit: int) -> Sequence[BlobChange]:
        """Return records of all namespaces that changed beyond sequence `after`, by sequence, at most `limit`; 0: all.

        What was changed, or came, while somebody reads page after page comes in a later one; so does what went.

        Raises:
            OutOfRange: it isn't known any more what went since `after`, or it is from another life of this process: ask
                for all.
        """

    def unseen(self, digests: Sequence[Digest]) -> list[Digest]:
        """Return those of `digests` that no namespace sees. One that none sees only since a moment may be left out."""

    def namespaces_of(self, digest: Digest) -> frozenset[str]:
        """Return the namespaces that see a blob."""

    def close(self) -> None:
        """Give all files and connections back."""
