"""Labels of snapshots that are Hythe's own: what it keeps there, and users neither see nor change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hythe_bundle.unpacker import ELF_32_LABEL

BUNDLE_PREFIX = "bundle/"
"""Labels that begin so hold the files of a container's bundle."""


def is_own(key: str) -> bool:
    """Tell whether a label is Hythe's own."""
    return key == ELF_32_LABEL or key.startswith(BUNDLE_PREFIX)


def are_a_bundle(keys: Iterable[str]) -> bool:
    """Tell whether a snapshot with these labels belongs to a container."""
    return any(key.startswith(BUNDLE_PREFIX) for key in keys)


def of_users(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that users see."""
    return {key: value for key, value in labels.items() if not is_own(key)}
