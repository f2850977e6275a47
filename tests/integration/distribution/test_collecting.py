"""The distribution process as an owner in garbage collection, asked over a real bus."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.client.content import BusContent
from hythe.digest import digest_of, parse_digest
from hythe.errors import DeadlineExceeded, FailedPrecondition, NotFound, OutOfRange
from hythe.oci import chain_id, parse_config
from hythe.wire.distribution import ImagePull, ImagePulled, PullProgress
from hythe_distribution.adapters.records_schema import APPLICATION_ID
from scripts.lab.images import ImageBuilder, Layer
from scripts.lab.registry import Registry
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.integration.distribution.collections import Metadata, put, stored
from tests.integration.distribution.processes import ServiceProcess, connect

GONE, KEPT, OTHERS = (f"blob {name}".encode() for name in ("gone", "kept", "others"))
_OLD_RECORDS = """
CREATE TABLE blobs (namespace TEXT NOT NULL, digest TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL, labels TEXT NOT NULL,
    PRIMARY KEY (namespace, digest)) STRICT, WITHOUT ROWID;
CREATE INDEX namespaces_of_blobs ON blobs (digest, namespace);
"""


class Owner:
    """A distribution process, asked as a user and as the metadata service."""

    def __init__(self, directory: Path, secured: SecuredBus) -> None:
        self.root = directory
        self._secured = secured
        self._process = ServiceProcess("distribution", directory, secured)
        self._connection = secured.sync()

    def start(self, failpoints: str = "") -> None:
        """Start it, with failpoints of its own."""
        self._process = ServiceProcess("distribution", self.root, self._secured, HYTHE_FAILPOINTS=failpoints)
        self._process.start()

    def restart(self, number: int = signal.SIGTERM) -> None:
        """End it with a signal and start it again."""
        self._process.end(number)
        self.start()

    def wait(self) -> int:
        """Wait until it ends by itself, and return its exit code."""
        return self._process.wait()

    def end(self) -> None:
        """End it."""
        self._connection.close()
        self._process.end()

    def content(self, namespace: str = "default") -> BusContent:
        """Return the content of a namespace."""
        return BusContent(self._connection, namespace, HOST)

    async def bus(self, key: str) -> Bus:
        """Connect with a key of the stack."""
        return await connect(self._process, self._secured, key)


def ask_in_vain(content: BusContent, data: bytes) -> None:
    """Look for a blob that isn't there."""
    with pytest.raises(NotFound):
        content.info(digest_of(data))


