"""The records of a directory: one SQLite file, durable, refused when it isn't what was written."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from hythe.digest import Digest, digest_of
from hythe.durable import SyncCount, current_syncs
from hythe.errors import DataLoss, FailedPrecondition, HytheError, OutOfRange, ResourceExhausted, Unavailable
from hythe.ports.events import OutgoingEvent
from hythe_distribution.adapters.records_schema import APPLICATION_ID
from hythe_distribution.adapters.records_sqlite import PAGE_RECORDS, SqliteRecords
from hythe_distribution.adapters.trust_local import LocalTrust
from hythe_distribution.records import Publication

DIGEST = digest_of(b"a blob")


def publications(count: int) -> list[Publication]:
    """Blobs with digests that differ."""
    return [Publication(Digest(sha256(str(n).encode()).hexdigest()), n, {"n": str(n)}) for n in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is to be."""
    return tmp_path / "records.db"


@pytest.fixture
def records(path: Path) -> Iterator[SqliteRecords]:
    """Empty records."""
    records = SqliteRecords(path)
    yield records
    records.close()


def publish_and_die(path: Path) -> None:
    """Publish a blob in a process that is killed right after it."""
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from hythe.digest import digest_of\n"
        "from hythe_distribution.adapters.records_sqlite import SqliteRecords\n"
        "from hythe_distribution.records import Publication\n"
        "records = SqliteRecords(Path(sys.argv[1]))\n"
        "records.publish('default', [Publication(digest_of(b'a blob'), 6, {'a': '1'})])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)


def test_records_survive_their_process(path: Path) -> None:
    """What was published is there after a process that was killed right after it."""
    publish_and_die(path)
    records = SqliteRecords(path)
    assert dict(records.get("default", DIGEST).labels) == {"a": "1"}
    assert records.namespaces_of(DIGEST) == {"default"}
    records.close()


def test_all_blobs_of_a_publication_cost_one_sync(records: SqliteRecords) -> None:
    """A whole image is published in one transaction; publishing it again writes nothing."""
    token = current_syncs.set(SyncCount())
    try:
        records.publish("default", publications(50))
        counted = current_syncs.get()
        assert counted is not None
        assert counted.count == 1
        records.publish("default", publications(50))
        assert counted.count == 1
    finally:
        current_syncs.reset(token)


def test_list_of_many_records_needs_little_memory(records: SqliteRecords) -> None:
    """A list holds one page at a time, however many blobs there are."""
    count = PAGE_RECORDS * 40
    records.publish("default", publications(count))
    records.publish("other", publications(3))
    tracemalloc.start()
    try:
        seen = sum(1 for _ in records.walk("default"))
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == count
    assert most_bytes < 1_000_000


def test_list_goes_on_behind_any_text(records: SqliteRecords) -> None:
    """A list can begin anywhere: at a digest that is there, at one that isn't, or outside of all."""
    records.publish("default", publications(10))
    digests = [str(blob.digest) for blob in records.walk("default")]
    assert digests == sorted(digests)
    for after in ("", "sha256:", digests[0], digests[4], digests[4][:20], digests[9], "zzz"):
        assert [str(blob.digest) for blob in records.walk("default", after)] == [d for d in digests if d > after]


def test_list_holds_nothing_between_its_pages(records: SqliteRecords) -> None:
    """Others write while somebody reads a list, and what they write behind it shows up in it."""
    records.publish("default", publications(PAGE_RECORDS))
    walk = records.walk("default")
    first = next(walk)
    last = Digest("f" * 64)
    records.withdraw("default", first.digest)
    records.publish("default", [Publication(last, 1)])
    assert [blob.digest for blob in walk][-1] == last


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", DataLoss), (b"not SQLite at all", DataLoss), (b"SQLite format 3\0" + b"\xff" * 4000, DataLoss)],
)
def test_damaged_file_is_refused_and_left_alone(path: Path, content: bytes, expected: type[HytheError]) -> None:
    """What isn't what was written is neither used nor overwritten."""
    path.write_bytes(content)
    with pytest.raises(expected):
        SqliteRecords(path)
    assert path.read_bytes() == content


def test_log_without_its_file_is_refused(path: Path) -> None:
    """A file that vanished is not silently replaced by an empty one."""
    path.with_name("records.db-wal").write_bytes(b"log")
    with pytest.raises(DataLoss):
        SqliteRecords(path)


@pytest.mark.parametrize("statement", ["PRAGMA application_id = 7", "PRAGMA user_version = 99"])
def test_file_of_another_program_or_version_is_refused(path: Path, statement: str) -> None:
    """Records of a newer version, and other programs' files, are not touched."""
    SqliteRecords(path).close()
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.close()
    with pytest.raises(FailedPrecondition):
        SqliteRecords(path)


def test_damaged_record_is_told(path: Path, records: SqliteRecords) -> None:
    """Labels that are no labels are not made up for."""
    records.publish("default", [Publication(DIGEST, 6)])
    connection = sqlite3.connect(path, isolation_level=None)
    for labels in ("", "[]", '{"a": 1}'):
        connection.execute("UPDATE blobs SET labels = ?", (labels,))
        with pytest.raises(DataLoss):
            records.get("default", DIGEST)
    connection.close()


