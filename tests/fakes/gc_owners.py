"""Owners of content and snapshots on several hosts, in memory, by the rules that real owners follow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hythe.errors import FailedPrecondition, HytheError, OutOfRange, Unavailable
from hythe.gc_trust import StoreMark, Trust, confirmed, judge
from hythe.labels import GC_ROOT
from hythe_metadata.contents import Told
from hythe_metadata.gc.owners import (
    Begun,
    Explained,
    HostUsage,
    HostUsages,
    Owner,
    SnapshotLink,
    SnapshotReference,
    Sweep,
    Swept,
    ToldPage,
)
from hythe_metadata.references import edges_of_labels
from tests.fakes.gc_watch import Watch

SNAPSHOTTER = "overlayfs"
BLOB_BYTES = 100
SNAPSHOT_BYTES = 1000


@dataclass
class FakeOwner:
    """What both kinds of owner have. `error`: raised instead of every answer."""

    trust: Trust = field(default_factory=lambda: Trust(virgin=True))
    watch: Watch = field(default_factory=lambda: Watch("life 1"))
    error: HytheError | None = None
    lives: int = 1
    trusted: bool = False

    def restart(self) -> None:
        """Begin another life of the process: what was noted is forgotten."""
        self.lives += 1
        self.watch = Watch(f"life {self.lives}")

    def begin(self, mark: StoreMark, shared: str = "", snapshotter: str = "") -> Begun:
        """Judge the store and begin to note."""
        verdict = judge(self.trust, mark)
        self.trust, self.trusted = verdict.trust, not verdict.reason
        return Begun(self.watch.begin(mark.generation), not verdict.reason, verdict.reason, shared, snapshotter)

    def check(self, sweep: Sweep) -> None:
        """Refuse a sweep of another collection or life."""
        if not self.watch.is_current(sweep.generation, sweep.instance):
            raise FailedPrecondition(
                f"sweep of collection {sweep.generation}: it hasn't begun in this life of the owner"
            )

    def may_carry_out(self, sweep: Sweep) -> bool:
        """Tell whether a sweep is more than a question."""
        return not sweep.dry_run and self.trusted


@dataclass
class Store:
    """Blobs of one host, or of several: by namespace and digest the labels, and the changes by sequence."""

    shared: str = ""
    blobs: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    changes: list[Told] = field(default_factory=list)
    ingests: dict[tuple[str, str], bool] = field(default_factory=dict)
    sequence: int = 0
    forgotten: int = 0

    def note(self, namespace: str, digest: str) -> None:
        """Add a blob's present state to the changes."""
        self.sequence += 1
        labels = self.blobs.get((namespace, digest))
        self.changes = [told for told in self.changes if (told.namespace, told.digest) != (namespace, digest)]
        self.changes.append(Told(self.sequence, namespace, digest, BLOB_BYTES, labels or {}, gone=labels is None))


class FakeDistribution(FakeOwner):
    """Content of a host."""

    def __init__(self, store: Store | None = None) -> None:
        super().__init__()
        self.store = store or Store()

    def publish(self, namespace: str, digest: str, labels: Mapping[str, str] | None = None) -> None:
        """Make a blob visible."""
        self.watch.touch([digest])
        self.store.blobs[namespace, digest] = dict(labels or {})
        self.store.note(namespace, digest)

    def has(self, namespace: str, digest: str) -> bool:
        """Ask whether a blob is there; it counts as used by that."""
        self.watch.touch([digest])
        return (namespace, digest) in self.store.blobs

    def sweep(self, sweep: Sweep, namespace: str, digests: Sequence[str]) -> Swept:
        """Take out what wasn't used since the begin."""
        self.check(sweep)
        removed: list[str] = []
        kept: dict[str, str] = {}
        for digest in digests:
            if (namespace, digest) not in self.store.blobs:
                kept[digest] = "not here"
            elif not self.watch.may_go(sweep.generation, sweep.instance, digest):
                kept[digest] = "used since"
            else:
                removed.append(digest)
        carry_out = self.may_carry_out(sweep)
        if carry_out:
            for digest in removed:
                del self.store.blobs[namespace, digest]
                self.store.note(namespace, digest)
        return Swept(tuple(removed), kept, BLOB_BYTES * len(removed), carry_out)


