"""The content store of each namespace, made of bytes that all share and of records of who sees which."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace

from hythe.clock import now_ns
from hythe.digest import Digest
from hythe.errors import InvalidArgument, NotFound, Unavailable
from hythe.filters import fields_of, parse_filters
from hythe.identifiers import check_namespace
from hythe.ports.content import BlobInfo, Content, IngestStatus
from hythe.ports.namespace_content import LabelledBlob, NamespaceIngest
from hythe_distribution.documents import read_document
from hythe_distribution.labels import check_labels
from hythe_distribution.namespace_ingest import FreshIngest, SharedIngest
from hythe_distribution.records import Publication, Records
from hythe_distribution.retention import Retention, already_exists
from hythe_distribution.snapshot_labels import with_snapshots
from hythe_distribution.watch import Watch
from hythe_distribution.watched import WatchedContent, WatchedRecords

MAX_REFERENCE_LENGTH = 1024


class Library:
    """All namespaces' content in one process, which alone owns `content` and `records`. Safe for several threads.

    Attributes:
        retention: decides when bytes go; it looks past `watch`, and so may be asked while something is being taken out.
    """

    def __init__(self, content: Content, records: Records, watch: Watch | None = None, snapshotter: str = "") -> None:
        """Note in `watch` what is looked for and published; `snapshotter` makes the snapshots of published images."""
        self._watch = watch or Watch()
        self._snapshotter = snapshotter
        self._content = WatchedContent(content, self._watch)
        self._records = WatchedRecords(records, self._watch)
        self.retention = Retention(content, records)
        self._writers = _Writers()

    def of(self, namespace: str) -> NamespaceStore:
        """Return the content store of `namespace`.

        Raises:
            InvalidArgument: that is no name of a namespace.
        """
        return NamespaceStore(check_namespace(namespace), self._content, self._records, self.retention, self._writers)

    def hold(self, digests: Iterable[Digest | None]) -> AbstractContextManager[None]:
        """Keep the bytes of `digests` while a block runs, for who will publish them; leaving it may block.

        None keeps all bytes, for who doesn't know yet which he will have.
        """
        held = tuple(digests)
        self._watch.touch(digest for digest in held if digest is not None)
        return self.retention.hold(held)

    def publish(self, namespace: str, blobs: Iterable[Publication]) -> None:
        """Make blobs whose bytes are there visible in a namespace; durable when this returns, and safe to repeat.

        The configs of images get the label that keeps the snapshots of their layers.

        Raises:
            NotFound: the bytes of one are not there, or not any more (details ``kind=blob``).
            InvalidArgument: that is no name of a namespace, or a label breaks its rule; nothing was published.
            HytheError: see `hythe_distribution.records.Records.publish`.
        """
        wanted = tuple(blobs)
        self._watch.touch(blob.digest for blob in wanted)
        labelled = with_snapshots(wanted, lambda digest: read_document(self._content, digest), self._snapshotter)
        self.retention.publish(check_namespace(namespace), labelled)

    def has_writer(self, namespace: str, reference: str) -> bool:
        """Tell whether somebody in this process holds an ingest of a namespace."""
        return self._writers.holds(f"ns/{namespace}/{reference}")


class NamespaceStore:
    """A body of `hythe.ports.namespace_content.NamespaceContent`."""

    def __init__(
        self, namespace: str, content: Content, records: Records, retention: Retention, writers: _Writers
    ) -> None:
        self._namespace = namespace
        self._content = content
        self._records = records
        self._retention = retention
        self._writers = writers
        self._prefix = f"ns/{namespace}/"  # a namespace has no slash, so no two share a reference

    def info(self, digest: Digest) -> LabelledBlob:
        """See `hythe.ports.namespace_content.NamespaceContent.info`."""
        return self._records.get(self._namespace, digest)

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See `hythe.ports.namespace_content.NamespaceContent.read`."""
        self.info(digest)
        return self._content.read(digest, offset, length)

    def walk(self, filters: Sequence[str] = (), after: str = "") -> Iterator[LabelledBlob]:
        """See `hythe.ports.namespace_content.NamespaceContent.walk`; begins behind the digest whose text is `after`."""
        wanted = parse_filters(filters)
        records = self._records.walk(self._namespace, after)
        return (blob for blob in records if wanted.matches(_fields(blob)))

    def label(self, digest: Digest, changes: Mapping[str, str]) -> LabelledBlob:
        """See `hythe.ports.namespace_content.NamespaceContent.label`."""
        check_labels(changes)
        return self._records.label(self._namespace, digest, changes)

    def delete(self, digest: Digest) -> None:
        """See `hythe.ports.namespace_content.NamespaceContent.delete`."""
        self._retention.withdraw(self._namespace, digest)

    def open_ingest(
        self,
        reference: str,
        *,
        total_bytes: int | None = None,
        expected: Digest | None = None,
        resume: bool = False,
    ) -> NamespaceIngest:
        """See `hythe.ports.namespace_content.NamespaceContent.open_ingest`."""
        raw_reference = self._raw(reference)
        if expected is not None and self._sees(expected):
            raise already_exists(self._namespace, expected)
        with ExitStack() as undo:
            release = self._writers.hold(raw_reference, f"open ingest {reference}")
            undo.callback(release)
            shared = None if expected is None else self._share(reference, expected, total_bytes, release)
            ingest: NamespaceIngest
            if shared is not None:
                ingest = shared
            else:
                raw = self._content.open_ingest(raw_reference, total_bytes=total_bytes, resume=resume)
                ingest = FreshIngest(self._retention, self._namespace, raw, release)
            undo.pop_all()
        return ingest

    def status(self, reference: str) -> IngestStatus:
        """See `hythe.ports.namespace_content.NamespaceContent.status`."""
        raw_reference = self._raw(reference)
        found = self._writers.shared(raw_reference)
        return replace(found or self._content.status(raw_reference), reference=reference)

    def ingests(self) -> Iterator[IngestStatus]:
        """See `hythe.ports.namespace_content.NamespaceContent.ingests`."""
        found = [
            replace(status, reference=status.reference.removeprefix(self._prefix))
            for status in (*self._content.ingests(), *self._writers.all_shared())
            if status.reference.startswith(self._prefix)
        ]
        return iter(sorted(found, key=lambda status: status.reference))

    def abort(self, reference: str) -> None:
        """See `hythe.ports.namespace_content.NamespaceContent.abort`."""
        release = self._writers.hold(self._raw(reference), f"abort ingest {reference}")
        try:
            self._content.abort(self._raw(reference))
        finally:
            release()

    def _sees(self, digest: Digest) -> bool:
        try:
            self._records.get(self._namespace, digest)
        except NotFound:
            return False
        return True

    def _share(
        self, reference: str, expected: Digest, total_bytes: int | None, release: Callable[[], None]
    ) -> SharedIngest | None:
        """Return an ingest of the bytes that are here already; None where they aren't, or have another size."""
        with ExitStack() as undo:
            undo.enter_context(self._retention.hold([expected]))
            try:
                blob = self._content.info(expected)
            except NotFound:
                return None
            if total_bytes not in (None, blob.size_bytes):
                return None
            raw_reference = self._raw(reference)
            try:
                self._content.abort(raw_reference)  # what was left of an earlier try is not needed any more
            except NotFound:
                pass
            self._writers.share(raw_reference, blob)
            held = undo.pop_all()

        def let_go() -> None:
            held.close()
            release()

        return SharedIngest(self._retention, self._namespace, reference, blob, let_go)

    def _raw(self, reference: str) -> str:
        """Return the name that the bytes of an ingest have in the store that all namespaces share."""
        if not 0 < len(reference) <= MAX_REFERENCE_LENGTH:
            raise InvalidArgument(f"check ingest {reference[:64]!r}: expected 1 to {MAX_REFERENCE_LENGTH} characters")
        try:
            reference.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"check ingest {reference[:64]!r}: it isn't text", cause=str(error)) from error
        return self._prefix + reference


