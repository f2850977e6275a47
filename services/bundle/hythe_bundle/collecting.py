"""This service as an owner in garbage collection: which snapshots are kept by what, and which of them it lets go.

Nothing is locked between the steps of a collection: from ``begin`` on it is noted what is used, and that stays.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hythe import failpoints, tracing
from hythe.errors import FailedPrecondition, InvalidArgument, NotFound
from hythe.gc_trust import StoreMark, Trust, confirmed, judge
from hythe.ports.snapshots import Snapshotter
from hythe_bundle.snapshot_graph import Graph, Node, Reference
from hythe_bundle.uses import HELD, Uses

NOT_HERE = "not here"
SWEEP_S = 5.0
"""After that long a sweep tells where to go on."""
MOST_EXPLAINED = 1000


class Inner(Protocol):
    """What is known of all snapshots at once.

    Attributes:
        snapshotter: name of the snapshotter that they are of.
    """

    @property
    def snapshotter(self) -> str:
        """See the attributes."""

    async def graph(self) -> Graph:
        """Return all snapshots as they are recorded now."""

    async def in_use(self) -> set[int]:
        """Return the numbers of the places that are mounted, or that something is just being made of."""


class TrustPlace(Protocol):
    """Where it is kept which metadata store may have snapshots deleted."""

    def load(self) -> Trust:
        """Return what was saved last.

        Raises:
            DataLoss: it can't be read.
        """

    async def save(self, trust: Trust) -> None:
        """Keep it, durable when this returns."""


@dataclass(frozen=True, slots=True)
class Begun:
    """Whether sweeps of a store are carried out; `reason` says why not."""

    trusted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Marked:
    """What kept snapshots refer to elsewhere, and how many are not kept."""

    references: Sequence[Reference]
    unmarked: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did, or would do; see `hythe.wire.gc.GcSwept`."""

    removed: tuple[str, ...]
    kept: Mapping[str, str] = field(hash=False)
    freed_bytes: int
    carried_out: bool
    next: str = ""


@dataclass(frozen=True, slots=True)
class Explained:
    """A snapshot with all that lie on it, nearest first, why the host keeps any of them, and what all labels refer to."""

    size_bytes: int
    above: Sequence[Node]
    held: Mapping[str, str] = field(hash=False)
    references: Sequence[Reference] = ()


@dataclass(slots=True)
class _Collection:
    mark: StoreMark
    begun: Begun
    roots: set[str] = field(default_factory=set)
    is_marked: bool = False