class FakeBundle(FakeOwner):
    """Snapshots of a host: parent and labels of each; `mounted` ones stay."""

    def __init__(self) -> None:
        super().__init__()
        self.snapshots: dict[str, tuple[str, dict[str, str]]] = {}
        self.mounted: set[str] = set()
        self.roots: set[str] = set()

    def prepare(self, name: str, parent: str = "", labels: Mapping[str, str] | None = None) -> None:
        """Make a snapshot."""
        self.watch.touch([name, parent])
        self.snapshots[name] = (parent, dict(labels or {}))

    def has(self, name: str) -> bool:
        """Ask whether a snapshot is there; it counts as used by that."""
        self.watch.touch([name])
        return name in self.snapshots

    def held(self, name: str) -> str:
        """Return why a snapshot stays by itself."""
        if name in self.mounted:
            return "mounted"
        return f"label {GC_ROOT}" if self.snapshots[name][1].get(GC_ROOT) else ""

    def kept(self, sweep: Sweep) -> set[str]:
        """Return all that stays, with what lies below it."""
        own = {name for name in self.snapshots if self.held(name)}
        used = {name for name in self.snapshots if not self.watch.may_go(sweep.generation, sweep.instance, name)}
        return self.below(self.roots | own | used)

    def below(self, names: set[str]) -> set[str]:
        """Return those of `names` that there are, and all that lies below them."""
        found: set[str] = set()
        for name in names:
            while name in self.snapshots and name not in found:
                found.add(name)
                name = self.snapshots[name][0]
        return found

    def references(self, kept: set[str]) -> list[SnapshotReference]:
        """Return what labels refer to: of kept snapshots all, of others back references."""
        return [
            SnapshotReference(name, edge.kind.removeprefix("back:"), edge.name, edge.via, edge.kind.startswith("back:"))
            for name, (_, labels) in self.snapshots.items()
            for edge in edges_of_labels(labels)
            if name in kept or edge.kind.startswith("back:")
        ]

    def sweep(self, sweep: Sweep) -> Swept:
        """Remove what isn't marked, children first."""
        self.check(sweep)
        gone = sorted(self.snapshots.keys() - self.kept(sweep), key=self._height)
        carry_out = self.may_carry_out(sweep)
        if carry_out:
            for name in gone:
                del self.snapshots[name]
        return Swept(tuple(gone), {}, SNAPSHOT_BYTES * len(gone), carry_out)

    def _height(self, name: str) -> int:
        return max(
            (1 + self._height(child) for child, (parent, _) in self.snapshots.items() if parent == name), default=0
        )


Pause = Callable[[], Awaitable[None]]


async def go_on() -> None:
    """Wait for nothing."""


