"""A blob on its way into one namespace: with bytes of its own, or of bytes that another namespace has brought."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

from hythe.digest import Digest
from hythe.errors import DataLoss, FailedPrecondition
from hythe.ports.content import BlobInfo, Ingest
from hythe.ports.namespace_content import LabelledBlob
from hythe_distribution.labels import check_labels
from hythe_distribution.records import Publication
from hythe_distribution.retention import Retention


class FreshIngest:
    """A body of `hythe.ports.namespace_content.NamespaceIngest`: its bytes come in here."""

    def __init__(self, retention: Retention, namespace: str, raw: Ingest, on_release: Callable[[], None]) -> None:
        """Hold `raw` until it is let go of; then `on_release` is called, once or more often."""
        self._retention = retention
        self._namespace = namespace
        self._raw = raw
        self._on_release = on_release

    @property
    def offset(self) -> int:
        """See `hythe.ports.namespace_content.NamespaceIngest.offset`."""
        return self._raw.offset

    def write(self, data: bytes | memoryview) -> None:
        """See `hythe.ports.namespace_content.NamespaceIngest.write`."""
        self._raw.write(data)

    def commit(
        self, expected: Digest | None = None, size_bytes: int | None = None, labels: Mapping[str, str] | None = None
    ) -> LabelledBlob:
        """See `hythe.ports.namespace_content.NamespaceIngest.commit`."""
        labels = dict(labels or {})
        try:
            try:
                check_labels(labels)
            except BaseException:
                self._raw.abort()
                raise
            with self._retention.hold([expected]):
                info = self._commit_bytes(expected, size_bytes)
                return self._retention.publish_new(self._namespace, Publication(info.digest, info.size_bytes, labels))
        finally:
            self.close()

    def _commit_bytes(self, expected: Digest | None, size_bytes: int | None) -> BlobInfo:
        try:
            return self._raw.commit(expected, size_bytes)
        except DataLoss as error:
            if error.details.get("kind") == "disk":
                raise
            raise FailedPrecondition(error.message, cause=error.cause, next_step=error.next_step) from error

    def abort(self) -> None:
        """See `hythe.ports.namespace_content.NamespaceIngest.abort`."""
        self._raw.abort()
        self._on_release()

    def close(self) -> None:
        """See `hythe.ports.namespace_content.NamespaceIngest.close`."""
        self._raw.close()
        self._on_release()

    def __enter__(self) -> FreshIngest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SharedIngest:
    """A body of `hythe.ports.namespace_content.NamespaceIngest`: the bytes are there; a commit makes them visible here.

    Where it is let go of without a commit nothing is left of it: who opens it again finds the bytes again.
    """

    def __init__(
        self, retention: Retention, namespace: str, reference: str, blob: BlobInfo, on_release: Callable[[], None]
    ) -> None:
        """Stand for `blob`, whose bytes are held until `on_release` is called, once or more often."""
        self._retention = retention
        self._namespace = namespace
        self._reference = reference
        self._blob = blob
        self._on_release = on_release

    @property
    def offset(self) -> int:
        """See `hythe.ports.namespace_content.NamespaceIngest.offset`; all bytes are here from the beginning."""
        return self._blob.size_bytes

    def write(self, data: bytes | memoryview) -> None:
        """See `hythe.ports.namespace_content.NamespaceIngest.write`; each byte is one too many."""
        if len(data):
            self.abort()
            raise DataLoss(f"write {self._reference}: expected {self._blob.size_bytes} bytes, got more")

    def commit(
        self, expected: Digest | None = None, size_bytes: int | None = None, labels: Mapping[str, str] | None = None
    ) -> LabelledBlob:
        """See `hythe.ports.namespace_content.NamespaceIngest.commit`."""
        blob = self._blob
        labels = dict(labels or {})
        try:
            check_labels(labels)
            if size_bytes not in (None, blob.size_bytes):
                raise FailedPrecondition(
                    f"commit {self._reference}: expected {size_bytes} bytes, got {blob.size_bytes}"
                )
            if expected not in (None, blob.digest):
                raise FailedPrecondition(f"commit {self._reference}: expected {expected}, got {blob.digest}")
            return self._retention.publish_new(self._namespace, Publication(blob.digest, blob.size_bytes, labels))
        finally:
            self._on_release()

    def abort(self) -> None:
        """See `hythe.ports.namespace_content.NamespaceIngest.abort`."""
        self._on_release()

    def close(self) -> None:
        """See `hythe.ports.namespace_content.NamespaceIngest.close`."""
        self._on_release()

    def __enter__(self) -> SharedIngest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