def test_file_that_another_program_locks_is_unavailable(path: Path, records: SqliteRecords) -> None:
    """A lock is waited for a second, and then named."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match=str(path)):
        records.publish("default", [Publication(DIGEST, 6)])
    connection.execute("ROLLBACK")
    connection.close()
    records.publish("default", [Publication(DIGEST, 6)])


def test_full_disk_is_told_and_nothing_is_half_published(tmp_path: Path) -> None:
    """Where there is no room for all blobs of a publication, none of them is published."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=True)
    try:
        records = SqliteRecords(disk / "records.db")
        records.publish("default", publications(1))
        with pytest.raises(ResourceExhausted, match="nothing was changed"):
            records.publish("default", publications(5000))
        assert len(list(records.walk("default"))) == 1
        records.publish("default", publications(2))
        records.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_file_of_the_first_version_is_brought_to_the_present_one(path: Path) -> None:
    """Records from before changes were numbered keep all they had, are listed as changes, and belong to no new root."""
    connection = sqlite3.connect(path)
    connection.executescript(
        f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;"
        "CREATE TABLE blobs (namespace TEXT NOT NULL, digest TEXT NOT NULL, size_bytes INTEGER NOT NULL,"
        " created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL, labels TEXT NOT NULL,"
        " PRIMARY KEY (namespace, digest)) STRICT, WITHOUT ROWID;"
        "CREATE INDEX namespaces_of_blobs ON blobs (digest, namespace);"
    )
    other = digest_of(b"another")
    rows = [("default", str(DIGEST), 6, 1, 2, '{"a":"1"}'), ("others", str(other), 7, 3, 4, "{}")]
    connection.executemany("INSERT INTO blobs VALUES (?, ?, ?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    for _ in range(2):
        records = SqliteRecords(path, virgin=True)
        blob = records.get("default", DIGEST)
        assert (blob.size_bytes, blob.created_ns, blob.updated_ns, dict(blob.labels)) == (6, 1, 2, {"a": "1"})
        found = records.changes(0, 10)
        assert [(change.sequence, change.namespace, change.digest) for change in found] == [
            (1, "default", DIGEST),
            (2, "others", other),
        ]
        assert not LocalTrust(records.ledger).virgin()
        records.close()
    records = SqliteRecords(path)
    records.publish("default", [Publication(other, 7)])
    assert [change.digest for change in records.changes(2, 10)] == [other]
    records.close()


def test_upgrade_that_is_cut_off_leaves_the_old_file(path: Path) -> None:
    """A file that can't be brought to the present version to the end is left as it was."""
    SqliteRecords(path).close()
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA user_version = 1")  # its tables are there already, so that the upgrade fails
    connection.close()
    with pytest.raises(HytheError):
        SqliteRecords(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()


def test_new_file_remembers_whether_it_began_with_an_empty_store(tmp_path: Path) -> None:
    """Only records that were made together with an empty store belong to whoever collects first."""
    for name, virgin in (("a", True), ("b", False)):
        for opened_as in (virgin, not virgin):
            records = SqliteRecords(tmp_path / name, virgin=opened_as)
            assert LocalTrust(records.ledger).virgin() == virgin
            records.close()


def test_records_that_went_long_ago_are_forgotten_and_nobody_is_misled(path: Path) -> None:
    """When too many have gone to remember, who knows an old state is told to ask for all, and all is complete."""
    records = SqliteRecords(path, max_gone=3)
    blobs = publications(8)
    records.publish("default", blobs)
    known = records.changes(0, 100)[-1].sequence
    records.withdraw_all("default", [blob.digest for blob in blobs[:3]])
    assert len(records.changes(known, 100)) == 3
    records.withdraw("default", blobs[3].digest)
    with pytest.raises(OutOfRange):
        records.changes(known, 100)
    after = 0
    seen: set[Digest] = set()
    while page := records.changes(after, 2):
        after = page[-1].sequence
        seen.update(change.digest for change in page if not change.gone)
    assert seen == {blob.digest for blob in blobs[4:]}
    records.withdraw("default", blobs[4].digest)
    assert [change.gone for change in records.changes(after, 10)] == [True]
    records.close()


def test_events_survive_their_process(path: Path) -> None:
    """An event is as durable as the change that it tells of."""
    publish_and_die(path)
    records = SqliteRecords(path)
    (event,) = asyncio.run(outgoing(records))
    assert (event.past, event.number, event.object_id) == ("created", 1, str(DIGEST))
    records.close()


async def outgoing(records: SqliteRecords) -> list[OutgoingEvent]:
    """Return what waits to be sent."""
    return list(await records.ledger.outgoing(0, 100))


def test_events_of_a_large_pull_cost_no_second_sync(records: SqliteRecords) -> None:
    """A hundred blobs with their events are one transaction, and forgetting what was sent waits for no disk."""
    token = current_syncs.set(SyncCount())
    try:
        records.publish("default", publications(100))
        found = asyncio.run(outgoing(records))
        records.ledger.sent([event.sequence for event in found])
        assert asyncio.run(outgoing(records)) == []
        counted = current_syncs.get()
        assert counted is not None
        assert counted.count == 1
    finally:
        current_syncs.reset(token)
