"""A metadata store with hosts, their owners, and clocks that a test sets: what collections of garbage are tried on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from hythe.clock import now_ns
from hythe.ports.metadata import Origin
from hythe_metadata import contents, lease_records, leases
from hythe_metadata.adapters.memory_store import MemoryStore
from hythe_metadata.contents import Reference
from hythe_metadata.gc.cycle import Collector, Wish
from hythe_metadata.gc.report import Report
from hythe_metadata.lease_clock import LeaseClock, StepWatch
from hythe_metadata.lease_records import Resource
from hythe_metadata.leases import LeaseWish
from hythe_metadata.records import NO_NAMESPACE, Edge, Key, Read, Transaction, Work
from hythe_metadata.references import edges_of_labels
from tests.fakes.gc_owners import SNAPSHOTTER, FakeOwners, Pause, go_on

NAMESPACE = "default"
ORIGIN = Origin(NAMESPACE, "test")
LEASE_S = 60.0


def digest(name: str) -> str:
    """Return a digest that belongs to a name."""
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def refers_to(*names: str) -> dict[str, str]:
    """Return labels of a blob that refers to others."""
    return {f"containerd.io/gc.ref.content.l.{number}": digest(name) for number, name in enumerate(names)}


@dataclass
class Clocks:
    """CLOCK_BOOTTIME and the wall clock of the metadata process."""

    boottime_ms: int = 1_000_000
    wall_ns: int = field(default_factory=now_ns)

    def pass_s(self, seconds: float) -> None:
        """Let time go by."""
        self.boottime_ms += int(seconds * 1000)
        self.wall_ns += int(seconds * 1e9)

    def set_wall(self, by_s: float) -> None:
        """Set the wall clock ahead, or back."""
        self.wall_ns += int(by_s * 1e9)


T = TypeVar("T")


class PausedStore(MemoryStore):
    """A store in memory whose answers can be held up: `pause` is waited for after each question and before each change."""

    def __init__(self) -> None:
        super().__init__()
        self.pause: Pause = go_on

    async def read(self, read: Read[T]) -> T:
        """See `hythe_metadata.records.RecordStore.read`."""
        result = await super().read(read)
        await self.pause()
        return result

    async def change(self, work: Work[T]) -> T:
        """See `hythe_metadata.records.RecordStore.change`."""
        await self.pause()
        return await super().change(work)


class World:
    """One namespace of a cluster.

    Attributes:
        store, owners, clocks: may be changed by a test.
    """

    def __init__(self, *hosts: str, clocks: Clocks | None = None) -> None:
        self.hosts = hosts or ("h1",)
        self.clocks = clocks or Clocks()
        self.owners = FakeOwners(*self.hosts)
        self.store = PausedStore()
        self.collector = self.process("m1")

    def process(self, name: str) -> Collector:
        """Start a metadata process on the store; it has seen no time pass yet."""
        self.lease_clock = LeaseClock(lambda: self.clocks.boottime_ms)
        steps = StepWatch(lambda: self.clocks.boottime_ms, lambda: self.clocks.wall_ns)
        return Collector(self.store, self.owners, self.lease_clock, steps, name, lambda: self.clocks.wall_ns)

    async def begin(self) -> World:
        """Register the hosts, and collect once, so that all owners know the store."""
        await self.register()
        await self.collect()
        return self

    async def register(self) -> None:
        """Make the records of the hosts."""
        for host in self.hosts:
            await self.put(Key("host", NO_NAMESPACE, host))

    async def put(self, key: Key, edges: Sequence[Edge] = (), body: str = "{}") -> None:
        """Write a record as it is."""

        def work(transaction: Transaction) -> None:
            transaction.put(key, body, edges=edges)

        await self.store.change(work)

    async def delete(self, key: Key) -> None:
        """Delete a record."""
        await self.store.change(lambda transaction: transaction.delete(key))

    async def image(self, reference: str, target: str, labels: Mapping[str, str] | None = None) -> None:
        """Name a blob."""
        edges = [Edge("content", digest(target), "target"), *edges_of_labels(labels or {})]
        await self.put(Key("image", NAMESPACE, reference), edges)

    async def remove_image(self, reference: str) -> None:
        """Forget a name."""
        await self.delete(Key("image", NAMESPACE, reference))

    async def container(self, container_id: str, image: str = "") -> None:
        """Make the record of a container with its snapshot."""
        edges = [Edge(f"snapshot/{SNAPSHOTTER}", container_id, "snapshot key")]
        if image:
            edges.append(Edge("content", digest(image), "image"))
        await self.put(Key("container", NAMESPACE, container_id), edges)

    async def lease(
        self,
        lease_id: str,
        *resources: Resource,
        labels: Mapping[str, str] | None = None,
        duration_s: float | None = None,
    ) -> None:
        """Make a lease."""
        await self.store.change(leases.create(ORIGIN, LeaseWish(lease_id, labels or {}, duration_s, resources)))

    async def refer(self, lease_id: str, contents_of: Mapping[str, Mapping[str, str]]) -> None:
        """Say what is about to be brought, before anybody asks whether it is there."""
        references = [Reference(digest(name), labels) for name, labels in contents_of.items()]
        await self.store.change(contents.refer(ORIGIN, lease_id, LEASE_S, references))

    async def end_lease(self, lease_id: str) -> None:
        """End a lease."""
        await self.store.change(leases.remove(ORIGIN, lease_id))

    async def lease_ids(self) -> list[str]:
        """Return which leases there are."""
        return [stored.key.name for stored in await self.store.read(lambda view: list(view.scan(lease_records.KIND)))]

    async def collect(self, *, dry_run: bool = False, confirm: bool = False) -> Report:
        """Collect once."""
        return await self.collector.collect(Wish(dry_run, confirm))

    def publish(self, host: str, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Bring a blob to a host."""
        self.owners.distributions[host].publish(NAMESPACE, digest(name), labels)

    def bring(self, host: str, image: str, *layers: str) -> None:
        """Bring a manifest with its layers to a host."""
        for layer in layers:
            self.publish(host, layer)
        self.publish(host, image, refers_to(*layers))

    def has(self, host: str, *names: str) -> bool:
        """Tell whether a host has all of these blobs; this counts as no use."""
        blobs = self.owners.distributions[host].store.blobs
        return all((NAMESPACE, digest(name)) in blobs for name in names)

    def blobs(self, host: str) -> int:
        """Return how many blobs a host has."""
        return len(self.owners.distributions[host].store.blobs)

    def snapshots(self, host: str) -> set[str]:
        """Return the snapshots of a host."""
        return set(self.owners.bundles[host].snapshots)

    async def hints(self) -> int:
        """Return of how many blobs metadata knows."""
        return len(await self.store.read(lambda view: list(view.scan(contents.KIND))))
