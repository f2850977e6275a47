"""What a collection reads of the store: the graph, its roots, which leases have ended, which blobs are known.

Leases are read before the references and blobs after them. So on a body whose questions are answered from different states
what changes in between only keeps more: a lease that came or was renewed since is a root, a blob that came since isn't swept
(`hythe_metadata.records.View.edges` is one state everywhere).
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from hythe.labels import GC_ROOT
from hythe_metadata import contents, lease_records
from hythe_metadata.gc.graph import Graph, Marking
from hythe_metadata.lease_records import LeaseRecord
from hythe_metadata.records import Read, View

ROOT_KINDS = frozenset({"image", "container", lease_records.KIND})

PIECE = 500
PAUSE_S = 0.0001
"""After so many things that were read everybody else may run; together a tenth of the time that a reading takes."""

T = TypeVar("T")
Ended = Callable[[LeaseRecord], bool]


@dataclass(slots=True)
class Reading:
    """What was read.

    Attributes:
        revision: of the store before anything was read.
        roots: why each root is one, by number.
        flat: what leases keep without what that refers to, by number: the lease's number.
        ended: leases that keep nothing any more.
        blobs: numbers of the content that is known.
    """

    revision: int
    graph: Graph = field(default_factory=Graph)
    roots: dict[int, str] = field(default_factory=dict)
    flat: dict[int, int] = field(default_factory=dict)
    ended: list[LeaseRecord] = field(default_factory=list)
    blobs: array[int] = field(default_factory=lambda: array("i"))

    def marking(self) -> Marking:
        """Return what the roots keep."""
        marking = Marking(self.graph)
        marking.reach(self.roots)
        marking.keep(self.flat)
        return marking


def reading(ended: Ended) -> Read[Reading]:
    """Return what reads the whole graph; `ended` tells whether a lease keeps nothing any more."""

    def read(view: View) -> Reading:
        found = Reading(view.moment.revision - 1)
        graph, roots = found.graph, found.roots
        flat: list[int] = []
        over: set[int] = set()
        for stored in view.scan(lease_records.KIND):
            lease = lease_records.read(stored)
            number = graph.node(lease_records.KIND, lease.namespace, lease.id)
            if ended(lease):
                found.ended.append(lease)
                over.add(number)
            elif lease.flat:
                flat.append(number)
                over.add(number)
        for number in graph.refer_all(_in_pieces(view.edges())):
            kind = graph.kind_at(number)
            if kind in ROOT_KINDS and number not in over:
                roots[number] = kind
        for number in flat:
            found.flat.update((target, number) for target, _ in graph.references(number))
        for stored in _in_pieces(view.scan(contents.KIND)):
            number = graph.node(contents.KIND, stored.key.namespace, stored.key.name)
            found.blobs.append(number)
            if GC_ROOT in stored.body and is_root(contents.read(stored)):
                roots[number] = f"label {GC_ROOT}"
        return found

    return read


def _in_pieces(found: Iterable[T]) -> Iterator[T]:
    """Yield what is found, and let other threads run again and again: writers would wait 5 ms for each turn of theirs."""
    for count, one in enumerate(found):
        if count % PIECE == 0:
            time.sleep(PAUSE_S)
        yield one


def is_root(hint: contents.ContentHint) -> bool:
    """Tell whether a label of a blob keeps it, on whatever host."""
    return any(labels.get(GC_ROOT) for labels in (hint.referred, *(held.labels for held in hint.holders.values())))
