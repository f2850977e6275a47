"""How the SQLite body of the metadata store meets a bad disk, a bad file and other programs."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hythe import outbox_table
from hythe.clock import now_ns
from hythe.errors import DataLoss, FailedPrecondition, HytheError, ResourceExhausted, Unavailable
from hythe.identifiers import new_id
from hythe.ports.metadata import ALL_NAMESPACES, ContainerRecord, ContainerWish, Origin
from hythe_metadata.adapters import sqlite_schema, sqlite_tables, sqlite_upgrade
from hythe_metadata.adapters.sqlite_store import SqliteStore
from hythe_metadata.adapters.sqlite_upkeep import ROWS_AT_ONCE, prune
from hythe_metadata.changes import REQUEST_MEMORY_S
from tests.fakes.intent import Intent
from tests.fixtures.waiting import eventually_async

DIGEST = "sha256:" + "0" * 64


async def begin(store: Intent, name: str = "", spec: str = "{}", container_id: str = "") -> ContainerRecord:
    """Begin a container."""
    container_id = container_id or new_id()
    wish = ContainerWish(container_id, name or f"c-{container_id}", "r", DIGEST, "h1", spec)
    return await store.begin(Origin("default", "test", new_id()), wish)


async def ids(store: Intent) -> list[str]:
    """Return the ids of all records, sorted."""
    found: list[str] = []
    after = ""
    while True:
        page = await store.containers(ALL_NAMESPACES, after, 500)
        found += [record.id for record in page.records]
        after = page.next
        if not after:
            return found


def content(directory: Path) -> dict[str, bytes]:
    """Return what is in the files of `directory`."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def fill(directory: Path, leave_bytes: int) -> Path:
    """Fill the file system of `directory` but for about `leave_bytes` with one file."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while shutil.disk_usage(directory).free > leave_bytes:
            file.write(bytes(64 << 10))
    return ballast


async def refused(path: Path, error: type[HytheError]) -> HytheError:
    """Expect that the store at `path` is refused, and that no file was touched by it."""
    before = content(path.parent)
    with pytest.raises(error) as caught:
        Intent(SqliteStore(path))
    after = content(path.parent)
    assert {name: after[name] for name in before if not name.endswith("-shm")} == {
        name: data for name, data in before.items() if not name.endswith("-shm")
    }
    return caught.value


async def test_full_disk_is_told_and_nothing_is_acknowledged(small_disk: Callable[[int], Path]) -> None:
    """On a full disk a change fails saying so and has not happened; it works when there is room, without a restart."""
    directory = small_disk(16)
    store = Intent(SqliteStore(directory / "metadata.db"))
    acknowledged = [(await begin(store)).id]
    ballast = fill(directory, 512 << 10)
    with pytest.raises(ResourceExhausted) as caught:
        while True:
            acknowledged.append((await begin(store, spec='"' + "x" * 200_000 + '"')).id)
    assert str(directory) in caught.value.next_step
    assert await ids(store) == sorted(acknowledged)

    ballast.unlink()
    acknowledged.append((await begin(store, spec='"' + "x" * 200_000 + '"')).id)
    await store.close()
    store = Intent(SqliteStore(directory / "metadata.db"))
    assert await ids(store) == sorted(acknowledged)
    await store.close()


async def test_change_too_large_for_the_disk_takes_no_other_down(small_disk: Callable[[int], Path]) -> None:
    """When one change of many that come together finds no room, the others are still made."""
    directory = small_disk(16)
    store = Intent(SqliteStore(directory / "metadata.db"))
    fill(directory, 2 << 20)
    large = '"' + "x" * 3_500_000 + '"'
    results = await asyncio.gather(
        *(begin(store, spec=large if number == 5 else "{}") for number in range(10)), return_exceptions=True
    )
    assert [isinstance(result, ResourceExhausted) for result in results] == [number == 5 for number in range(10)]
    assert len(await ids(store)) == 9
    await store.close()


async def test_full_disk_at_the_start_is_told(small_disk: Callable[[int], Path]) -> None:
    """Where a new store finds no room it says so, and leaves no half of one in its place."""
    directory = small_disk(8)
    fill(directory, 0)
    with pytest.raises(ResourceExhausted):
        Intent(SqliteStore(directory / "metadata.db"))
    assert not (directory / "metadata.db").exists()


async def test_read_only_disk_is_told(small_disk: Callable[[int], Path]) -> None:
    """A store that can't be written is refused at the start, with what to do."""
    directory = small_disk(8)
    await Intent(SqliteStore(directory / "metadata.db")).close()
    await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,ro", str(directory)], check=True)
    error = await refused(directory / "metadata.db", FailedPrecondition)
    assert "can't be written" in error.message
    assert str(directory) in error.next_step


