"""Two metadata processes behind one queue group, on one Redis: what a caller sees when one of them is killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from hythe import settings, subjects
from hythe.bus.connection import Bus
from hythe.errors import DeadlineExceeded, Unavailable
from hythe.identifiers import new_id
from hythe.metrics import Metrics
from hythe.wire.container import ContainerRecord, ContainerSpec, ImageRef
from hythe.wire.events import Event
from hythe.wire.metadata import ContainerBegin, ContainerFinish, ContainerFinished, ContainerList, ContainerPage
from tests.fixtures.event_stream import events, make_stream
from tests.fixtures.redis import RedisServer
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.fixtures.waiting import eventually, until

CALLERS = 8
CONTAINERS = 25
PASSWORD = "sesame-and-poppy"


class Metadata:
    """A ``hythe-metadata`` process with a root of its own, and the keys of the one stack."""

    def __init__(self, root: Path, bus: SecuredBus, store_url: str) -> None:
        shutil.copytree(bus.keys, root / "keys")
        (root / "hythe.toml").touch()
        self.log = root / "log"
        self._ready = root / "state" / "services" / "metadata.json"
        self._environment = {
            "PATH": os.defpath,
            "HYTHE_ROOT": str(root),
            "HYTHE_STATE": str(root / "state"),
            "HYTHE_HOST": HOST,
            "HYTHE_CONFIG": str(root / "hythe.toml"),
            "HYTHE_METADATA_URL": store_url,
            "HYTHE_LOG_LEVEL": "debug",
            "NATS_URL": bus.url,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self._ready.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "hythe_metadata"]
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        process = self._process
        eventually(lambda: self._ready.exists() or process.poll() is not None, what="hythe-metadata is ready")
        assert process.poll() is None, self.log.read_text()

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it with a signal."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(20)


@pytest.fixture
def secured(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> SecuredBus:
    """A bus with the keys of a stack, and the stream of events."""
    bus = SecuredBus(tmp_path, start_nats)
    make_stream(bus)
    return bus


@pytest.fixture
def pair(tmp_path: Path, secured: SecuredBus, redis_server: RedisServer) -> Iterator[tuple[Metadata, Metadata]]:
    """Two running metadata processes on one store, which is behind a password."""
    redis_server.command("ACL", "SETUSER", "hythe", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    url = f"unix://hythe:{PASSWORD}@{redis_server.socket}"
    both = Metadata(tmp_path / "left", secured, url), Metadata(tmp_path / "right", secured, url)
    for process in both:
        process.start()
    yield both
    for process in both:
        process.end()


@pytest.fixture
async def runtime(tmp_path: Path, secured: SecuredBus) -> AsyncIterator[Bus]:
    """The bus as the runtime service has it."""
    loaded = settings.load({"root": str(tmp_path), "state": str(tmp_path / "state"), "nats_url": secured.url})
    bus = await Bus.connect(loaded, "runtime", Metrics("runtime"))
    yield bus
    await bus.close()


def subject(verb: str) -> str:
    """Return the subject of a request about containers from runtime."""
    return subjects.rpc("default", "runtime", "metadata", "container", verb)


async def live(runtime: Bus, name: str, *, removed: bool) -> ContainerRecord:
    """Have a container begun and finished, repeating each request until it is answered; return its last record."""
    image = ImageRef(reference="localhost/busybox:latest", digest="sha256:" + "a" * 64)
    begin = ContainerBegin(id=new_id(), name=name, image=image, host=HOST, spec=ContainerSpec(args=["true"], env=[]))
    finish = ContainerFinish(id=begin.id, outcome="removing" if removed else "created")
    while True:
        try:
            await runtime.call(subject("begin"), begin, ContainerRecord, request_id=begin.id, timeout_s=2)
            done = await runtime.call(subject("finish"), finish, ContainerFinished, timeout_s=2)
        except (Unavailable, DeadlineExceeded):
            continue
        assert done.record is not None
        return done.record


def container_events(secured: SecuredBus) -> list[Event]:
    """Return the events of containers in the stream, in order."""
    return [event for _, event in events(secured) if event.topic.startswith("/containers/")]


async def test_killing_one_of_two_processes_loses_nothing(
    pair: tuple[Metadata, Metadata], runtime: Bus, secured: SecuredBus
) -> None:
    """Requests go on while one process is killed and started again; records and events are all there, once and in order."""
    answered: list[ContainerRecord] = []

    over = asyncio.Event()

    async def caller(number: int) -> None:
        count = 0
        while count < CONTAINERS or not over.is_set():
            answered.append(await live(runtime, f"c{number}-{count}", removed=count % 2 == 1))
            count += 1

    callers = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
    for killed in pair:
        before = len(answered)
        await until(lambda before=before: len(answered) > before + 20, timeout_s=30, what="containers live")  # type: ignore[misc]
        killed.end(signal.SIGKILL)
        await until(lambda before=before: len(answered) > before + 40, timeout_s=30, what="containers live on")  # type: ignore[misc]
        await asyncio.to_thread(killed.start)
    over.set()
    await asyncio.gather(*callers)

    found: dict[str, ContainerRecord] = {}
    request = ContainerList()
    while True:
        page = await runtime.call(subject("list"), request, ContainerPage)
        found |= {record.id: record for record in page.records}
        if not page.next:
            break
        request = ContainerList(after=page.next)
    kept = {record.id: record for record in answered if record.phase == "created"}
    assert {key: found.get(key) for key in kept} == kept
    numbers = {record.id: [1] if record.id in kept else [1, 2] for record in answered}
    assert len(numbers) == len(answered) >= CALLERS * CONTAINERS
    expected = sum(map(len, numbers.values()))
    await asyncio.to_thread(
        eventually, lambda: len(container_events(secured)) >= expected, 20, what="all events are in the stream"
    )
    told: dict[str, list[int]] = {}
    for event in container_events(secured):
        told.setdefault(event.object_id, []).append(event.number)
    assert told == numbers
    for process in pair:
        assert PASSWORD not in process.log.read_text()
