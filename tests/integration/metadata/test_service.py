"""The metadata process on a real bus: requests, refusals, events in the stream, crashes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from hythe import settings, subjects
from hythe.bus.connection import Bus
from hythe.errors import AlreadyExists, Conflict, InvalidArgument, NotFound, Unavailable
from hythe.identifiers import new_id
from hythe.metrics import Metrics
from hythe.wire.base import Empty, Request
from hythe.wire.container import ContainerRecord, ContainerSpec, ImageRef
from hythe.wire.metadata import (
    ContainerBegin,
    ContainerDesire,
    ContainerFinish,
    ContainerFinished,
    ContainerGet,
    ContainerList,
    ContainerPage,
    ContainerUpdate,
    ImageGet,
    ImageList,
    ImagePage,
    ImagePut,
    ImageRecord,
    ImageRemove,
    ImageUpdate,
)
from tests.fixtures.event_stream import events, make_stream, stored
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.fixtures.waiting import eventually

DIGEST = "sha256:" + "a" * 64
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class MetadataProcess:
    """The ``hythe-metadata`` process of a stack below one directory."""

    def __init__(self, directory: Path, bus: SecuredBus) -> None:
        self.root = directory
        self.ready = directory / "state" / "services" / "metadata.json"
        self.log = directory / "metadata.log"
        self.environment = {
            "PATH": os.defpath,
            "HYTHE_ROOT": str(directory),
            "HYTHE_STATE": str(directory / "state"),
            "HYTHE_HOST": HOST,
            "NATS_URL": bus.url,
            "HYTHE_CONFIG": str(self._empty_config(directory)),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def _empty_config(directory: Path) -> Path:
        path = directory / "hythe.toml"
        path.touch()
        return path

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run it to its end, for starts that fail."""
        command = [sys.executable, "-m", "hythe_metadata"]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=20, check=False)

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.ready.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hythe_metadata"], env=self.environment, stdout=log, stderr=log
            )
        eventually(lambda: self.ready.exists() or self._dead(), what="hythe-metadata is ready")
        assert not self._dead(), self.log.read_text()

    def _dead(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal and return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(20)


@pytest.fixture
def secured(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> SecuredBus:
    """A bus with the keys of a stack."""
    return SecuredBus(tmp_path, start_nats)


@pytest.fixture
def metadata(tmp_path: Path, secured: SecuredBus) -> Iterator[MetadataProcess]:
    """A running metadata process."""
    process = MetadataProcess(tmp_path, secured)
    process.start()
    yield process
    process.end()


@pytest.fixture
async def runtime(metadata: MetadataProcess, secured: SecuredBus) -> AsyncIterator[Bus]:
    """The bus as the runtime service has it."""
    loaded = settings.load({"root": str(metadata.root), "state": str(metadata.root / "state"), "nats_url": secured.url})
    bus = await Bus.connect(loaded, "runtime", Metrics("runtime"))
    yield bus
    await bus.close()


def subject(noun: str, verb: str, namespace: str = "default") -> str:
    """Return the subject of a request from runtime."""
    return subjects.rpc(namespace, "runtime", "metadata", noun, verb)


def begin(name: str, digest: str | None = DIGEST) -> ContainerBegin:
    """Return a request for a new container."""
    image = ImageRef(reference="localhost/busybox:latest", digest=digest)
    return ContainerBegin(
        id=new_id(), name=name, image=image, host=HOST, spec=ContainerSpec(args=["true"], env=["A=ä"])
    )


async def test_container_lives_from_begin_to_removal(runtime: Bus) -> None:
    """All requests about one container work over the bus and answer its record."""
    request = begin("web")
    record = await runtime.call(subject("container", "begin"), request, ContainerRecord, request_id=request.id)
    assert (record.phase, record.spec, record.image.digest, record.epoch.era) == ("creating", request.spec, DIGEST, 1)
    again = await runtime.call(subject("container", "begin"), request, ContainerRecord, request_id=request.id)
    assert again == record

    finish = ContainerFinish(id=request.id, outcome="created")
    finished = await runtime.call(subject("container", "finish"), finish, ContainerFinished)
    assert finished.record is not None
    assert finished.record.phase == "created"
    desire = ContainerDesire(id=request.id, desired="stopped")
    stopped = await runtime.call(subject("container", "desire"), desire, ContainerRecord)
    assert stopped.epoch.revision > record.epoch.revision
    assert await runtime.call(subject("container", "get"), ContainerGet(key="web"), ContainerRecord) == stopped
    page = await runtime.call(subject("container", "list", ""), ContainerList(), ContainerPage)
    assert page.records == [stopped]

    finish = ContainerFinish(id=request.id, outcome="absent")
    assert (await runtime.call(subject("container", "finish"), finish, ContainerFinished)).record is None
    with pytest.raises(NotFound):
        await runtime.call(subject("container", "get"), ContainerGet(key="web"), ContainerRecord)


async def test_image_lives_from_put_to_removal(runtime: Bus) -> None:
    """All requests about an image name work over the bus."""
    put = ImagePut(reference="localhost/a:1", digest=DIGEST, media_type=MANIFEST, size_bytes=5, if_revision=0)
    record = await runtime.call(subject("image", "put"), put, ImageRecord)
    assert await runtime.call(subject("image", "get"), ImageGet(reference="localhost/a:1"), ImageRecord) == record
    assert (await runtime.call(subject("image", "list"), ImageList(), ImagePage)).images == [record]
    await runtime.call(subject("image", "remove"), ImageRemove(reference="localhost/a:1"), Empty)
    with pytest.raises(NotFound) as caught:
        await runtime.call(subject("image", "get"), ImageGet(reference="localhost/a:1"), ImageRecord)
    assert caught.value.details["kind"] == "image"


async def test_labels_are_updated_and_listed_by_filters(runtime: Bus) -> None:
    """Labels, target, runtime and snapshotter work over the bus, with masks, revisions and filters."""
    put = ImagePut(reference="localhost/a:1", digest=DIGEST, media_type=MANIFEST, size_bytes=5, labels={"a": "1"})
    made = await runtime.call(subject("image", "put"), put, ImageRecord)
    other = "sha256:" + "b" * 64
    wish = ImageUpdate(
        reference="localhost/a:1",
        labels={"b": "2"},
        fields=["labels.b", "target"],
        digest=other,
        media_type="m",
        size_bytes=6,
    )
    moved = await runtime.call(subject("image", "update"), wish, ImageRecord)
    assert moved.labels == {"a": "1", "b": "2"}
    assert (moved.digest, moved.media_type, moved.size_bytes) == (other, "m", 6)
    late = ImageUpdate(reference="localhost/a:1", labels={}, if_revision=made.revision)
    with pytest.raises(Conflict):
        await runtime.call(subject("image", "update"), late, ImageRecord)
    page = await runtime.call(subject("image", "list"), ImageList(filters=["labels.b==2"]), ImagePage)
    assert page.images == [moved]

    request = begin("web").model_copy(update={"runtime": "runsc", "snapshotter": "native"})
    record = await runtime.call(subject("container", "begin"), request, ContainerRecord)
    assert (record.runtime, record.snapshotter) == ("runsc", "native")
    update = ContainerUpdate(id=request.id, labels={"tier": "web"}, if_revision=record.revision)
    labelled = await runtime.call(subject("container", "update"), update, ContainerRecord)
    assert (labelled.labels, labelled.epoch) == ({"tier": "web"}, record.epoch)
    await runtime.call(subject("container", "begin"), begin("other"), ContainerRecord)
    wanted = ContainerList(filters=["labels.tier==web,runtime.name==runsc"])
    assert (await runtime.call(subject("container", "list"), wanted, ContainerPage)).records == [labelled]
    with pytest.raises(InvalidArgument) as refused:
        await runtime.call(subject("container", "list"), ContainerList(filters=["labels.tier=web"]), ContainerPage)
    assert "position 11" in refused.value.message


class OldBegin(Request):
    """``container.begin`` as it was before runtime and snapshotter could be named."""

    id: str
    name: str
    image: ImageRef
    host: str
    spec: ContainerSpec


class OldUpdate(Request):
    """``image.update`` as it was before a target could be given."""

    reference: str
    labels: dict[str, str]


async def test_requests_of_an_older_client_are_understood(runtime: Bus) -> None:
    """Who doesn't know a new field leaves it out, and means what it always meant."""
    new = begin("web")
    old = OldBegin(id=new.id, name=new.name, image=new.image, host=new.host, spec=new.spec)
    record = await runtime.call(subject("container", "begin"), old, ContainerRecord)
    assert await runtime.call(subject("container", "begin"), new, ContainerRecord) == record
    put = ImagePut(reference="localhost/a:1", digest=DIGEST, media_type=MANIFEST, size_bytes=5)
    await runtime.call(subject("image", "put"), put, ImageRecord)
    wish = OldUpdate(reference="localhost/a:1", labels={"a": "1"})
    changed = await runtime.call(subject("image", "update"), wish, ImageRecord)
    assert (changed.labels, changed.digest, changed.size_bytes) == ({"a": "1"}, DIGEST, 5)


async def test_refusals_arrive_as_what_they_are(runtime: Bus) -> None:
    """A taken name, a missing image and a bad name reach the caller with their kind, cause and next step."""
    await runtime.call(subject("container", "begin"), begin("web"), ContainerRecord)
    with pytest.raises(AlreadyExists) as taken:
        await runtime.call(subject("container", "begin"), begin("web"), ContainerRecord)
    assert "hythe rm web" in taken.value.next_step
    with pytest.raises(NotFound) as missing:
        await runtime.call(subject("container", "begin"), begin("other", digest=None), ContainerRecord)
    assert missing.value.details["kind"] == "image"
    with pytest.raises(InvalidArgument):
        await runtime.call(subject("container", "begin"), begin("../web"), ContainerRecord)


async def test_events_wait_for_the_stream_and_arrive_once_in_order(
    metadata: MetadataProcess, runtime: Bus, secured: SecuredBus
) -> None:
    """What happened while the stream was not there is told later, each event once, also across a kill -9."""
    request = begin("web")
    await runtime.call(subject("container", "begin"), request, ContainerRecord, request_id=request.id)
    metadata.end(signal.SIGKILL)
    metadata.start()
    make_stream(secured)
    assert eventually(lambda: events(secured), what="the event of begin arrives")
    metadata.end(signal.SIGKILL)
    metadata.start()
    finish = ContainerFinish(id=request.id, outcome="removing")
    await runtime.call(subject("container", "finish"), finish, ContainerFinished)
    eventually(lambda: len(events(secured)) >= 3, what="the event of finish arrives")
    metadata.end()
    told = [(where, event) for where, event in events(secured) if event.topic != "/namespaces/create"]
    assert [where for where, _ in told] == [
        subjects.event("default", "", "container", request.id, past) for past in ("created", "deleted")
    ]
    assert [(event.topic, event.number, event.caller) for _, event in told] == [
        ("/containers/create", 1, "runtime"),
        ("/containers/delete", 2, "runtime"),
    ]
    assert told[0][1].request_id == request.id


async def test_records_survive_a_kill(metadata: MetadataProcess, runtime: Bus) -> None:
    """A record that was answered is there after kill -9 and a new start; meanwhile the service is named as away."""
    request = begin("web")
    record = await runtime.call(subject("container", "begin"), request, ContainerRecord, request_id=request.id)
    metadata.end(signal.SIGKILL)
    with pytest.raises(Unavailable) as caught:
        await runtime.call(subject("container", "get"), ContainerGet(key="web"), ContainerRecord)
    assert caught.value.service == "metadata"
    metadata.start()
    assert await runtime.call(subject("container", "begin"), request, ContainerRecord, request_id=request.id) == record


async def test_begin_is_traced_with_its_one_fsync(runtime: Bus, secured: SecuredBus) -> None:
    """The spans of a begin say that it waited for one fsync."""
    make_stream(secured, subjects.SPAN_STREAM, subjects.ALL_SPANS)
    await runtime.call(subject("container", "begin"), begin("web"), ContainerRecord)

    def spans_of_begin() -> dict[str, dict[str, object]]:
        messages = [json.loads(data) for _, data in stored(secured, subjects.SPAN_STREAM, subjects.ALL_SPANS)]
        spans = [span for message in messages for span in message["spans"]]
        traces = {span["trace_id"] for span in spans if span["name"] == "metadata.container.begin"}
        by_name = {str(span["name"]): span for span in spans if span["trace_id"] in traces}
        return by_name if "metadata.commit" in by_name else {}

    by_name = eventually(spans_of_begin, what="the spans of the begin arrive")
    attributes = by_name["metadata.commit"]["attributes"]
    assert isinstance(attributes, dict)
    assert attributes["hythe.fsyncs"] == 1


def test_second_process_on_the_same_store_is_refused(metadata: MetadataProcess) -> None:
    """Only one process ever writes a store."""
    second = metadata.run()
    assert second.returncode == 1
    assert "another process owns it" in second.stderr


def test_damaged_store_ends_the_process_with_a_clear_text(metadata: MetadataProcess) -> None:
    """A store that can't be trusted keeps the service from starting, and its log says what to do."""
    assert metadata.end() == 0
    store = metadata.root / "metadata" / "metadata.db"
    store.write_bytes(b"garbage")
    failed = metadata.run()
    assert failed.returncode == 1
    said = json.loads(failed.stderr.splitlines()[-1])
    assert "damaged" in said["message"]
    assert "nothing was overwritten" in said["next_step"]
    assert store.read_bytes() == b"garbage"


def test_file_of_another_service_is_not_opened(tmp_path: Path, secured: SecuredBus) -> None:
    """Two services that are pointed at one file by HYTHE_METADATA_URL never write to it both."""
    shared = tmp_path / "shared"
    shared.mkdir()
    processes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made = MetadataProcess(tmp_path / name, secured)
        made.environment |= {"HYTHE_METADATA_URL": f"sqlite://{shared}/records.db"}
        (tmp_path / name / "keys").symlink_to(secured.keys)
        processes.append(made)
    first, second = processes
    first.start()
    refused = second.run()
    assert refused.returncode == 1
    assert "another process owns it" in refused.stdout + refused.stderr
    assert first.end() == 0
    second.start()
    assert second.end() == 0
