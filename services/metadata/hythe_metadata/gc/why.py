"""Why something is kept: the shortest path to it from each root, or when it goes."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from hythe.errors import InvalidArgument, NotFound
from hythe.ports.metadata import ALL_NAMESPACES
from hythe_metadata import contents
from hythe_metadata.contents import ContentHint
from hythe_metadata.gc.graph import Graph, Node
from hythe_metadata.gc.reading import Reading
from hythe_metadata.records import Read, View

MOST_PATHS = 100
MOST_NAMED = 10
LEAST_DIGITS = 4
_DIGITS = re.compile(r"[0-9a-f]{1,64}")


@dataclass(frozen=True, slots=True)
class Step:
    """A node of a path, and the label or field by which the one before refers to it; of the first why it is a root."""

    node: Node
    via: str = ""


@dataclass(slots=True)
class Answer:
    """What is known of something; see `hythe.wire.garbage.GcAnswer`."""

    kind: str
    name: str
    exists: bool = True
    hosts: list[str] = field(default_factory=list)
    size_bytes: int = 0
    paths: list[list[Step]] = field(default_factory=list)
    goes: str = ""
    silent: list[str] = field(default_factory=list)


def find_content(namespace: str, name: str) -> Read[list[ContentHint]]:
    """Return what finds the blob of a digest, or of its beginning with or without ``sha256:``; of no namespace in all.

    Several hints are of one digest. None is there if `name` is neither, or no blob is known.

    Raises:
        InvalidArgument: several digests begin so; some are named.
    """
    digits = name.removeprefix("sha256:")
    if not _DIGITS.fullmatch(digits) or (digits == name and len(digits) < LEAST_DIGITS):
        return lambda view: []
    where = None if namespace == ALL_NAMESPACES else namespace

    def read(view: View) -> list[ContentHint]:
        found = [contents.read(stored) for stored in view.scan(contents.KIND, where, prefix=f"sha256:{digits}")]
        digests = sorted({hint.digest for hint in found})
        if len(digests) > 1:
            named = ", ".join(digests[:MOST_NAMED]) + (
                f" and {len(digests) - MOST_NAMED} more" if digests[MOST_NAMED:] else ""
            )
            raise InvalidArgument(f"find content {name!r}: it may mean {named}", next_step="give more digits")
        return found

    return read


def not_found(name: str) -> NotFound:
    """Return the error for something that is nowhere and that nothing refers to."""
    return NotFound(
        f"find {name[:200]!r}: no host has a blob or snapshot of that name, and nothing refers to one",
        next_step="`hythe content ls` and `hythe snapshot ls` list them",
        details={"kind": "content"},
    )


def paths_to(reading: Reading, roots: dict[int, str], targets: Sequence[int]) -> list[list[Step]]:
    """Return paths from roots to any of `targets`, shortest first, one for each root, at most `MOST_PATHS`.

    `roots` are those of the reading, and what owners keep by themselves. A flat lease keeps what it names and no more.
    """
    graph = reading.graph
    turned = graph.turned()
    found: list[list[Step]] = []
    for target in targets:
        lease = reading.flat.get(target)
        if lease is not None:
            vias = [via for number, via in graph.references(lease) if number == target]
            found.append([Step(graph.at(lease), "lease, flat"), Step(graph.at(target), vias[0])])
    came: dict[int, tuple[int, str] | None] = dict.fromkeys(targets)
    waiting = deque(targets)
    while waiting and len(found) < MOST_PATHS:
        number = waiting.popleft()
        if number in roots:
            found.append(_path(graph, came, number, roots[number]))
        for source, via in turned.references(number):
            if source not in came:
                came[source] = (number, via)
                waiting.append(source)
    return sorted(found, key=lambda path: (len(path), path[0].node))


def _path(graph: Graph, came: dict[int, tuple[int, str] | None], number: int, why: str) -> list[Step]:
    path = [Step(graph.at(number), why)]
    onward = came[number]
    while onward is not None:
        number, via = onward
        path.append(Step(graph.at(number), via))
        onward = came[number]
    return path
