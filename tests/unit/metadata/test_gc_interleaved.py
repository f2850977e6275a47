"""Operations in flight while a collection runs, in random order: nothing that somebody relies on is ever removed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from hythe_metadata import leases
from hythe_metadata.gc.report import Report
from hythe_metadata.records import Key
from tests.fakes.gc_owners import SNAPSHOTTER
from tests.fakes.gc_watch import Watch
from tests.fakes.gc_world import NAMESPACE, ORIGIN, World, digest, refers_to

T = TypeVar("T")

HOSTS = ("h1", "h2")
LAYERS: dict[str, tuple[str, ...]] = {"a": ("1", "2"), "b": ("2", "3"), "c": ("3", "4")}
"""Images share layers, so that what one brings is what another finds."""
TICKS = 20
_collects: ContextVar[bool] = ContextVar("collects", default=False)


class Stepper:
    """Holds a collection up wherever it asks somebody, until it may take its next step; operations pass."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Report] | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._moved = asyncio.Event()

    async def pause(self) -> None:
        """Wait for a step if it is the collection that calls."""
        if _collects.get():
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            self._moved.set()
            await future

    async def begin(self, collection: Coroutine[Any, Any, Report]) -> None:
        """Begin a collection."""

        async def collect() -> Report:
            _collects.set(True)
            return await collection

        self.task = asyncio.create_task(collect())
        self.task.add_done_callback(lambda _: self._moved.set())
        await self._rest()

    async def step(self, which: int) -> None:
        """Let one of those that wait go on, until it waits again or the collection is over."""
        self._waiting.pop(which % len(self._waiting)).set_result(None)
        await self._rest()

    async def finish(self) -> None:
        """Let the collection go on to its end."""
        while self.task is not None:
            await self.step(0)

    async def _rest(self) -> None:
        for _ in range(TICKS):
            await asyncio.sleep(0)
        while not self._waiting and self.task is not None and not self.task.done():
            self._moved.clear()
            await self._moved.wait()
        if self.task is not None and self.task.done():
            await self.task
            self.task = None


@dataclass
class Pull:
    """A pull with unpack in flight: what it has yet to bring, and what it has found or brought so far."""

    lease: str
    host: str
    image: str
    rest: list[str]
    seen: list[str] = field(default_factory=list)
    unpacked: bool = False


def manifest_labels(image: str) -> dict[str, str]:
    """Return the labels of an image's manifest: its layers, and the snapshot that they are unpacked to."""
    return {**refers_to(*LAYERS[image]), f"containerd.io/gc.ref.snapshot.{SNAPSHOTTER}": f"s-{image}"}


class DeafWatch(Watch):
    """A watch that notes nothing: what owners must not be."""

    def touch(self, names: Iterable[str]) -> None:
        """Do nothing."""