async def test_damaged_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A store with bad pages is not opened; the message says that nothing was overwritten and what to do."""
    path = tmp_path / "metadata.db"
    store = Intent(SqliteStore(path))
    for _ in range(50):
        await begin(store, spec='"' + "x" * 2000 + '"')
    await store.close()
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(data)
    error = await refused(path, DataLoss)
    assert "damaged" in error.message
    assert "nothing was overwritten" in error.next_step


@pytest.mark.parametrize("data", [b"", b"SQLite", b"no store at all " * 1000])
async def test_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path, data: bytes) -> None:
    """An empty or foreign file in the store's place is never taken for a new store."""
    path = tmp_path / "metadata.db"
    path.write_bytes(data)
    await refused(path, DataLoss)


async def test_log_without_its_store_is_refused(tmp_path: Path) -> None:
    """When the file is lost but its log is there, no new store is made over it."""
    path = tmp_path / "metadata.db"
    path.with_name("metadata.db-wal").write_bytes(b"x")
    await refused(path, DataLoss)
    assert not path.exists()


async def test_database_of_another_program_is_refused(tmp_path: Path) -> None:
    """A SQLite file that is no metadata store is left to its owner."""
    path = tmp_path / "metadata.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (a)")
    other.close()
    error = await refused(path, FailedPrecondition)
    assert "another program" in error.message


async def test_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """An older Hythe never works on what a newer one made."""
    path = tmp_path / "metadata.db"
    await Intent(SqliteStore(path)).close()
    newer = sqlite3.connect(path)
    newer.execute("INSERT INTO schema_version VALUES (?, '')", (sqlite_tables.VERSION + 1,))
    newer.commit()
    newer.close()
    error = await refused(path, FailedPrecondition)
    assert "newer" in error.message


async def test_store_of_an_older_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """Each missing step of the schema is made once, all of them or none."""
    path = tmp_path / "metadata.db"
    await Intent(SqliteStore(path)).close()
    connection = sqlite_schema.connect(path)
    made: list[int] = []
    version = sqlite_tables.VERSION
    steps: dict[int, sqlite_upgrade.Upgrade] = {version + step: lambda c, s=step: made.append(s) for step in (1, 2)}  # type: ignore[misc]

    sqlite_schema.upgrade(connection, path, steps, version + 2)
    sqlite_schema.upgrade(connection, path, steps, version + 2)
    assert made == [1, 2]

    def broken(upgraded: sqlite3.Connection) -> None:
        upgraded.execute("CREATE TABLE half (a)")
        upgraded.execute("no SQL")

    with pytest.raises(sqlite3.OperationalError):
        sqlite_schema.upgrade(connection, path, {version + 3: broken}, version + 3)
    assert connection.execute("SELECT max(version) FROM schema_version").fetchone() == (version + 2,)
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchone() == (0,)
    connection.close()


async def test_store_held_by_another_program_is_unavailable(tmp_path: Path) -> None:
    """While another program locks the file changes fail as retryable, reads go on, and all is well afterwards."""
    path = tmp_path / "metadata.db"
    store = Intent(SqliteStore(path))
    record = await begin(store)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable) as caught:
        await begin(store)
    assert caught.value.retryable
    assert await ids(store) == [record.id]
    other.close()
    await begin(store)
    await store.close()


