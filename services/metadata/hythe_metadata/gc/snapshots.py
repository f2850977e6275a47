"""Marking across owners: snapshots that metadata refers to are named to their owners, who say what these refer to, and so on."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence

from hythe import tracing
from hythe_metadata.gc.graph import Graph, Marking
from hythe_metadata.gc.owners import MOST_ROOTS, Owners, SnapshotReference
from hythe_metadata.gc.parties import Parties, Party
from hythe_metadata.records import NO_NAMESPACE
from hythe_metadata.references import ANY_SNAPSHOTTER, SNAPSHOT


class Naming:
    """Finds what labels of snapshots mean: a snapshot belongs to no namespace, so a digest means that blob in all of them."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._named: dict[str, dict[str, list[int]]] = {}

    def nodes(self, kind: str, name: str) -> Sequence[int]:
        """Return the nodes of a kind and a name; of snapshots one, which is made if there is none."""
        if kind.startswith(SNAPSHOT):
            return [self._graph.node(kind, NO_NAMESPACE, name)]
        if kind not in self._named:
            named: dict[str, list[int]] = defaultdict(list)
            for number in self._graph.of_kind(kind):
                named[self._graph.at(number).name].append(number)
            self._named[kind] = named
        return self._named[kind].get(name, ())


def connect(marking: Marking, naming: Naming, snapshotter: str, references: Iterable[SnapshotReference]) -> list[int]:
    """Add what labels of snapshots refer to; return what is reached by that now.

    A snapshot whose references are told is kept by its owner; of back references alone that isn't said.
    """
    reached: list[int] = []
    for reference in references:
        snapshot = marking.graph.node(SNAPSHOT + snapshotter, NO_NAMESPACE, reference.snapshot)
        if not reference.back:
            reached += marking.reach([snapshot])
        for number in naming.nodes(reference.kind, reference.name):
            source, target = (number, snapshot) if reference.back else (snapshot, number)
            reached += marking.refer(source, target, reference.via)
    return reached


async def mark_everywhere(owners: Owners, parties: Parties, marking: Marking, generation: int) -> int:
    """Have every owner of snapshots mark what is referred to, until nobody refers to anything new; return the rounds."""
    naming = Naming(marking.graph)
    seen: set[tuple[str, SnapshotReference]] = set()
    sent: dict[str, set[int]] = {host: set() for host in parties.bundle}
    rounds, more = 0, True
    while more:
        rounds += 1
        wanted: dict[str, list[int]] = defaultdict(list)
        for number in marking.graph.of_kind(SNAPSHOT):
            if marking.stays(number):
                wanted[marking.graph.kind_at(number)].append(number)
        asking = []
        for host, party in parties.bundle.items():
            if party.there and party.begun is not None:
                kinds = (SNAPSHOT + party.begun.snapshotter, ANY_SNAPSHOTTER)
                roots = [number for kind in kinds for number in wanted[kind] if number not in sent[host]]
                if roots or rounds == 1:
                    sent[host].update(roots)
                    names = [marking.graph.at(number).name for number in roots]
                    asking.append(_mark(owners, party, generation, names))
        with tracing.span("gc mark snapshots", hythe__round=rounds):
            answers = await asyncio.gather(*asking)
        more = False
        for snapshotter, references in answers:
            new = {(snapshotter, reference) for reference in references} - seen
            seen |= new
            reached = connect(marking, naming, snapshotter, (reference for _, reference in sorted(new, key=repr)))
            more = more or any(marking.graph.kind_at(number).startswith(SNAPSHOT) for number in reached)
    return rounds


async def _mark(
    owners: Owners, party: Party, generation: int, roots: Sequence[str]
) -> tuple[str, Sequence[SnapshotReference]]:
    assert party.begun is not None
    references: Sequence[SnapshotReference] = ()
    with party.asked():
        for start in range(0, max(1, len(roots)), MOST_ROOTS):
            names = roots[start : start + MOST_ROOTS]
            references = await owners.mark_snapshots(party.host, generation, party.begun.instance, names)
    return party.begun.snapshotter, references