class Cluster(RuleBasedStateMachine):
    """Two hosts, three images, pulls, tags, containers, deaths, and a collection that stops everywhere.

    Attributes:
        refers: pulls refer to what they are about to look for.
        notes: owners note what is looked for.
        places: on so many hosts so many images are pulled.
    """

    refers = True
    notes = True
    places = 3

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stepper = Stepper()
        self.world = self.do(World(*HOSTS).begin())
        self.world.store.pause = self.world.owners.pause = self.stepper.pause
        if not self.notes:
            for owner in (*self.world.owners.distributions.values(), *self.world.owners.bundles.values()):
                owner.watch = DeafWatch("deaf")
        self.pulls: list[Pull] = []
        self.names: dict[str, tuple[str, str]] = {}
        self.containers: dict[str, tuple[str, str]] = {}
        self.counter = 0

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something to its end, or until the collection waits."""
        return self.loop.run_until_complete(work)

    @rule(at=st.integers(0, 1), which=st.integers(0, 2))
    def begin_pull(self, at: int, which: int) -> None:
        """Refer to all that is going to be looked for."""
        self.counter += 1
        host, image = HOSTS[at % min(self.places, len(HOSTS))], sorted(LAYERS)[which % self.places]
        pull = Pull(f"pull-{self.counter}", host, image, [*LAYERS[image], image])
        if self.refers:
            wanted = {image: manifest_labels(image), **{layer: {} for layer in LAYERS[image]}}
            self.do(self.world.refer(pull.lease, wanted))
        self.pulls.append(pull)

    @precondition(lambda self: self.pulls)
    @rule(which=st.integers(0, 9), steps=st.integers(1, 5))
    def go_on_with_pull(self, which: int, steps: int) -> None:
        """Let a pull take a few steps."""
        pull = self.pulls[which % len(self.pulls)]
        for _ in range(steps):
            if pull in self.pulls:
                self._step(pull)

    def _step(self, pull: Pull) -> None:
        """Look for the next blob and bring it if it isn't there; then unpack, name the image, and end the lease."""
        distribution, bundle = self.world.owners.distributions[pull.host], self.world.owners.bundles[pull.host]
        if pull.rest:
            blob = pull.rest.pop(0)
            if not distribution.has(NAMESPACE, digest(blob)):
                self.world.publish(pull.host, blob, manifest_labels(blob) if blob == pull.image else {})
            pull.seen.append(blob)
        elif not pull.unpacked:
            if not bundle.has(f"s-{pull.image}"):
                bundle.prepare(f"s-{pull.image}")
            pull.unpacked = True
        else:
            name = f"{pull.host}/{pull.image}:{self.counter % 3}"
            self.do(self.world.image(name, pull.image))
            self.names[name] = (pull.host, pull.image)
            self.do(self.world.end_lease(pull.lease))
            self.pulls.remove(pull)

    @precondition(lambda self: self.pulls)
    @rule(which=st.integers(0, 9))
    def kill_pull(self, which: int) -> None:
        """A process dies, and its lease is left to run out."""
        del self.pulls[which % len(self.pulls)]

    @precondition(lambda self: self.names)
    @rule(which=st.integers(0, 9))
    def rename_image(self, which: int) -> None:
        """Move the only name of an image: at no moment is it without one."""
        old = sorted(self.names)[which % len(self.names)]
        self.counter += 1
        new = f"renamed:{self.counter}"
        self.do(self.world.image(new, self.names[old][1]))
        self.do(self.world.remove_image(old))
        self.names[new] = self.names.pop(old)

    @precondition(lambda self: self.names)
    @rule(which=st.integers(0, 9))
    def remove_image(self, which: int) -> None:
        """Forget a name."""
        name = sorted(self.names)[which % len(self.names)]
        self.do(self.world.remove_image(name))
        del self.names[name]

    @precondition(lambda self: self.names)
    @rule(which=st.integers(0, 9))
    def run_container(self, which: int) -> None:
        """Record a container of an image, then make its snapshot."""
        host, image = self.names[sorted(self.names)[which % len(self.names)]]
        self.counter += 1
        container = f"c{self.counter}"
        self.do(self.world.container(container, image))
        self.world.owners.bundles[host].prepare(container, f"s-{image}")
        self.containers[container] = (host, image)

    @precondition(lambda self: self.containers)
    @rule(which=st.integers(0, 9))
    def remove_container(self, which: int) -> None:
        """Delete the record of a container."""
        container = sorted(self.containers)[which % len(self.containers)]
        self.do(self.world.delete(Key("container", NAMESPACE, container)))
        del self.containers[container]

    @rule()
    def pass_time(self) -> None:
        """Half a minute goes by, and whoever lives renews the lease."""
        self.world.clocks.pass_s(30)
        for pull in self.pulls if self.refers else ():
            self.do(self.world.store.change(leases.renew(ORIGIN, pull.lease, self.world.lease_clock)))

    @precondition(lambda self: self.stepper.task is None)
    @rule()
    def begin_collection(self) -> None:
        """Begin to collect."""
        self.do(self.stepper.begin(self.world.collect()))

    @precondition(lambda self: self.stepper.task is not None)
    @rule(which=st.integers(0, 3), steps=st.integers(1, 6))
    def go_on_collecting(self, which: int, steps: int) -> None:
        """Let the collection ask a few more questions."""
        for _ in range(steps):
            if self.stepper.task is not None:
                self.do(self.stepper.step(which))

    @precondition(lambda self: self.stepper.task is not None)
    @rule()
    def finish_collection(self) -> None:
        """Let the collection end."""
        self.do(self.stepper.finish())

    @invariant()
    def nothing_is_missing(self) -> None:
        """Whatever a living pull has seen, an image needs or a container stands on, is there."""
        for pull in self.pulls:
            assert self.world.has(pull.host, *pull.seen), f"{pull} misses a blob"
            assert not pull.unpacked or f"s-{pull.image}" in self.world.snapshots(pull.host), (
                f"{pull} misses its snapshot"
            )
        for name, (host, image) in self.names.items():
            assert self.world.has(host, image, *LAYERS[image]), f"image {name} misses a blob"
            assert f"s-{image}" in self.world.snapshots(host), f"image {name} misses its snapshot"
        for container, (host, image) in self.containers.items():
            assert {container, f"s-{image}"} <= self.world.snapshots(host), f"container {container} misses a snapshot"
            assert self.world.has(host, image, *LAYERS[image]), f"container {container} misses a blob"

    def teardown(self) -> None:
        """In the end nobody needs anything: after two collections nothing is left."""
        try:
            self.do(self.stepper.finish())
            self.nothing_is_missing()
            self.do(self._leave())
            for _ in range(2):
                self.do(self.world.collect())
            assert [self.world.blobs(host) for host in HOSTS] == [0, 0]
            assert [self.world.snapshots(host) for host in HOSTS] == [set(), set()]
            assert (self.do(self.world.hints()), self.do(self.world.lease_ids())) == (0, [])
        finally:
            self.loop.close()

    async def _leave(self) -> None:
        for name in self.names:
            await self.world.remove_image(name)
        for container in self.containers:
            await self.world.delete(Key("container", NAMESPACE, container))
        for lease in await self.world.lease_ids():
            await self.world.end_lease(lease)


class WithoutReferences(Cluster):
    """Pulls that look for blobs without referring to them before."""

    refers = False
    places = 1


class WithoutNotes(Cluster):
    """Owners that don't note what is looked for."""

    notes = False
    places = 1


QUICK = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
# It stops at the first loss. When that comes depends on the modules that are loaded, whose constants hypothesis draws too.
CONTROL = settings(QUICK, max_examples=3000, phases=[Phase.generate], report_multiple_bugs=False)


def test_operations_in_flight_lose_nothing_and_leave_nothing() -> None:
    """Pull, tag, run and remove while collections run: nothing needed goes, and in the end nothing unneeded stays."""
    run_state_machine_as_test(Cluster, settings=QUICK)


@pytest.mark.parametrize("broken", [WithoutReferences, WithoutNotes])
def test_check_notices_a_broken_rule(broken: type[Cluster]) -> None:
    """Were pulls not to refer first, or owners not to note, this test would see things disappear."""
    with pytest.raises(AssertionError, match="misses"):
        run_state_machine_as_test(broken, settings=CONTROL)
