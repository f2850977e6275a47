"""Asks whoever knows why a blob or a snapshot is kept: metadata's own graph, and the owners of snapshots on each host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from hythe.errors import HytheError
from hythe.labels import GC_EXPIRE
from hythe.ports.metadata import ALL_NAMESPACES
from hythe_metadata import contents, lease_records
from hythe_metadata.gc.graph import Graph
from hythe_metadata.gc.owners import Explained, Owners
from hythe_metadata.gc.parties import known_hosts
from hythe_metadata.gc.reading import Ended, Reading, reading
from hythe_metadata.gc.snapshots import Naming
from hythe_metadata.gc.why import Answer, Step, find_content, not_found, paths_to
from hythe_metadata.records import NO_NAMESPACE, Key, RecordStore
from hythe_metadata.references import ANY_SNAPSHOTTER, SNAPSHOT

MOST_ABOVE = 20
"""So many snapshots that refer to a blob are explained in their turn."""


class Explainer:
    """Answers why something is kept."""

    def __init__(self, store: RecordStore, owners: Owners, ended: Ended, within_s: Callable[[], float | None]) -> None:
        """`ended` tells whether a lease keeps nothing any more, `within_s` when the next collection is due."""
        self._store = store
        self._owners = owners
        self._ended = ended
        self._within_s = within_s

    async def why(self, namespace: str, name: str, kind: str) -> Answer:
        """Return what keeps a blob of a namespace, or a snapshot, and if nothing does when it goes.

        Args:
            name: digest or its unique beginning, or key of a snapshot.
            kind: ``content``, ``snapshot``, or empty: a digest is a blob, and what is none is a snapshot.

        Raises:
            InvalidArgument: several digests begin so.
            NotFound: there is none, and nothing refers to one.
        """
        hints = await self._store.read(find_content(namespace, name)) if kind != "snapshot" else []
        digest = hints[0].digest if hints else name
        found = await self._store.read(reading(self._ended))
        targets = list(_content_nodes(found, namespace, digest)) if kind != "snapshot" else []
        if targets or kind == "content":
            answer = Answer("content", digest, exists=any(hint.holders for hint in hints))
            answer.hosts = sorted({holder for hint in hints for holder in hint.holders})
            answer.size_bytes = max((hint.size_bytes for hint in hints), default=0)
            explained = await self._explain("")
            roots = await self._with_owners(found, targets, explained)
        else:
            explained = await self._explain(name)
            answer, targets, roots = self._snapshot(found, name, explained)
        if not targets:
            raise not_found(name)
        answer.paths = paths_to(found, roots, targets)
        answer.goes = await self._goes(answer)
        answer.silent = sorted(host for host, one in explained.items() if one is None)
        return answer

    def _snapshot(
        self, found: Reading, name: str, explained: dict[str, Explained | None]
    ) -> tuple[Answer, list[int], dict[int, str]]:
        there = {host: one for host, one in explained.items() if one is not None and one.snapshots}
        kinds = {SNAPSHOT + one.snapshotter for one in there.values()}
        kinds |= {found.graph.kind_at(n) for n in found.graph.of_kind(SNAPSHOT) if found.graph.at(n).name == name}
        if there:
            kinds.discard(ANY_SNAPSHOTTER)  # what refers to it there is known to refer to it here
        targets = [found.graph.node(kind, NO_NAMESPACE, name) for kind in sorted(kinds)]
        roots = self._connect(found, explained)
        answer = Answer("snapshot", name, exists=bool(there), hosts=sorted(there))
        answer.size_bytes = max((one.size_bytes for one in there.values()), default=0)
        return answer, targets, roots

    async def _with_owners(
        self, found: Reading, targets: Sequence[int], explained: dict[str, Explained | None]
    ) -> dict[int, str]:
        """Add to the graph what snapshots refer to, and what keeps those that lead to `targets`."""
        roots = self._connect(found, explained)
        turned, seen, waiting = found.graph.turned(), set(targets), list(targets)
        while waiting:
            for source, _ in turned.references(waiting.pop()):
                if source not in seen:
                    seen.add(source)
                    waiting.append(source)
        leading = [
            found.graph.at(number) for number in sorted(seen) if found.graph.kind_at(number).startswith(SNAPSHOT)
        ]
        for node in leading[:MOST_ABOVE]:
            roots |= self._connect(found, await self._explain(node.name))
        return roots

    async def _explain(self, name: str) -> dict[str, Explained | None]:
        """Ask all hosts at once; of those that don't answer there is None."""
        hosts = await self._store.read(known_hosts)

        async def ask(host: str) -> Explained | None:
            try:
                return await self._owners.explain(host, name)
            except HytheError:
                return None

        answers = await asyncio.gather(*(ask(host) for host in hosts))
        return dict(zip(hosts, answers, strict=True))

    @staticmethod
    def _connect(found: Reading, explained: dict[str, Explained | None]) -> dict[int, str]:
        """Add to the graph what owners told; return all roots, theirs as well."""
        graph, roots = found.graph, found.roots
        naming = Naming(graph)
        turned: Graph | None = None
        for host, one in explained.items():
            if one is None:
                continue
            kind = SNAPSHOT + one.snapshotter
            for link in one.snapshots:
                number = graph.node(kind, NO_NAMESPACE, link.name)
                if link.parent:
                    graph.refer(number, graph.node(kind, NO_NAMESPACE, link.parent), "parent")
                if link.held:
                    roots[number] = f"{link.held} on {host}"
                anywhere = graph.find(ANY_SNAPSHOTTER, NO_NAMESPACE, link.name)
                if anywhere is not None:  # what refers to it wherever it is refers to it here
                    turned = turned or graph.turned()
                    for source, via in turned.references(anywhere):
                        graph.refer(source, number, via)
            for reference in one.references:
                snapshot = graph.node(kind, NO_NAMESPACE, reference.snapshot)
                for number in naming.nodes(reference.kind, reference.name):
                    source, target = (number, snapshot) if reference.back else (snapshot, number)
                    graph.refer(source, target, reference.via)
        return roots

    async def _goes(self, answer: Answer) -> str:
        """Return when it goes, in words: with the next collection, or after the leases that alone keep it; else nothing."""
        if not answer.paths:
            within_s = self._within_s()
            return "with the next collection" + ("" if within_s is None else f", within {_duration(within_s)}")
        roots = [path[0] for path in answer.paths]
        if any(step.node.kind != lease_records.KIND for step in roots):
            return ""
        return "; ".join(filter(None, [await self._lease_goes(step) for step in roots]))

    async def _lease_goes(self, step: Step) -> str:
        key = Key(lease_records.KIND, step.node.namespace, step.node.name)
        stored = await self._store.read(lambda view: view.get(key))
        if stored is None:
            return ""
        lease = lease_records.read(stored)
        if lease.labels.get(GC_EXPIRE):
            return f"when lease {lease.id} expires at {lease.labels[GC_EXPIRE]}"
        if lease.duration_s is not None:
            return f"held by an operation in flight: lease {lease.id} ends {_duration(lease.duration_s)} after it is last renewed"
        return f"when lease {lease.id} is removed"


def _content_nodes(found: Reading, namespace: str, digest: str) -> Iterable[int]:
    if namespace != ALL_NAMESPACES:
        number = found.graph.find(contents.KIND, namespace, digest)
        return [] if number is None else [number]
    return [number for number in found.graph.of_kind(contents.KIND) if found.graph.at(number).name == digest]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{round(seconds / 3600)} h"
