"""Labels of blobs and of records: which are allowed, and what becomes of them when some are changed."""

from __future__ import annotations

from collections.abc import Mapping

from hythe.errors import InvalidArgument

GC = "containerd.io/gc."
"""All labels that garbage collection reads begin with it."""
GC_ROOT = f"{GC}root"
"""What has it stays though nothing refers to it."""
GC_EXPIRE = f"{GC}expire"
"""When a lease ends, by RFC 3339."""
GC_FLAT = f"{GC}flat"
"""A lease that has it keeps what it names and nothing that this refers to."""
UNCOMPRESSED = "containerd.io/uncompressed"
"""The digest of a layer's bytes before they were compressed."""
MAX_LABEL_BYTES = 4096
"""Most bytes of a label's key and value together, as in containerd."""


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


def merged(labels: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """Lay `changes` over `labels`; a label whose new value is empty is gone, as in containerd."""
    return {key: value for key, value in {**labels, **changes}.items() if value}


def as_labels(value: object) -> dict[str, str]:
    """Return `value`, as JSON gives it, if it is labels.

    Raises:
        ValueError: it isn't an object of strings.
    """
    if not isinstance(value, dict) or not all(type(text) is str for text in (*value, *value.values())):
        raise ValueError("labels are no object of strings")
    return value
