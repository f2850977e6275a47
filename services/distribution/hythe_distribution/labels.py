"""Labels of blobs: which are allowed, and what a record becomes when they change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hythe.digest import Digest
from hythe.errors import NotFound
from hythe.labels import as_labels, check_labels, merged
from hythe.ports.namespace_content import LabelledBlob
from hythe_distribution.records import Publication

__all__ = ["as_labels", "check_labels", "check_publications", "no_record", "published", "relabelled"]


def check_publications(blobs: Sequence[Publication]) -> None:
    """As `check_labels`, for those of all `blobs`."""
    for blob in blobs:
        check_labels(blob.labels)


def published(before: LabelledBlob | None, blob: Publication, now_ns: int) -> LabelledBlob:
    """Return the record of `blob` after its publication; `before` itself where that changes nothing."""
    if before is None:
        return LabelledBlob(blob.digest, blob.size_bytes, now_ns, now_ns, merged({}, blob.labels))
    return relabelled(before, blob.labels, now_ns)


def relabelled(before: LabelledBlob, changes: Mapping[str, str], now_ns: int) -> LabelledBlob:
    """Return a record after a change of its labels; `before` itself where nothing changes."""
    labels = merged(before.labels, changes)
    return before if labels == before.labels else replace(before, labels=labels, updated_ns=now_ns)


def no_record(namespace: str, digest: Digest) -> NotFound:
    """Return the error of who asks for a blob that the namespace doesn't see."""
    return NotFound(f"look up {digest}: namespace {namespace} has no such blob", details={"kind": "blob"})