class _Writers:
    """Which ingests have a writer in this process, and which of them stand for bytes that were there before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, IngestStatus | None] = {}

    def hold(self, reference: str, step: str) -> Callable[[], None]:
        """Become the writer of an ingest, and return how to let go of it (safe to repeat); `step` is for the error.

        Raises:
            Unavailable: it has one.
        """
        with self._lock:
            if reference in self._held:
                raise Unavailable(
                    f"{step}: another writer holds it",
                    next_step="wait until it is done, or 10 s after it was killed; `hythe content active` shows how far it is",
                )
            self._held[reference] = None
        pending = [reference]

        def release() -> None:
            with self._lock:
                if pending:
                    del self._held[pending.pop()]

        return release

    def holds(self, reference: str) -> bool:
        """Tell whether an ingest has a writer."""
        with self._lock:
            return reference in self._held

    def share(self, reference: str, blob: BlobInfo) -> None:
        """Note that an ingest that is held stands for `blob`."""
        now = now_ns()
        with self._lock:
            self._held[reference] = IngestStatus(reference, blob.size_bytes, blob.size_bytes, now, now)

    def shared(self, reference: str) -> IngestStatus | None:
        """Return the status of an ingest that stands for a blob; None if it is another or none."""
        with self._lock:
            return self._held.get(reference)

    def all_shared(self) -> list[IngestStatus]:
        """Return the status of all ingests that stand for a blob."""
        with self._lock:
            return [status for status in self._held.values() if status is not None]


def _fields(blob: LabelledBlob) -> Callable[[tuple[str, ...]], tuple[str, bool]]:
    return fields_of({"digest": str(blob.digest), "size": str(blob.size_bytes)}, blob.labels.get)
