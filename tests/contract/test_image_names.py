"""The promises of `hythe_distribution.names.NameRecords`, on every body: the metadata service over a bus, and memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.digest import Digest
from hythe.errors import Conflict, NotFound, Unavailable
from hythe.identifiers import new_id
from hythe.oci import Descriptor
from hythe.ports.metadata import ALL_NAMESPACES
from hythe.reference import parse_reference
from hythe.wire.container import ContainerRecord, ContainerSpec, ImageRef
from hythe.wire.metadata import ContainerBegin
from hythe_distribution.adapters.metadata_names import MetadataNames
from hythe_distribution.names import NameRecords
from scripts.lab.images import OCI_MANIFEST
from tests.fakes.names import MemoryNames
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.integration.distribution.processes import ServiceProcess, connect

FIRST, SECOND = (Descriptor(OCI_MANIFEST, Digest(digit * 64), 1234) for digit in "ab")
APP, OTHER = parse_reference("registry.example/app:1"), parse_reference("registry.example/other:1")


class Body(Protocol):
    """One body of the port, with what a test needs beside it."""

    @property
    def records(self) -> NameRecords:
        """The body itself."""

    async def use(self, namespace: str, name: str, root: Digest) -> None:
        """Have a container that was made from `root`."""

    def go_away(self) -> None:
        """Have the keeper of the records away."""


class InMemory:
    """The fake."""

    def __init__(self) -> None:
        self.records = MemoryNames()

    async def use(self, namespace: str, name: str, root: Digest) -> None:
        """See `Body.use`."""
        self.records.use(name, root, namespace)

    def go_away(self) -> None:
        """See `Body.go_away`."""
        self.records.away = True


class OverTheBus:
    """The metadata service as a process of its own."""

    def __init__(self, bus: Bus, runtime: Bus, metadata: ServiceProcess) -> None:
        self.records = MetadataNames(bus)
        self._runtime, self._metadata = runtime, metadata

    async def use(self, namespace: str, name: str, root: Digest) -> None:
        """See `Body.use`."""
        image = ImageRef(reference=str(APP), digest=str(root))
        wish = ContainerBegin(id=new_id(), name=name, image=image, host=HOST, spec=ContainerSpec())
        subject = subjects.rpc(namespace, self._runtime.key_name, "metadata", "container", "begin")
        await self._runtime.call(subject, wish, ContainerRecord)

    def go_away(self) -> None:
        """See `Body.go_away`."""
        self._metadata.end()


Bodies = Callable[[Path, Callable[[str], NatsServer]], AbstractAsyncContextManager[Body]]


@asynccontextmanager
async def in_memory(directory: Path, start_nats: Callable[[str], NatsServer]) -> AsyncIterator[Body]:
    """Run a block with the fake."""
    yield InMemory()


@asynccontextmanager
async def over_the_bus(directory: Path, start_nats: Callable[[str], NatsServer]) -> AsyncIterator[Body]:
    """Run a block with a metadata process."""
    secured = SecuredBus(directory, start_nats)
    metadata = ServiceProcess("metadata", directory, secured)
    metadata.start()
    bus = await connect(metadata, secured, "distribution")
    runtime = await connect(metadata, secured, "runtime")
    try:
        yield OverTheBus(bus, runtime, metadata)
    finally:
        await bus.close()
        await runtime.close()
        metadata.end()


BODIES: dict[str, Bodies] = {"memory": in_memory, "metadata": over_the_bus}


@pytest.fixture(params=sorted(BODIES))
async def body(
    request: pytest.FixtureRequest, tmp_path: Path, start_nats: Callable[[str], NatsServer]
) -> AsyncIterator[Body]:
    """Each body in turn, without any records."""
    async with BODIES[request.param](tmp_path, start_nats) as made:
        yield made


async def test_name_is_kept_moved_and_forgotten(body: Body) -> None:
    """A name points where it was put last, since it was first put, until it is removed."""
    records = body.records
    assert await records.get("default", APP) is None
    first = await records.put("default", APP, FIRST, 0)
    assert (first.namespace, first.reference, first.target) == ("default", str(APP), FIRST)
    assert await records.get("default", APP) == first
    moved = await records.put("default", APP, SECOND, None)
    assert (moved.target, moved.created_at, moved.revision > first.revision) == (SECOND, first.created_at, True)
    assert await records.get("other", APP) is None
    await records.remove("default", str(APP), moved.revision)
    assert await records.get("default", APP) is None


async def test_change_of_what_others_have_changed_is_a_conflict(body: Body) -> None:
    """Neither a move nor a removal hits a record that is another by now."""
    records = body.records
    first = await records.put("default", APP, FIRST, 0)
    second = await records.put("default", APP, SECOND, first.revision)
    for revision in (0, first.revision):
        with pytest.raises(Conflict):
            await records.put("default", APP, FIRST, revision)
    with pytest.raises(Conflict):
        await records.remove("default", str(APP), first.revision)
    assert await records.get("default", APP) == second
    with pytest.raises(NotFound):
        await records.remove("default", str(OTHER), first.revision)


async def test_names_are_listed_in_pages_of_one_namespace_or_all(body: Body) -> None:
    """Each name comes once, by reference, with the namespace it belongs to."""
    records = body.records
    wanted = [(namespace, str(name)) for namespace in ("a", "b") for name in (APP, OTHER)]
    for namespace, name in reversed(wanted):
        await records.put(namespace, parse_reference(name), FIRST, None)
    for namespace, expected in (("a", wanted[:2]), ("c", []), (ALL_NAMESPACES, wanted)):
        seen, after = [], ""
        while True:
            page = await records.page(namespace, after, 1)
            seen += [(name.namespace, name.reference) for name in page.names]
            if not (after := page.next):
                break
        assert seen == expected


async def test_containers_are_told_with_the_image_they_use(body: Body) -> None:
    """A container counts in its own namespace, by the digest it was made from."""
    await body.use("default", "web", FIRST.digest)
    await body.use("other", "far", SECOND.digest)
    (use,) = await body.records.containers("default")
    assert (use.name, use.digest, len(use.id)) == ("web", FIRST.digest, 32)
    assert await body.records.containers("empty") == ()


async def test_absence_of_the_keeper_is_unavailable(body: Body) -> None:
    """Nobody takes silence for an absence of names."""
    body.go_away()
    with pytest.raises(Unavailable):
        await body.records.get("default", APP)
    with pytest.raises(Unavailable):
        await body.records.page("default", "", 10)
    with pytest.raises(Unavailable):
        await body.records.containers("default")