async def test_failed_disk_stops_all_writing(tmp_path: Path) -> None:
    """After the disk failed in a commit nothing more is acknowledged until a restart, and nothing acknowledged is lost."""
    path = tmp_path / "metadata.db"
    store = Intent(SqliteStore(path))
    first = await begin(store)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, hard))  # writes beyond fail with EFBIG
    try:
        with pytest.raises(DataLoss) as caught:
            await begin(store, spec='"' + "x" * (1000 << 10) + '"')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.outcome == "unknown"
    with pytest.raises(DataLoss):
        await begin(store)
    await store.close()
    store = Intent(SqliteStore(path))
    assert await ids(store) == [first.id]
    await begin(store)
    await store.close()


async def test_changes_that_come_together_share_commits(tmp_path: Path) -> None:
    """Many callers at once cost far fewer commits than changes."""
    batches: list[int] = []
    store = Intent(SqliteStore(tmp_path / "metadata.db", lambda changes, seconds: batches.append(changes)))
    await asyncio.gather(*(begin(store) for _ in range(200)))
    assert sum(batches) == 200
    assert len(batches) < 50
    await store.close()


async def test_caller_that_gives_up_harms_nobody(tmp_path: Path) -> None:
    """A request whose caller went away is carried out all the same, and those beside it are answered."""
    store = Intent(SqliteStore(tmp_path / "metadata.db"))
    left = asyncio.create_task(begin(store, "left"))
    stays = asyncio.create_task(begin(store, "stays"))
    await asyncio.sleep(0)
    left.cancel()
    assert (await stays).name == "stays"
    assert (await store.container("default", "left")).name == "left"
    await store.close()


async def test_old_records_answers_and_ids_are_forgotten_in_turn(tmp_path: Path) -> None:
    """A removed container's record and answers go when no late request can come, numbers when no reader can have seen them."""
    path = tmp_path / "metadata.db"
    store = Intent(SqliteStore(path))
    removed, stays = await begin(store), await begin(store)
    await store.finish(Origin("default", "test", new_id()), removed.id, "removing")
    await store.desire(Origin("default", "test", new_id()), stays.id, "stopped")
    await store.close()

    def kinds() -> list[str]:
        return [kind for (kind,) in connection.execute("SELECT kind FROM records ORDER BY 1")]

    connection = sqlite_schema.connect(path)
    now = now_ns()
    prune(connection, now, 10)
    assert kinds() == ["container", "gone", "namespace", "request"]
    prune(connection, now + int(REQUEST_MEMORY_S * 1e9) + 10**9, 10)
    assert kinds() == ["container", "namespace"]
    prune(connection, now + (outbox_table.KEEP_NUMBERS_S + 1) * 10**9, 10)
    numbers = connection.execute("SELECT count(*) FROM event_numbers").fetchone()
    assert numbers == (3,), "their events are not sent yet"
    connection.execute("DELETE FROM outbox")
    prune(connection, now + (outbox_table.KEEP_NUMBERS_S + 1) * 10**9, 10)
    assert connection.execute("SELECT count(*) FROM event_numbers").fetchone() == (0,)
    connection.close()


async def test_much_that_is_old_is_forgotten_within_seconds(tmp_path: Path) -> None:
    """However many requests there were, their answers go in their time: what is left of one step is done by the next."""
    path = tmp_path / "metadata.db"
    await Intent(SqliteStore(path)).close()
    connection = sqlite_schema.connect(path)
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO records VALUES ('request', '', ?, 0, 1, 0, '', '')",
        [(f"old {number}",) for number in range(3 * ROWS_AT_ONCE)],
    )
    connection.execute("COMMIT")
    store = Intent(SqliteStore(path))

    async def gone() -> bool:
        await begin(store)
        counting = "SELECT count(*) FROM records WHERE kind = 'request' AND name LIKE 'old%'"
        return bool(connection.execute(counting).fetchone() == (0,))

    await eventually_async(gone, 20, what="all that was old is forgotten")
    await store.close()
    connection.close()