class Collector:
    """Answers the one who collects."""

    def __init__(self, snapshots: Snapshotter, inner: Inner, uses: Uses, trust: TrustPlace, instance: str) -> None:
        """`instance` is this life of the process: a sweep that names another is refused."""
        self._snapshots = snapshots
        self._inner = inner
        self._uses = uses
        self._trust = trust
        self._instance = instance
        self._collection: _Collection | None = None
        self._hearing = asyncio.Lock()

    @property
    def snapshotter(self) -> str:
        """Name of the snapshotter."""
        return self._inner.snapshotter

    async def begin(self, mark: StoreMark) -> Begun:
        """Begin a collection: what is used from now on stays, and one that was begun before is over, also in mid-sweep."""
        async with self._hearing:
            self._collection = None
            verdict = judge(self._trust.load(), mark)
            await self._trust.save(verdict.trust)
            begun = Begun(not verdict.reason, verdict.reason)
            self._uses.begin()
            self._collection = _Collection(mark, begun)
            return begun

    async def trust(self, mark: StoreMark) -> None:
        """Let sweeps of a store be carried out from its next collection on."""
        async with self._hearing:
            await self._trust.save(confirmed(mark))

    async def mark(self, generation: int, instance: str, roots: Iterable[str]) -> Marked:
        """Keep `roots` and what they keep, beside those that were said before in this collection.

        Raises:
            FailedPrecondition: that collection isn't the one that has begun in this life of the process.
        """
        collection = self._current("mark", generation, instance)
        collection.roots.update(roots)
        collection.is_marked = True
        graph, kept = await self.kept(collection.roots)
        return Marked(graph.elsewhere(kept), len(graph.nodes) - len(kept))

    async def sweep(self, generation: int, instance: str, after: str, limit: int, *, dry_run: bool) -> Swept:
        """Remove what nothing keeps, at most `limit` of them after the place `after`, what lies on top first.

        A crash in the middle of it loses nothing that is kept; what files it leaves go with the next start.

        Raises:
            FailedPrecondition: that collection isn't the one that has begun in this life of the process, another one has begun
                meanwhile (what was removed until then is gone), or nothing was marked in it.
            InvalidArgument: `after` is no place that a sweep has told.
        """
        collection = self._current("sweep", generation, instance)
        if not collection.is_marked:
            raise FailedPrecondition(f"sweep of collection {generation}: nothing was marked in it")
        first = _key_of(after) if after else None
        carry_out = collection.begun.trusted and not dry_run
        graph, kept = await self.kept(collection.roots)
        going = [found for found in graph.to_remove(kept) if first is None or _order(found) > first]
        removed: list[str] = []
        stays: dict[str, str] = {}
        freed_bytes, until_s, last = 0, time.monotonic() + SWEEP_S, ""
        with tracing.span("sweep snapshots", hythe__snapshots=len(going)) as span:
            for depth, name in going[:limit]:
                if last and time.monotonic() > until_s:
                    break
                self._current("sweep", generation, instance)
                last = f"{depth} {name}"
                reason, size_bytes = await self._let_go(name, carry_out=carry_out)
                if reason:
                    stays[name] = reason
                else:
                    removed.append(name)
                    freed_bytes += size_bytes
            span.set("hythe.freed_bytes", freed_bytes)
        done = len(removed) + len(stays) == len(going)
        return Swept(tuple(removed), stays, freed_bytes, carry_out, "" if done else last)

    async def explain(self, name: str) -> Explained:
        """Return what lies on a snapshot, nothing if it isn't there, and why any of it is kept on this host."""
        graph = await self._inner.graph()
        above, held, size_bytes = graph.above(name, MOST_EXPLAINED), await self._own_roots(graph), 0
        if above:
            try:
                size_bytes = (await self._snapshots.usage(name)).size_bytes
            except NotFound:
                above = []  # gone meanwhile
        return Explained(size_bytes, above, held, graph.references())

    async def kept(self, roots: Iterable[str]) -> tuple[Graph, set[str]]:
        """Return all snapshots, and the names of those that `roots` or this host keep."""
        graph = await self._inner.graph()
        own = await self._own_roots(graph)
        return graph, graph.kept([*roots, *own])

    async def _own_roots(self, graph: Graph) -> dict[str, str]:
        own = graph.own_roots(await self._inner.in_use())
        return {**self._uses.all(), **own}  # asked last: what was used until now is seen

    async def _let_go(self, name: str, *, carry_out: bool) -> tuple[str, int]:
        """Remove a snapshot, if `carry_out`; return why it stays, empty if it doesn't, and the bytes that it took."""
        if reason := self._uses.why(name):
            return reason, 0
        try:
            size_bytes = (await self._snapshots.usage(name)).size_bytes
            failpoints.reach("bundle.gc.chosen")
            with self._uses.taking(name) as reason:
                if reason or not carry_out:
                    return reason, size_bytes
                await self._snapshots.remove(name)
            failpoints.reach("bundle.gc.removed")
            return "", size_bytes
        except NotFound:
            return NOT_HERE, 0
        except FailedPrecondition:
            return HELD, 0  # mounted, or something lies on it

    def _current(self, step: str, generation: int, instance: str) -> _Collection:
        found = self._collection
        if found is None or instance != self._instance or found.mark.generation != generation:
            raise FailedPrecondition(
                f"{step} of collection {generation}: it hasn't begun in this life of the bundle service",
                cause="the service was started anew, or another collection has begun",
                next_step="the next collection makes up for it",
            )
        return found


def _order(found: tuple[int, str]) -> tuple[int, str]:
    return -found[0], found[1]


def _key_of(after: str) -> tuple[int, str]:
    depth, space, name = after.partition(" ")
    if not space or not depth.isascii() or not depth.isdigit():
        raise InvalidArgument(f"sweep after {after[:100]!r}: no sweep has told to go on there")
    return -int(depth), name
