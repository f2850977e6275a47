"""What the distribution process tells of content, over a real bus that comes and goes."""

from __future__ import annotations

import asyncio
import signal
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hythe import subjects
from hythe.asking import Asker, working_for
from hythe.client.content import BusContent
from hythe.client.sync_bus import SyncBus
from hythe.digest import digest_of
from hythe.errors import HytheError
from hythe.wire.distribution import ImagePull, ImagePulled, PullProgress
from hythe.wire.events import Event
from hythe.wire.images import ImageImport, TransferAddress
from scripts.lab.images import ImageBuilder, Layer
from scripts.lab.registry import Registry
from tests.fakes.archives import oci_layout, tar_of
from tests.fixtures.event_stream import events, make_stream
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.fixtures.waiting import eventually
from tests.integration.distribution.collections import put
from tests.integration.distribution.processes import ServiceProcess, connect

DATA = b"a blob of some bytes"
DIGEST = digest_of(DATA)

Open = Callable[..., BusContent]


@pytest.fixture
def secured(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> SecuredBus:
    """A bus with the keys and the event stream of a stack."""
    secured = SecuredBus(tmp_path, start_nats)
    make_stream(secured)
    return secured


@pytest.fixture
def distribution(tmp_path: Path, secured: SecuredBus) -> Iterator[ServiceProcess]:
    """A running process with an empty store."""
    process = ServiceProcess("distribution", tmp_path, secured)
    process.start()
    yield process
    process.end()


@pytest.fixture
def content(secured: SecuredBus, distribution: ServiceProcess) -> Iterator[Open]:
    """Gives the content of a namespace, each time over a connection of its own."""
    connections: list[SyncBus] = []

    def of(namespace: str = "default") -> BusContent:
        connections.append(secured.sync())
        return BusContent(connections[-1], namespace, HOST)

    yield of
    for connection in connections:
        connection.close()


def told(secured: SecuredBus, count: int) -> list[tuple[str, Event]]:
    """Return the events once there are so many."""
    return eventually(lambda: found if len(found := events(secured)) >= count else [], what=f"{count} events arrive")


def post(url: str, data: bytes) -> None:
    """Send `data` to a URL, and wait for the answer."""
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=20) as answer:
        answer.read()


def numbers(found: list[tuple[str, Event]]) -> dict[str, list[int]]:
    """Return the numbers of each object's events, in the order of the stream."""
    each: dict[str, list[int]] = defaultdict(list)
    for _, event in found:
        each[f"{event.namespace} {event.object_id}"].append(event.number)
    return each


async def test_blob_is_told_when_it_comes_into_view_and_goes_out_of_it(secured: SecuredBus, content: Open) -> None:
    """Each namespace has events of its own, with containerd's topics and fields; labels are no event."""
    default, others = content(), content("others")
    put(default, DATA)
    default.label(DIGEST, {"a": "1"})
    put(others, DATA)
    default.delete(DIGEST)
    found = told(secured, 3)
    attributes = {"digest": str(DIGEST), "size": str(len(DATA))}
    created, deleted = (
        subjects.event("default", HOST, "content", str(DIGEST), past) for past in ("created", "deleted")
    )
    by_namespace = {
        name: [(where, event.topic, event.attributes) for where, event in found if event.namespace == name]
        for name in ("default", "others")
    }
    assert by_namespace["default"] == [
        (created, "/content/create", attributes),
        (deleted, "/content/delete", {"digest": str(DIGEST)}),
    ]
    assert [(topic, fields) for _, topic, fields in by_namespace["others"]] == [("/content/create", attributes)]
    assert all(event.object_id == str(DIGEST) and event.host == HOST for _, event in found)
    assert all(event.request_id for _, event in found)