class FakeOwners:
    """A body of `hythe_metadata.gc.owners.Owners` over hosts in memory.

    Attributes:
        silent: owners that don't answer.
        asked: what was asked of whom, in order.
        pause: waited for before each answer.
    """

    def __init__(self, *hosts: str) -> None:
        self.distributions = {host: FakeDistribution() for host in hosts}
        self.bundles = {host: FakeBundle() for host in hosts}
        self.silent: set[tuple[str, Owner]] = set()
        self.asked: list[tuple[str, str]] = []
        self.pause: Pause = go_on

    async def begin(self, host: str, owner: Owner, mark: StoreMark) -> Begun:
        """See `hythe_metadata.gc.owners.Owners.begin`."""
        if owner == "bundle":
            bundle = await self._bundle(host, "begin")
            bundle.roots = set()
            return bundle.begin(mark, snapshotter=SNAPSHOTTER)
        distribution = await self._distribution(host, "begin")
        return distribution.begin(mark, shared=distribution.store.shared)

    async def trust(self, host: str, owner: Owner, mark: StoreMark) -> None:
        """See `hythe_metadata.gc.owners.Owners.trust`."""
        one = await (self._bundle(host, "trust") if owner == "bundle" else self._distribution(host, "trust"))
        one.trust = confirmed(mark)

    async def content(self, host: str, after: int, limit: int) -> ToldPage:
        """See `hythe_metadata.gc.owners.Owners.content`."""
        store = (await self._distribution(host, "list")).store
        if after and (after < store.forgotten or after > store.sequence):
            raise OutOfRange(f"list content changed after {after}", details={"oldest": str(store.forgotten)})
        found = [told for told in store.changes if told.sequence > after]
        if after == 0:
            found = [told for told in found if not told.gone]
        page = found[:limit]
        more = len(found) > limit
        return ToldPage(page, page[-1].sequence if more else max(store.sequence, after), more)

    async def sweep_content(self, host: str, sweep: Sweep, namespace: str, digests: Sequence[str]) -> Swept:
        """See `hythe_metadata.gc.owners.Owners.sweep_content`."""
        return (await self._distribution(host, "sweep")).sweep(sweep, namespace, digests)

    async def sweep_ingests(self, host: str, sweep: Sweep, keep: Sequence[tuple[str, str]]) -> Swept:
        """See `hythe_metadata.gc.owners.Owners.sweep_ingests`."""
        distribution = await self._distribution(host, "ingests")
        distribution.check(sweep)
        ingests = distribution.store.ingests
        gone = [name for name, idle in ingests.items() if idle and name not in keep]
        if distribution.may_carry_out(sweep):
            for name in gone:
                del ingests[name]
        return Swept(tuple(f"{space} {reference}" for space, reference in gone), carried_out=not sweep.dry_run)

    async def mark_snapshots(
        self, host: str, generation: int, instance: str, roots: Sequence[str]
    ) -> Sequence[SnapshotReference]:
        """See `hythe_metadata.gc.owners.Owners.mark_snapshots`."""
        bundle = await self._bundle(host, "mark")
        sweep = Sweep(generation, instance, dry_run=True)
        bundle.check(sweep)
        bundle.roots |= set(roots)
        return bundle.references(bundle.kept(sweep))

    async def sweep_snapshots(self, host: str, sweep: Sweep, after: str) -> Swept:
        """See `hythe_metadata.gc.owners.Owners.sweep_snapshots`."""
        return (await self._bundle(host, "sweep")).sweep(sweep)

    async def explain(self, host: str, name: str) -> Explained:
        """See `hythe_metadata.gc.owners.Owners.explain`."""
        bundle = await self._bundle(host, "explain")
        above = [each for each in bundle.snapshots if name and name in bundle.below({each})]
        links = [SnapshotLink(each, bundle.snapshots[each][0], bundle.held(each)) for each in above]
        size = SNAPSHOT_BYTES if name in bundle.snapshots else 0
        return Explained(SNAPSHOTTER, size, links, bundle.references(set(bundle.snapshots)))

    async def usage(self, host: str, roots: Sequence[str] | None) -> HostUsages:
        """See `hythe_metadata.gc.owners.Owners.usage`."""
        bundle = await self._bundle(host, "usage")
        names = set(bundle.snapshots)
        active = names if roots is None else bundle.below(set(roots) | {name for name in names if bundle.held(name)})
        idle = len(names) - len(active)
        rows = [
            HostUsage("snapshots", len(names), len(active), SNAPSHOT_BYTES * len(names), SNAPSHOT_BYTES * idle),
            HostUsage("volumes", 0),
        ]
        return HostUsages(rows)

    async def _distribution(self, host: str, verb: str) -> FakeDistribution:
        await self._answer(host, "distribution", verb, self.distributions[host])
        return self.distributions[host]

    async def _bundle(self, host: str, verb: str) -> FakeBundle:
        await self._answer(host, "bundle", verb, self.bundles[host])
        return self.bundles[host]

    async def _answer(self, host: str, owner: Owner, verb: str, one: FakeOwner) -> None:
        await self.pause()
        self.asked.append((host, f"{owner}.{verb}"))
        if (host, owner) in self.silent:
            raise Unavailable(f"ask {owner}.gc.{verb}: {owner} is not running", service=owner, host=host)
        if one.error is not None:
            raise one.error
