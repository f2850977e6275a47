"""What containerd's labels ``containerd.io/gc.*`` refer to."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hythe_metadata.records import Edge

SNAPSHOT = "snapshot/"
"""Kinds of snapshots begin with it, by snapshotter."""
ANY_SNAPSHOTTER = f"{SNAPSHOT}*"
"""Kind of a snapshot that is with whichever snapshotter a host has."""
_LABEL = re.compile(
    r"containerd\.io/gc\.(?P<back>b?)ref\."
    r"(?:(?P<kind>content|image|container)(?:[./].*)?|snapshot\.(?P<snapshotter>[^/]+)(?:/.*)?)",
    re.DOTALL,
)


def edges_of_labels(labels: Mapping[str, str]) -> tuple[Edge, ...]:
    """Return what labels refer to, each with the label that says it; those that say nothing of it are passed over."""
    return tuple(edge for key, value in labels.items() if value and (edge := _edge(key, value)) is not None)


def _edge(key: str, value: str) -> Edge | None:
    found = _LABEL.fullmatch(key)
    if found is None or (found["kind"] == "container" and not found["back"]):
        return None
    kind = found["kind"] or SNAPSHOT + found["snapshotter"]
    return Edge(f"back:{kind}" if found["back"] else kind, value, key)
