"""The graph of one host's snapshots: what each keeps, by its parent and by labels, and what labels refer to elsewhere.

Spec: containerd, "Garbage Collection", garbage collection labels.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hythe.labels import GC_ROOT
from hythe.ports.snapshots import Kind

_REFERENCE = re.compile(
    r"containerd\.io/gc\.(?P<back>b?)ref\."
    r"(?:(?P<kind>content|image|container)|snapshot\.(?P<snapshotter>[A-Za-z0-9_-]+))(?:[./].*)?"
)


@dataclass(frozen=True, slots=True)
class Node:
    """A snapshot.

    Attributes:
        number: of its place.
        parent: name of the one that it lies on; empty for none.
        labels: those that begin with `hythe.labels.GC`.
        is_bundle: whether it is the root file system of a container that was not released yet.
    """

    number: int
    name: str
    kind: Kind
    parent: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    is_bundle: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """What a label of a snapshot refers to. `kind` as of `hythe.wire.leases.LeaseResource`; `back`: what it names keeps it."""

    snapshot: str
    kind: str
    name: str
    via: str
    back: bool = False


class Graph:
    """Snapshots and what keeps what."""

    def __init__(self, nodes: Iterable[Node], snapshotter: str) -> None:
        """Take all snapshots of one snapshotter: labels that refer to its snapshots are edges in here."""
        self.nodes = {node.name: node for node in nodes}
        self._own_kind = f"snapshot/{snapshotter}"
        self._by_name = {node.name: references_of(node) for node in self.nodes.values() if node.labels}
        self._keeps: dict[str, list[str]] = {}
        for reference in self._of(back=True):
            if reference.kind == self._own_kind:
                self._keeps.setdefault(reference.name, []).append(reference.snapshot)

    def _of(self, *, back: bool) -> Iterator[Reference]:
        return (found for several in self._by_name.values() for found in several if found.back == back)

    def kept(self, roots: Iterable[str]) -> set[str]:
        """Return the snapshots among `roots`, and all that they keep."""
        kept = {name for name in roots if name in self.nodes}
        waiting = list(kept)
        while waiting:
            for name in self._kept_by(waiting.pop()):
                if name in self.nodes and name not in kept:
                    kept.add(name)
                    waiting.append(name)
        return kept

    def _kept_by(self, name: str) -> Iterator[str]:
        if parent := self.nodes[name].parent:
            yield parent
        yield from (
            found.name for found in self._by_name.get(name, ()) if not found.back and found.kind == self._own_kind
        )
        yield from self._keeps.get(name, ())

    def elsewhere(self, kept: Collection[str]) -> list[Reference]:
        """Return what `kept` snapshots refer to outside of here, and what else could keep any of the others."""
        return [
            found
            for several in self._by_name.values()
            for found in several
            if found.kind != self._own_kind and (found.back or found.snapshot in kept)
        ]

    def references(self) -> list[Reference]:
        """Return what the labels of all snapshots refer to, here as well."""
        return [*self._of(back=False), *self._of(back=True)]

    def to_remove(self, kept: Collection[str]) -> list[tuple[int, str]]:
        """Return all others with how many lie below each, in the order of removal: what lies on top comes first."""
        depths: dict[str, int] = {}
        return sorted(
            ((self._depth(name, depths), name) for name in self.nodes if name not in kept),
            key=lambda found: (-found[0], found[1]),
        )

    def _depth(self, name: str, known: dict[str, int]) -> int:
        chain = []
        while name in self.nodes and name not in known:
            chain.append(name)
            name = self.nodes[name].parent
        depth = known.get(name, -1)
        for below in reversed(chain):
            depth += 1
            known[below] = depth
        return depth

    def above(self, name: str, most: int) -> list[Node]:
        """Return a snapshot and those that lie on it, nearest first; at most `most`, none if it isn't there."""
        children: dict[str, list[str]] = {}
        for node in self.nodes.values():
            children.setdefault(node.parent, []).append(node.name)
        found: list[Node] = []
        waiting = deque([name] if name in self.nodes else [])
        while waiting and len(found) < most:
            node = self.nodes[waiting.popleft()]
            found.append(node)
            waiting += sorted(children.get(node.name, ()))
        return found

    def own_roots(self, in_use: Collection[int]) -> dict[str, str]:
        """Return the snapshots that this host keeps by itself, and why: labelled so, a container's, or with a place `in_use`."""
        roots: dict[str, str] = {}
        for node in self.nodes.values():
            if node.labels.get(GC_ROOT):
                roots[node.name] = f"label {GC_ROOT}"
            elif node.is_bundle:
                roots[node.name] = f"bundle {node.name}"
            elif node.number in in_use:
                roots[node.name] = "mounted"
        return roots


def references_of(node: Node) -> Sequence[Reference]:
    """Return what the labels of a snapshot refer to; labels that say nothing of it are passed over."""
    return [
        Reference(
            node.name,
            found["kind"] or f"snapshot/{found['snapshotter']}",
            value,
            key,
            back=bool(found["back"]),
        )
        for key, value in node.labels.items()
        if value and (found := _REFERENCE.fullmatch(key)) and (found["kind"] != "container" or found["back"])
    ]