async def test_pull_tells_of_all_its_blobs_and_who_asked(
    secured: SecuredBus, distribution: ServiceProcess, tmp_path: Path, registry: Registry
) -> None:
    """The events of a pull bear the key that asked, its request and its trace."""
    image = ImageBuilder().layer(Layer().file("a", b"1")).layer(Layer().file("b", b"2")).build()
    metadata = ServiceProcess("metadata", tmp_path, secured)
    metadata.start()
    bus = await connect(distribution, secured, "runtime")
    try:
        subject = subjects.rpc("default", bus.key_name, "distribution", "image", "pull")
        request = ImagePull(reference=registry.push(image, "told:v1"))
        async with bus.operate(subject, request, PullProgress, ImagePulled) as operation:
            async for _ in operation:
                pass
        blobs = {blob.digest for blob in (image.manifest, image.config, *image.layers)}

        def found_all() -> list[Event]:
            created = [event for _, event in events(secured) if event.topic == "/content/create"]
            return created if {event.object_id for event in created} == blobs else []

        found = eventually(found_all, what="the events of all blobs arrive")
        assert {event.caller for event in found} == {"runtime"}
        assert len({(event.request_id, event.trace_id) for event in found}) == 1
        assert all(event.request_id and event.trace_id for event in found)
    finally:
        await bus.close()
        metadata.end()


async def test_events_of_a_loaded_archive_say_who_asked_first(
    secured: SecuredBus, distribution: ServiceProcess, tmp_path: Path
) -> None:
    """Content that comes over HTTP is told as that of the user for whom a service ordered it, with the user's request."""
    image = ImageBuilder().layer(Layer().file("a", b"1")).build()
    archive = tar_of(oci_layout((image, {"io.containerd.image.name": "registry.example/loaded:1"})))
    metadata = ServiceProcess("metadata", tmp_path, secured)
    metadata.start()
    bus = await connect(distribution, secured, "runtime")
    try:
        subject = subjects.rpc("default", bus.key_name, "distribution", "image", "import")
        with working_for(Asker("alice", "request-1")):
            taken = await bus.call(subject, ImageImport(), TransferAddress)
        await asyncio.to_thread(post, taken.url, archive)
        found = [event for _, event in told(secured, 3) if event.topic == "/content/create"]
        assert {event.object_id for event in found} == {blob.digest for blob in (image.manifest, *image.blobs)}
        assert {(event.caller, event.request_id) for event in found} == {("alice", "request-1")}
    finally:
        await bus.close()
        metadata.end()


def test_events_are_gapless_across_kills_of_the_process_and_the_bus(
    secured: SecuredBus, distribution: ServiceProcess, content: Open
) -> None:
    """Whatever is killed when, each change is told once, in order, with numbers that leave no gap."""
    blobs = [f"blob {number}".encode() for number in range(12)]
    expected: dict[str, int] = defaultdict(int)

    def change(data: bytes) -> None:
        put(content(), data)
        content().delete(digest_of(data))
        put(content(), data)
        expected[f"default {digest_of(data)}"] += 3
        content().delete(digest_of(data))
        expected[f"default {digest_of(data)}"] += 1

    for number, data in enumerate(blobs):
        change(data)
        if number % 3 == 1:
            distribution.end(signal.SIGKILL)
            distribution.start()
        if number % 3 == 2:
            secured.server.kill()
            secured.server.start()
            eventually(lambda: _answers(content), what="the service is back on the bus")
    found = told(secured, sum(expected.values()))
    assert numbers(found) == {key: list(range(1, count + 1)) for key, count in expected.items()}


def _answers(content: Open) -> bool:
    try:
        return list(content().walk()) is not None
    except HytheError:
        return False


def test_events_that_wait_are_sent_by_the_next_process(
    secured: SecuredBus, distribution: ServiceProcess, content: Open
) -> None:
    """What was told to nobody because the bus was gone is told after the process was killed and started again."""
    put(content(), DATA)
    told(secured, 1)
    content().delete(DIGEST)
    distribution.end(signal.SIGKILL)
    distribution.start()
    assert numbers(told(secured, 2)) == {f"default {DIGEST}": [1, 2]}