@pytest.fixture
def secured(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> SecuredBus:
    """A bus with the keys of a stack."""
    return SecuredBus(tmp_path, start_nats)


@pytest.fixture
def owner(tmp_path: Path, secured: SecuredBus) -> Iterator[Owner]:
    """A running process with an empty store."""
    owner = Owner(tmp_path, secured)
    owner.start()
    yield owner
    owner.end()


@pytest.fixture
async def metadata(owner: Owner) -> AsyncIterator[Metadata]:
    """The metadata store that the owner hears first."""
    bus = await owner.bus("metadata")
    yield Metadata(bus)
    await bus.close()


async def test_what_nothing_refers_to_goes_and_gives_its_bytes_back(owner: Owner, metadata: Metadata) -> None:
    """A sweep takes blobs out of one namespace; bytes go when no other sees them; what isn't there is said to be so."""
    for data in (GONE, KEPT, OTHERS):
        put(owner.content(), data)
    put(owner.content("others"), OTHERS)
    begun = await metadata.begin()
    assert (begun.trusted, begun.reason, begun.shared) == (True, "", "")
    absent = digest_of(b"never here")
    swept = await metadata.sweep([digest_of(GONE), digest_of(OTHERS), absent])
    assert swept.carried_out
    assert swept.removed == [str(digest_of(GONE)), str(digest_of(OTHERS))]
    assert swept.kept == {str(absent): "not here"}
    assert swept.freed_bytes == len(GONE)
    assert stored(owner.root) == {digest_of(KEPT).hex, digest_of(OTHERS).hex}
    assert [blob.digest for blob in owner.content().walk()] == [digest_of(KEPT)]
    assert b"".join(owner.content("others").read(digest_of(OTHERS))) == OTHERS


async def test_what_was_used_since_the_begin_stays(owner: Owner, metadata: Metadata) -> None:
    """What somebody looked at, read, labelled, published or got an address of since the begin stays until the next one."""
    uses: dict[bytes, Callable[[BusContent], object]] = {
        b"looked at": lambda content: content.info(digest_of(b"looked at")),
        b"labelled": lambda content: content.label(digest_of(b"labelled"), {"a": "1"}),
        b"taken in": lambda content: put(content, b"taken in"),
        b"missing": lambda content: ask_in_vain(content, b"missing"),
    }
    content, addressed = owner.content(), b"addressed"
    for data in (b"looked at", b"labelled", addressed):
        put(content, data)
    content.ask("content", "open", digest=str(digest_of(addressed)), in_flight=False)
    await metadata.begin()
    for use in uses.values():
        use(content)
    swept = await metadata.sweep([digest_of(data) for data in (*uses, addressed)])
    assert swept.removed == []
    assert swept.kept == {
        **{str(digest_of(data)): "used since" for data in uses},
        str(digest_of(addressed)): "in use",
    }
    await metadata.begin()
    assert (await metadata.sweep([digest_of(b"looked at")])).removed == [str(digest_of(b"looked at"))]


async def test_dry_run_tells_the_same_and_removes_nothing(owner: Owner, metadata: Metadata) -> None:
    """What a dry run names, with its bytes, is what the sweep then removes."""
    put(owner.content(), GONE)
    put(owner.content(), OTHERS)
    put(owner.content("others"), OTHERS)
    await metadata.begin()
    wanted = [digest_of(GONE), digest_of(OTHERS), digest_of(b"never here")]
    forecast = await metadata.sweep(wanted, dry_run=True)
    assert not forecast.carried_out
    assert stored(owner.root) == {digest_of(GONE).hex, digest_of(OTHERS).hex}
    swept = await metadata.sweep(wanted)
    assert (swept.removed, swept.kept, swept.freed_bytes) == (forecast.removed, forecast.kept, forecast.freed_bytes)


async def test_root_from_before_collections_deletes_nothing_until_it_is_confirmed(
    tmp_path: Path, secured: SecuredBus
) -> None:
    """Content that is older than collections is not given to whichever store comes first; somebody has to say so."""
    directory = tmp_path / "content"
    (directory / "blobs" / "sha256").mkdir(parents=True)
    (directory / "blobs" / "sha256" / digest_of(GONE).hex).write_bytes(GONE)
    connection = sqlite3.connect(directory / "records.db")
    connection.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; {_OLD_RECORDS}")
    row = ("default", str(digest_of(GONE)), len(GONE), 1, 1, '{"containerd.io/gc.root":"1","note":"2"}')
    connection.execute("INSERT INTO blobs VALUES (?, ?, ?, ?, ?, ?)", row)
    connection.commit()
    connection.close()
    owner = Owner(tmp_path, secured)
    owner.start()
    bus = await owner.bus("metadata")
    try:
        metadata = Metadata(bus)
        begun = await metadata.begin()
        assert (begun.trusted, begun.reason) == (False, "unknown store")
        (record,) = (await metadata.list()).records
        assert (record.digest, record.labels) == (str(digest_of(GONE)), {"containerd.io/gc.root": "1"})
        swept = await metadata.sweep([digest_of(GONE)])
        assert (swept.carried_out, swept.removed) == (False, [str(digest_of(GONE))])
        assert stored(owner.root) == {digest_of(GONE).hex}
        await metadata.trust()
        assert (await metadata.sweep([digest_of(GONE)])).carried_out
        assert (await metadata.begin()).trusted
        assert stored(owner.root) == set()
    finally:
        await bus.close()
        owner.end()


async def test_store_that_went_back_or_is_another_deletes_nothing(owner: Owner, metadata: Metadata) -> None:
    """A fresh store, a restored one and an older copy are recognised, also after a restart; an older one stays suspicious."""
    put(owner.content(), KEPT)
    assert (await metadata.begin()).trusted
    own = (metadata.store_id, metadata.era, metadata.revision, metadata.generation)
    owner.restart()

    metadata.store_id = "f" * 32
    assert (await metadata.begin()).reason == "unknown store"
    metadata.store_id, metadata.era = own[0], own[1] + 1
    assert (await metadata.begin()).reason == "restored store"
    metadata.era, metadata.revision, metadata.generation = own[1], own[2] - 5, own[3]
    assert (await metadata.begin()).reason == "older store"
    metadata.revision, metadata.generation = own[2] + 100, own[3] + 100
    owner.restart(signal.SIGKILL)
    assert (await metadata.begin()).reason == "older store", "what it forgot meanwhile it would collect"
    assert not (await metadata.sweep([digest_of(KEPT)])).carried_out
    await metadata.trust()
    assert (await metadata.begin()).trusted
    assert stored(owner.root) == {digest_of(KEPT).hex}


async def test_sweep_of_another_collection_or_another_life_is_refused(owner: Owner, metadata: Metadata) -> None:
    """Only the collection that began last, in this life of the process, may remove anything."""
    put(owner.content(), KEPT)
    with pytest.raises(FailedPrecondition):
        metadata.generation = 1
        await metadata.sweep([digest_of(KEPT)])
    await metadata.begin()
    metadata.generation -= 1
    with pytest.raises(FailedPrecondition):
        await metadata.sweep([digest_of(KEPT)])
    metadata.generation += 1
    owner.restart()
    with pytest.raises(FailedPrecondition):
        await metadata.sweep([digest_of(KEPT)])
    with pytest.raises(FailedPrecondition):
        await metadata.leftovers()
    assert stored(owner.root) == {digest_of(KEPT).hex}


async def test_sweep_of_a_store_that_is_not_trusted_borrows_no_trust(owner: Owner, metadata: Metadata) -> None:
    """Where two stores collect, the one that isn't trusted can't sweep in the collection of the other."""
    put(owner.content(), KEPT)
    assert (await metadata.begin()).trusted
    bus = await owner.bus("metadata")
    stranger = Metadata(bus)
    stranger.generation = metadata.generation
    stranger.revision = metadata.revision
    assert not (await stranger.begin()).trusted
    assert (await metadata.begin()).trusted
    with pytest.raises(FailedPrecondition):
        await stranger.sweep([digest_of(KEPT)])
    await bus.close()
    assert stored(owner.root) == {digest_of(KEPT).hex}


async def test_list_tells_what_changed_and_what_went(owner: Owner, metadata: Metadata) -> None:
    """Who has the list asks for what is new; labels that collections don't read are left out; pages join without gaps."""
    data = [f"blob {number}".encode() for number in range(5)]
    for each in data:
        put(owner.content(), each, **{"containerd.io/gc.ref.content.x": str(digest_of(b"x")), "note": "no"})
    records, after, more = [], 0, True
    while more:
        page = await metadata.list(after, 2)
        records += page.records
        after, more = page.next, page.more
    assert {record.digest for record in records} == {str(digest_of(each)) for each in data}
    assert all(record.labels == {"containerd.io/gc.ref.content.x": str(digest_of(b"x"))} for record in records)
    assert (await metadata.list(after)).records == []
    owner.content().label(digest_of(data[1]), {"containerd.io/gc.root": "now"})
    owner.content().delete(digest_of(data[0]))
    owner.restart()
    page = await metadata.list(after)
    assert [(record.digest, record.gone) for record in page.records] == [
        (str(digest_of(data[1])), False),
        (str(digest_of(data[0])), True),
    ]
    assert page.records[0].sequence < page.records[1].sequence == page.next
    with pytest.raises(OutOfRange):
        await metadata.list(page.next + 1000)


@pytest.mark.parametrize("failpoint", ["distribution.gc.withdrawn=kill", "distribution.gc.removed=2*off->kill"])
async def test_crash_in_mid_sweep_loses_and_leaks_nothing(tmp_path: Path, secured: SecuredBus, failpoint: str) -> None:
    """After kill -9 in the middle of a sweep all that is seen can be read, and two collections later nothing else is there."""
    owner = Owner(tmp_path, secured)
    owner.start(failpoint)
    bus = await owner.bus("metadata")
    try:
        metadata = Metadata(bus)
        gone = [f"gone {number}".encode() for number in range(5)]
        for data in (*gone, KEPT):
            put(owner.content(), data)
        await metadata.begin()
        with pytest.raises(DeadlineExceeded):
            await metadata.sweep([digest_of(data) for data in gone])
        assert owner.wait() == -signal.SIGKILL
        owner.start()
        left = stored(owner.root)
        assert digest_of(KEPT).hex in left
        assert len(left) > 1, "the process was killed too late for this test"
        assert [blob.digest for blob in owner.content().walk()] == [digest_of(KEPT)]
        for _ in range(2):
            await metadata.begin()
            swept = await metadata.leftovers()
        assert {name.strip() for name in swept.removed} == {f"sha256:{name}" for name in left - {digest_of(KEPT).hex}}
        assert swept.freed_bytes == sum(len(data) for data in gone if digest_of(data).hex in left)
        assert stored(owner.root) == {digest_of(KEPT).hex}
        assert b"".join(owner.content().read(digest_of(KEPT))) == KEPT
    finally:
        await bus.close()
        owner.end()


async def test_bytes_that_nobody_sees_stay_while_somebody_uses_them(owner: Owner, metadata: Metadata) -> None:
    """What a bundle service has fetched is collected only when it isn't asked for from one collection to the next."""
    (owner.root / "content" / "blobs" / "sha256" / digest_of(GONE).hex).write_bytes(GONE)
    content = owner.content()
    await metadata.begin()
    await metadata.leftovers()
    content.ask("content", "open", digest=str(digest_of(GONE)), in_flight=True)
    await metadata.begin()
    assert (await metadata.leftovers()).removed == []
    assert stored(owner.root) == {digest_of(GONE).hex}


async def test_ingest_that_was_just_left_stays(owner: Owner, metadata: Metadata) -> None:
    """What somebody broke off a moment ago can be gone on with after a collection."""
    with owner.content().open_ingest("left", total_bytes=100) as ingest:
        ingest.write(b"some bytes")
    for _ in range(2):
        await metadata.begin()
        assert (await metadata.leftovers()).removed == []
    assert owner.content().status("left").offset == len(b"some bytes")


async def test_config_of_a_pulled_image_keeps_its_snapshot(
    owner: Owner, secured: SecuredBus, tmp_path: Path, registry: Registry
) -> None:
    """The config's label names the chain of all layers, for the snapshotter of this stack."""
    image = ImageBuilder().layer(Layer().file("a", b"1")).layer(Layer().file("b", b"2")).build()
    service = ServiceProcess("metadata", tmp_path, secured)
    service.start()
    bus = await owner.bus("runtime")
    try:
        subject = subjects.rpc("default", bus.key_name, "distribution", "image", "pull")
        request = ImagePull(reference=registry.push(image, "chained:v1"))
        async with bus.operate(subject, request, PullProgress, ImagePulled) as operation:
            async for _ in operation:
                pass
        chain = chain_id(parse_config(image.config.data).diff_ids)
        labels = owner.content().info(parse_digest(image.config.digest)).labels
        assert labels["containerd.io/gc.ref.snapshot.overlayfs"] == str(chain)
    finally:
        await bus.close()
        service.end()
