"""The agent as a process registers its host with metadata's own handlers, on a bus with a stack's permissions."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from hythe import __version__, clock, subjects
from hythe.errors import NotFound
from hythe.identifiers import new_id
from hythe.wire.agent import Beat
from hythe.wire.records import HostGet, HostRecord
from hythe_metadata import hosts
from hythe_metadata.adapters import beats
from hythe_metadata.adapters.memory_store import MemoryStore
from hythe_metadata.hosts_seen import HostsSeen
from hythe_metadata.record_handlers import HostHandlers
from hythe_metadata.records import Key
from tests.fixtures.peers import Peers
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.fixtures.waiting import eventually_async
from tests.integration.agent.host import AgentHost


class Lab:
    """A host whose agent isn't started yet, and a metadata service that may be away."""

    def __init__(self, host: AgentHost, peers: Peers) -> None:
        self.host = host
        self.peers = peers
        self.store = MemoryStore()
        self.seen = HostsSeen()

    async def start_metadata(self) -> None:
        """Answer as metadata does."""
        process = await self.peers.service("metadata", HostHandlers(self.store, self.seen).register)
        await beats.listen(process.bus, self.seen)

    async def record(self) -> HostRecord | None:
        """Return what metadata says of the host."""
        subject = subjects.rpc("", "admin", "metadata", "host", "get")
        try:
            return await self.host.admin.call(subject, HostGet(name=HOST), HostRecord)
        except NotFound:
            return None


@pytest.fixture
async def lab(start_nats: Callable[[str], NatsServer], busybox_base: Path) -> AsyncIterator[Lab]:
    """A host and its bus."""
    directory = Path(tempfile.mkdtemp(prefix="hythe-host-"))
    secured = SecuredBus(directory, start_nats)
    host = AgentHost(directory, secured, busybox_base)
    try:
        async with AsyncExitStack() as stack:
            await host.open()
            peers = Peers(directory, secured)
            stack.push_async_callback(peers.close)
            yield Lab(host, peers)
        await host.close()
    finally:
        host.kill_everything()


async def test_host_is_registered_when_metadata_comes(lab: Lab) -> None:
    """The agent works without metadata; when that comes, it learns which agent the host has, and that it is alive."""
    lab.host.start_agent()
    instance = (await lab.host.page()).instance
    await lab.start_metadata()

    async def alive() -> HostRecord | None:
        found = await lab.record()
        return found if found is not None and found.alive else None

    found = await eventually_async(alive)
    assert found is not None
    assert (found.instance, found.boot_id, found.version) == (instance, clock.boot_id(), __version__)
    assert found.root_id == (lab.host.directory / "agent" / "root-id").read_text().strip()
    lab.host.end_agent()
    lab.host.start_agent()

    async def again() -> bool:
        record = await lab.record()
        return record is not None and record.instance != instance and record.root_id == found.root_id

    await eventually_async(again)


async def test_second_agent_of_a_name_ends_and_says_why(lab: Lab) -> None:
    """An agent that comes up under the name of a living host ends by itself with both in its log; the host keeps its name."""
    first = hosts.RegisterWish(HOST, "", "another-boot", new_id(), new_id(), "0.1")
    await lab.store.change(hosts.register(first, lab.seen))
    await lab.start_metadata()
    other = await lab.peers.bus("agent")
    beat = Beat(host=HOST, instance=first.instance, boot_id=first.boot_id, boottime_ms=1, change=0)

    async def heard() -> bool:
        await other.publish(subjects.beat(HOST), beat.model_dump_json().encode())
        return HOST in lab.seen.alive()

    await eventually_async(heard)
    done = await asyncio.to_thread(lab.host.second_agent)
    assert done.returncode == 1
    said = done.stderr.decode()
    assert "another agent has this name" in said
    assert first.root_id in said
    assert (lab.host.directory / "agent" / "root-id").read_text().strip() in said
    record = await lab.record()
    assert record is not None
    assert record.root_id == first.root_id
    await lab.store.change(lambda transaction: transaction.delete(Key("host", "", HOST)))
