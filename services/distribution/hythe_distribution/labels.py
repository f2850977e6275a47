"""Labels of blobs: which are allowed, and what a record becomes when they change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hythe.digest import Digest
from hythe.errors import InvalidArgument, NotFound
from hythe.ports.namespace_content import MAX_LABEL_BYTES, LabelledBlob
from hythe_distribution.records import Publication


def check_labels(labels: Mapping[str, str]) -> None:
    """Return if all labels keep containerd's rule: key and value together have at most 4096 bytes.

    Raises:
        InvalidArgument: one is longer, has no key, or isn't text that UTF-8 can carry.
    """
    for key, value in labels.items():
        try:
            size_bytes = len(key.encode()) + len(value.encode())
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"check label {key[:64]!r}: it isn't text", cause=str(error)) from error
        if not key:
            raise InvalidArgument("check label: its key is empty")
        if size_bytes > MAX_LABEL_BYTES:
            raise InvalidArgument(
                f"check label {key[:64]!r}: key and value have {size_bytes} bytes, more than {MAX_LABEL_BYTES}"
            )


def check_publications(blobs: Sequence[Publication]) -> None:
    """As `check_labels`, for those of all `blobs`."""
    for blob in blobs:
        check_labels(blob.labels)


def published(before: LabelledBlob | None, blob: Publication, now_ns: int) -> LabelledBlob:
    """Return the record of `blob` after its publication; `before` itself where that changes nothing."""
    if before is None:
        return LabelledBlob(blob.digest, blob.size_bytes, now_ns, now_ns, _merged({}, blob.labels))
    return relabelled(before, blob.labels, now_ns)


def relabelled(before: LabelledBlob, changes: Mapping[str, str], now_ns: int) -> LabelledBlob:
    """Return a record after a change of its labels; `before` itself where nothing changes."""
    labels = _merged(before.labels, changes)
    return before if labels == before.labels else replace(before, labels=labels, updated_ns=now_ns)


def as_labels(value: object) -> dict[str, str]:
    """Return `value`, as JSON gives it, if it is labels.

    Raises:
        ValueError: it isn't an object of strings.
    """
    if not isinstance(value, dict) or not all(type(text) is str for text in (*value, *value.values())):
        raise ValueError("labels are no object of strings")
    return value


def no_record(namespace: str, digest: Digest) -> NotFound:
    """Return the error of who asks for a blob that the namespace doesn't see."""
    return NotFound(f"look up {digest}: namespace {namespace} has no such blob", details={"kind": "blob"})


def _merged(labels: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """Lay `changes` over `labels`; a label whose new value is empty is gone, as in containerd."""
    return {key: value for key, value in {**labels, **changes}.items() if value}
