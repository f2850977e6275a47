"""When the bytes of a blob may go: not while a namespace sees it, nor while somebody is about to publish it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hythe import failpoints, tracing
from hythe.digest import Digest
from hythe.errors import AlreadyExists, HytheError, NotFound
from hythe.ports.content import Content
from hythe.ports.namespace_content import LabelledBlob
from hythe_distribution.records import Publication, Records


@dataclass(frozen=True, slots=True)
class TakenOut:
    """What a namespace doesn't see any more.

    Attributes:
        gone: with the bytes that this gave back, 0 where another namespace sees the blob or its bytes can't be removed now.
        held: what stays, because somebody holds it.
    """

    gone: Mapping[Digest, int]
    held: tuple[Digest, ...]


class Retention:
    """Serialises what is published with what is deleted, for one process that owns content and records."""

    def __init__(self, content: Content, records: Records) -> None:
        self._content = content
        self._records = records
        self._lock = threading.Lock()
        self._held: Counter[Digest | None] = Counter()
        self._unwanted: set[Digest] = set()

    @contextmanager
    def hold(self, digests: Iterable[Digest | None]) -> Iterator[None]:
        """Keep the bytes of `digests` while the block runs, though no namespace may see them; None keeps all bytes.

        What was deleted meanwhile and is still unseen goes when the block is left, which may block.
        """
        held = list(digests)
        with self._lock:
            self._held.update(held)
        try:
            yield
        finally:
            with self._lock:
                self._held.subtract(held)
                self._held += Counter()  # forgets what nobody holds any more
                self._clear_away()

    def publish(self, namespace: str, blobs: Iterable[Publication]) -> None:
        """Make blobs visible; durable when this returns.

        Raises:
            NotFound: the bytes of one are not there (details ``kind=blob``); nothing was published then.
            HytheError: see `Records.publish`.
        """
        wanted = list(blobs)
        with tracing.span("publish", hythe__namespace=namespace, hythe__blobs=len(wanted)), self._lock:
            for blob in wanted:
                self._content.info(blob.digest)
            self._records.publish(namespace, wanted)

    def publish_new(self, namespace: str, blob: Publication) -> LabelledBlob:
        """Make a blob that is held visible where it isn't yet, and return its record.

        Raises:
            AlreadyExists: the namespace sees it (details ``digest``).
            HytheError: see `Records.publish`; the bytes go with the hold then, unless somebody sees them.
        """
        with tracing.span("publish", hythe__namespace=namespace, hythe__blobs=1), self._lock:
            try:
                self._records.get(namespace, blob.digest)
            except NotFound:
                pass
            else:
                raise already_exists(namespace, blob.digest)
            try:
                self._records.publish(namespace, [blob])
                return self._records.get(namespace, blob.digest)
            except BaseException:
                self._unwanted.add(blob.digest)
                raise

    def withdraw(self, namespace: str, digest: Digest) -> None:
        """Take a blob out of a namespace, and remove its bytes if they are not seen or held.

        Bytes that can't be removed now are tried again when the next blob is withdrawn or let go of.

        Raises:
            NotFound: the namespace doesn't see it.
        """
        with self._lock:
            self._records.withdraw(namespace, digest)
            self._unwanted.add(digest)
            self._clear_away()

    def take_out(self, namespace: str, digests: Sequence[Digest]) -> TakenOut:
        """As `withdraw`, of all that nobody holds; durable when this returns, all at once where the records can do that."""
        with self._lock:
            held = [digest for digest in digests if self._is_held(digest)]
            gone = self._records.withdraw_all(namespace, [digest for digest in digests if digest not in held])
            failpoints.reach("distribution.gc.withdrawn")
            self._unwanted.update(gone)
            freed = self._clear_away()
        return TakenOut({digest: freed.get(digest, 0) for digest in gone}, tuple(held))

    def would_free(self, namespace: str, digest: Digest) -> int:
        """Return how many bytes `take_out` would give back.

        Raises:
            NotFound: the namespace doesn't see the blob.
        """
        size_bytes = self._records.get(namespace, digest).size_bytes
        return size_bytes if self._records.namespaces_of(digest) == {namespace} else 0

    def remove_unseen(self, digest: Digest) -> int | None:
        """Remove the bytes of a blob that no namespace sees and nobody holds, and return how many; None where it stays."""
        with self._lock:
            if self._is_held(digest) or self._records.namespaces_of(digest):
                return None
            try:
                size_bytes = self._content.info(digest).size_bytes
                self._content.delete(digest)
            except NotFound:
                return None
            return size_bytes

    def is_held(self, digest: Digest) -> bool:
        """Tell whether somebody holds the bytes of a blob now."""
        with self._lock:
            return self._is_held(digest)

    def _is_held(self, digest: Digest) -> bool:
        return bool(self._held[None] or self._held[digest])

    def _clear_away(self) -> dict[Digest, int]:
        """Remove the bytes of what is unwanted and neither held nor seen, and return how many of each."""
        freed: dict[Digest, int] = {}
        if self._held[None]:
            return freed
        for digest in [digest for digest in self._unwanted if not self._held[digest]]:
            try:
                if not self._records.namespaces_of(digest):
                    with tracing.span("remove bytes", oci__digest=str(digest)):
                        size_bytes = self._content.info(digest).size_bytes
                        self._content.delete(digest)
                        freed[digest] = size_bytes
                        failpoints.reach("distribution.gc.removed")
            except NotFound:
                pass
            except HytheError:
                continue  # its span says why; the record is gone, so nobody can ask for the bytes
            self._unwanted.discard(digest)
        return freed


def already_exists(namespace: str, digest: Digest) -> AlreadyExists:
    """Return the error of who brings a blob to a namespace that sees it."""
    return AlreadyExists(f"take in {digest}: namespace {namespace} has it already", details={"digest": str(digest)})
