"""What is done to a SQLite store beside its requests: upgrades, backups, restores, checks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hythe.clock import now_ns
from hythe.errors import AlreadyExists, Conflict, DataLoss, FailedPrecondition, InvalidArgument, NotFound
from hythe.identifiers import new_id
from hythe.ports.metadata import ContainerWish, ImageWish, Origin
from hythe_metadata.adapters import sqlite_backup, sqlite_check
from hythe_metadata.adapters.sqlite_kind import APPLICATION_ID
from hythe_metadata.adapters.sqlite_store import SqliteStore
from hythe_metadata.adapters.sqlite_tables import VERSION
from hythe_metadata.adapters.store_file import StoreFile
from hythe_metadata.records import Edge, Key
from tests.fakes.intent import Intent

DIGEST = "sha256:" + "a" * 64
OLD_TABLES = Path(__file__).parents[2] / "data" / "metadata_version_1.sql"
STORE_ID = "5" * 32


def content(directory: Path) -> dict[str, bytes]:
    """Return what is in the files of `directory`."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def asks(request_id: str = "") -> Origin:
    """Return who asks."""
    return Origin("default", "test", request_id or new_id())


def image(reference: str = "localhost/a:1") -> ImageWish:
    """Return a wish for an image."""
    return ImageWish(reference, DIGEST, "m", 1)


async def filled(path: Path) -> Intent:
    """Open a store with an image and a container."""
    intent = Intent(SqliteStore(path))
    await intent.put_image(asks(), image())
    await intent.begin(asks(), ContainerWish(new_id(), "web", "localhost/a:1", None, "h1", "{}"))
    return intent


def store_of_version_1(path: Path) -> dict[str, str]:
    """Make a store as the first version had it; return the ids of its containers by phase."""
    ids = {phase: new_id() for phase in ("creating", "created", "removing", "gone")}
    connection = sqlite3.connect(path)
    connection.executescript(f"PRAGMA application_id = {APPLICATION_ID}; {OLD_TABLES.read_text()}")
    connection.execute("INSERT INTO schema_version VALUES (1, '')")
    connection.execute("INSERT INTO store VALUES (1, ?, 3, 42)", (STORE_ID,))
    now = now_ns()
    for number, phase in enumerate(("creating", "created", "removing")):
        row = (ids[phase], "team", f"c-{phase}", "localhost/a:1", DIGEST, "h1", '{"args":["x"]}', "running", phase)
        lease_s = 60.0 if phase == "creating" else 0.0
        rest = (3, 7, 40 + number, "2026-01-01T00:00:00.000000Z", f"hash-{phase}", lease_s, 0, now)
        connection.execute(f"INSERT INTO containers VALUES ({','.join('?' * 17)})", (*row, *rest))
    connection.execute("INSERT INTO gone VALUES (?, ?)", (ids["gone"], now))
    times = ("2026-01-01T00:00:00.000000Z", "2026-01-02T00:00:00.000000Z")
    connection.execute("INSERT INTO images VALUES ('team', 'localhost/a:1', ?, 'm', 7, 41, ?, ?)", (DIGEST, *times))
    connection.execute("INSERT INTO requests VALUES ('team', 'test', 'r1', 'image.put', 'h', '{}', ?)", (now,))
    connection.execute("INSERT INTO event_numbers VALUES ('team', 'image', 'localhost/a:1', 4)")
    told = ("team", "image", "localhost/a:1", "updated", "/images/update", 4, times[1], "test", "r1", "", "{}")
    connection.execute(f"INSERT INTO outbox VALUES (9, {','.join('?' * 11)})", told)
    connection.commit()
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    return ids


def hash_of_version_1(wish: dict[str, object]) -> str:
    """Return how the first version told requests of namespace `team` apart."""
    text = json.dumps(["team", wish], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


async def test_store_of_the_first_version_becomes_a_present_one(tmp_path: Path) -> None:
    """Everything that the first version kept is there: records, answers, ids that are gone, numbers, unsent events."""
    path = tmp_path / "metadata.db"
    ids = store_of_version_1(path)
    intent = Intent(SqliteStore(path))
    assert (intent.store_id, intent.era) == (STORE_ID, 3)
    created = await intent.container("team", "c-created")
    assert (created.id, created.spec, created.revision, created.epoch_revision) == (
        ids["created"],
        '{"args":["x"]}',
        41,
        7,
    )
    assert (await intent.container("team", ids["creating"][:8])).phase == "creating"
    assert (await intent.container("team", ids["removing"])).phase == "removing"
    with pytest.raises(NotFound):
        await intent.container("team", "c-removing")
    with pytest.raises(FailedPrecondition):
        await intent.begin(Origin("team"), ContainerWish(ids["gone"], "again", "localhost/a:1", DIGEST, "h1", "{}"))
    found = await intent.image("team", "localhost/a:1")
    assert (found.digest, found.size_bytes, found.revision, found.updated_at[:10]) == (DIGEST, 7, 41, "2026-01-02")
    (event,) = await intent.outgoing(0, 10)
    assert (event.sequence, event.number, event.topic) == (9, 4, "/images/update")
    await intent.remove_image(Origin("team"), "localhost/a:1")
    assert [(event.sequence, event.number) for event in await intent.outgoing(0, 10)] == [(9, 4), (10, 5)]
    assert await intent.store.read(lambda view: dict(view.occupants("team"))) == {"container": 2}
    assert await intent.store.read(lambda view: view.get(Key("namespace", "", "team"))) is not None
    edges = await intent.store.read(lambda view: {edge for key, edge in view.edges() if key.name == ids["created"]})
    assert edges == {Edge("content", DIGEST, "image"), Edge("snapshot/*", ids["created"], "snapshot_key")}
    await intent.close()
    assert sqlite_check.check(path) == []


async def test_upgrade_goes_on_with_the_numbers_of_events_that_were_sent(tmp_path: Path) -> None:
    """An object whose events have all been sent is numbered on after an upgrade, and never from one again."""
    path = tmp_path / "metadata.db"
    store_of_version_1(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM outbox")
    connection.close()
    for _ in range(2):  # each start forgets old numbers
        await Intent(SqliteStore(path)).close()
    intent = Intent(SqliteStore(path))
    await intent.remove_image(Origin("team"), "localhost/a:1")
    assert [(event.sequence, event.number) for event in await intent.outgoing(0, 10)] == [(10, 5)]
    await intent.close()


async def test_request_begun_before_an_upgrade_and_repeated_after_it_is_the_same(tmp_path: Path) -> None:
    """Who repeats a request because the service was restarted by its upgrade gets the answer, and another is a conflict."""
    path = tmp_path / "metadata.db"
    ids = store_of_version_1(path)
    spec = '{"args":["x"],"labels":{"tier":"web"}}'
    wish = ContainerWish(ids["created"], "c-created", "localhost/a:1", DIGEST, "h1", spec, labels={"tier": "web"})
    first = {"id": wish.id, "name": wish.name, "reference": wish.reference, "digest": DIGEST, "host": "h1"}
    image_wish = {"reference": "localhost/a:1", "digest": DIGEST, "media_type": "m", "size_bytes": 1}
    answer = {"namespace": "team", **image_wish, "revision": 41, "created_at": "", "updated_at": ""}
    with sqlite3.connect(path) as connection:
        hashed = hash_of_version_1({**first, "spec": spec, "lease_s": 60.0})
        connection.execute("UPDATE containers SET wish_hash = ?, spec = ? WHERE id = ?", (hashed, spec, wish.id))
        kept = (hash_of_version_1({**image_wish, "if_revision": None}), json.dumps(answer))
        connection.execute("UPDATE requests SET body_hash = ?, result = ?", kept)
    connection.close()
    intent = Intent(SqliteStore(path))
    again = await intent.begin(Origin("team", "test"), wish)
    assert (again.id, again.phase, again.revision) == (wish.id, "created", 41)
    for other in (replace(wish, spec="{}"), replace(wish, labels={"tier": "db"}), replace(wish, runtime="runsc")):
        with pytest.raises(Conflict):
            await intent.begin(Origin("team", "test"), other)
    put = await intent.put_image(Origin("team", "test", "r1"), image())
    assert put.revision == 41
    with pytest.raises(Conflict):
        await intent.put_image(Origin("team", "test", "r1"), replace(image(), labels={"a": "b"}))
    await intent.close()


async def test_labels_of_containers_come_with_an_upgrade(tmp_path: Path) -> None:
    """A container's labels are found by filters after an upgrade, and what they refer to is kept."""
    path, blob = tmp_path / "metadata.db", "sha256:" + "c" * 64
    ids = store_of_version_1(path)
    labels = {"tier": "web", "containerd.io/gc.ref.content.x": blob}
    with sqlite3.connect(path) as connection:
        spec = json.dumps({"labels": labels})
        connection.execute("UPDATE containers SET spec = ? WHERE id = ?", (spec, ids["created"]))
        connection.execute("UPDATE containers SET spec = ? WHERE id = ?", ('"no object"', ids["creating"]))
    connection.close()
    intent = Intent(SqliteStore(path))
    found = (await intent.containers("team", "", 10, ["labels.tier==web"])).records
    assert [(record.id, record.labels) for record in found] == [(ids["created"], labels)]
    edges = await intent.store.read(lambda view: {edge for key, edge in view.edges() if key.name == ids["created"]})
    assert Edge("content", blob, "containerd.io/gc.ref.content.x") in edges
    await intent.close()
    assert sqlite_check.check(path) == []


def test_upgrade_says_from_which_version_to_which(tmp_path: Path) -> None:
    """An upgrade by hand is the one that opening makes, and may be repeated."""
    path = tmp_path / "metadata.db"
    store_of_version_1(path)
    assert StoreFile(path).upgrade() == (1, VERSION)
    assert StoreFile(path).upgrade() == (VERSION, VERSION)


async def test_backup_of_a_store_at_work_is_one_state_of_it(tmp_path: Path) -> None:
    """While changes go on a backup is written that is whole, and no change waits for it."""
    path, target = tmp_path / "metadata.db", tmp_path / "backup.db"
    intent = await filled(path)
    going = asyncio.Event()

    async def work() -> int:
        number = 0
        while not going.is_set():
            await intent.put_image(asks(), image(f"localhost/n:{number}"))
            number += 1
        return number

    working = asyncio.create_task(work())
    try:
        size = await asyncio.to_thread(sqlite_backup.backup, path, target)
    finally:
        going.set()
    assert await working > 0
    await intent.close()
    assert size == target.stat().st_size
    assert target.stat().st_mode & 0o777 == 0o600
    assert sqlite_check.check(target) == []
    assert not [name for name in content(tmp_path) if "new" in name]


async def test_backup_never_takes_the_place_of_a_file(tmp_path: Path) -> None:
    """A name that is taken, or can't be a file's, is refused, and nothing is changed."""
    path, target = tmp_path / "metadata.db", tmp_path / "taken"
    await (await filled(path)).close()
    target.write_text("mine")
    with pytest.raises(AlreadyExists):
        sqlite_backup.backup(path, target)
    assert target.read_text() == "mine"
    for wrong in (Path("relative"), tmp_path / "none" / "backup"):
        with pytest.raises(InvalidArgument):
            sqlite_backup.backup(path, wrong)


async def test_restored_store_has_the_records_of_then_and_a_later_era(tmp_path: Path) -> None:
    """What happened since the backup is undone, the store before is kept, and old commands are older than new ones."""
    path, target = tmp_path / "metadata.db", tmp_path / "backup.db"
    intent = await filled(path)
    sqlite_backup.backup(path, target)
    era, store_id = intent.era, intent.store_id
    await intent.remove_image(asks(), "localhost/a:1")
    await intent.close()
    before = sqlite_backup.restore(target, path)
    assert before is not None and before.exists()
    intent = Intent(SqliteStore(path))
    assert (await intent.image("default", "localhost/a:1")).digest == DIGEST
    assert (intent.store_id, intent.era) == (store_id, era + 1)
    await intent.close()
    again = sqlite_backup.restore(target, path)
    assert again is not None and again != before
    intent = Intent(SqliteStore(path))
    assert intent.era == era + 2, "higher than any era before, not only the backup's"
    await intent.close()


async def test_copy_put_back_by_hand_is_a_restored_store(tmp_path: Path) -> None:
    """An older copy of the file gets a later era, so that nothing is collected for what it has forgotten."""
    path, copy = tmp_path / "metadata.db", tmp_path / "copy.db"
    intent = await filled(path)
    await intent.close()
    shutil.copy(path, copy)
    intent = Intent(SqliteStore(path))
    assert intent.era == 1, "the store itself, as it was left"
    await intent.put_image(asks(), image("localhost/b:1"))
    await intent.close()
    shutil.copy(copy, path)
    intent = Intent(SqliteStore(path))
    assert intent.era == 2
    await intent.close()
    intent = Intent(SqliteStore(path))
    assert intent.era == 2, "it is no older than itself"
    await intent.close()


async def test_store_at_the_place_of_another_is_not_compared_with_it(tmp_path: Path) -> None:
    """A new store where another was moved away begins as any new one; what can't be read says nothing."""
    path = tmp_path / "metadata.db"
    await (await filled(path)).close()
    path.unlink()
    intent = await filled(path)
    assert intent.era == 1
    await intent.close()
    (tmp_path / "metadata.db.seen").write_bytes(b"nonsense")
    intent = Intent(SqliteStore(path))
    assert intent.era == 1
    await intent.close()


async def test_restore_takes_the_log_of_a_store_that_was_killed(tmp_path: Path) -> None:
    """What was acknowledged before a kill and lies in the log beside the file is restored with it."""
    path, killed = tmp_path / "metadata.db", tmp_path / "killed.db"
    intent = await filled(path)
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", f"{killed}{ending}")
    assert (tmp_path / "killed.db-wal").stat().st_size > 0
    await intent.close()
    sqlite_backup.restore(killed, path)
    intent = Intent(SqliteStore(path))
    assert (await intent.image("default", "localhost/a:1")).digest == DIGEST
    await intent.close()


@pytest.mark.parametrize("damage", ["missing", "other program", "cut", "newer"])
async def test_bad_backup_is_refused_and_the_store_left_alone(tmp_path: Path, damage: str) -> None:
    """Whatever is wrong with a backup is told before anything is changed, and nothing is left behind."""
    path, target = tmp_path / "metadata.db", tmp_path / "backup.db"
    intent = await filled(path)
    if damage != "missing":
        sqlite_backup.backup(path, target)
    await intent.close()
    if damage == "cut":
        with target.open("r+b") as file:
            file.truncate(target.stat().st_size // 2)
    elif damage != "missing":
        change = (
            "PRAGMA application_id = 1" if damage == "other program" else "INSERT INTO schema_version VALUES (99, '')"
        )
        with sqlite3.connect(target) as connection:
            connection.execute(change)
        connection.close()
    before = content(tmp_path)
    with pytest.raises((NotFound, DataLoss, FailedPrecondition)) as raised:
        sqlite_backup.restore(target, path)
    assert content(tmp_path) == before
    error = raised.value
    assert str(target) in error.message
    assert error.outcome == "not started"
    assert "restored" not in f"{error.message} {error.cause} {error.next_step}", "it names what the user knows"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("DELETE FROM records WHERE kind = 'container'", "a unique name of container"),
        ("DELETE FROM records WHERE kind = 'image'", "a reference of image"),
        ("UPDATE occupants SET count = 7 WHERE kind = 'image'", "counted are 7"),
        ("UPDATE store SET revision = 0", "later revision"),
        ("UPDATE outbox SET number = 99", "never given"),
    ],
)
async def test_check_finds_what_does_not_fit_together(tmp_path: Path, damage: str, says: str) -> None:
    """Tables that contradict each other are found, each with what is wrong."""
    path = tmp_path / "metadata.db"
    await (await filled(path)).close()
    assert sqlite_check.check(path) == []
    with sqlite3.connect(path) as connection:
        connection.execute(damage)
    connection.close()
    assert any(says in finding for finding in sqlite_check.check(path))


async def test_store_that_was_moved_is_not_opened(tmp_path: Path) -> None:
    """After its records went elsewhere a store says where, and nobody works on the old copy by mistake."""
    path = tmp_path / "metadata.db"
    await (await filled(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE store SET moved_to = 'redis://db1:6379/0?prefix=default'")
    connection.close()
    with pytest.raises(FailedPrecondition) as refused:
        SqliteStore(path)
    assert "redis://db1:6379/0" in refused.value.message
    assert "HYTHE_METADATA_URL" in refused.value.next_step


def maintenance(path: Path, *arguments: str, failpoints: str = "") -> subprocess.CompletedProcess[str]:
    """Run the maintenance of a store."""
    command = [sys.executable, "-m", "hythe_metadata.maintenance", "--store", str(path), *arguments]
    environment = {"PATH": os.defpath, "HYTHE_FAILPOINTS": failpoints}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


async def test_restore_that_is_killed_leaves_the_store_of_before(tmp_path: Path) -> None:
    """However a restore ends there is a whole store in its place, the one of before or the backup, and it may be repeated."""
    path, target = tmp_path / "root" / "metadata.db", tmp_path / "backup.db"
    path.parent.mkdir()
    intent = await filled(path)
    sqlite_backup.backup(path, target)
    await intent.put_image(asks(), image("localhost/since:1"))
    identity = intent.store_id, intent.era
    await intent.close()
    assert maintenance(path, "restore", str(target), failpoints="metadata.restore=kill").returncode == -signal.SIGKILL
    intent = Intent(SqliteStore(path))
    assert (intent.store_id, intent.era) == identity
    assert (await intent.image("default", "localhost/since:1")).digest == DIGEST
    await intent.close()
    assert maintenance(path, "restore", str(target)).returncode == 0
    intent = Intent(SqliteStore(path))
    assert (intent.store_id, intent.era) == (identity[0], identity[1] + 1)
    with pytest.raises(NotFound):
        await intent.image("default", "localhost/since:1")
    await intent.close()
    assert not list(path.parent.glob("*.restored*"))


def copied(path: Path, directory: Path) -> Path:
    """Copy a store with its log as it is now, as a kill would leave it, into the new `directory`."""
    directory.mkdir()
    for part in path.parent.glob(f"{path.name}*"):
        shutil.copy(part, directory)
    return directory


async def test_store_before_a_restore_is_kept_whole(tmp_path: Path) -> None:
    """What a restore replaced can itself be restored, also when it was never brought to rest."""
    path, target = tmp_path / "metadata.db", tmp_path / "backup.db"
    intent = await filled(path)
    sqlite_backup.backup(path, target)
    await intent.put_image(asks(), image("localhost/since:1"))
    killed = copied(path, tmp_path / "killed")
    await intent.close()
    assert (killed / "metadata.db-wal").stat().st_size > 0, "as after a kill"
    before = sqlite_backup.restore(target, killed / "metadata.db")
    assert before is not None
    assert sqlite_backup.restore(before, killed / "metadata.db") != before
    intent = Intent(SqliteStore(killed / "metadata.db"))
    assert (await intent.image("default", "localhost/since:1")).digest == DIGEST
    await intent.close()


@pytest.mark.parametrize(("version", "advice"), [(99, "newer version"), (1, "hythe metadata upgrade")])
async def test_store_of_another_version_is_not_called_whole(tmp_path: Path, version: int, advice: str) -> None:
    """A check says of a store that it doesn't know that it can't check it, and what to do."""
    path = tmp_path / "metadata.db"
    await (await filled(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE schema_version SET version = ?", (version,))
    connection.close()
    with pytest.raises(FailedPrecondition) as raised:
        sqlite_check.check(path)
    assert advice in raised.value.next_step


async def test_maintenance_speaks_json_and_says_what_went_wrong(tmp_path: Path) -> None:
    """What `hythe metadata` runs answers in JSON, and an error has its code, its cause and what to do."""
    path = tmp_path / "root" / "metadata.db"
    path.parent.mkdir()
    missing = maintenance(path, "check")
    assert missing.returncode == 1
    assert json.loads(missing.stderr)["code"] == "NotFound"
    assert json.loads(missing.stderr)["outcome"] == "not started"
    await (await filled(path)).close()
    done = maintenance(path, "backup", str(tmp_path / "b"))
    assert json.loads(done.stdout)["target"] == str(tmp_path / "b")
    assert json.loads(maintenance(path, "check").stdout) == {"findings": []}
    assert json.loads(maintenance(path, "upgrade").stdout) == {"from": VERSION, "to": VERSION}
    assert json.loads(maintenance(path, "restore", str(tmp_path / "b")).stdout)["restored"] == str(path)


async def test_store_that_cannot_be_read_is_replaced_by_one_of_a_later_era(tmp_path: Path) -> None:
    """Whatever era a damaged store had, the one that is restored in its place has a later one."""
    path, target = tmp_path / "metadata.db", tmp_path / "backup.db"
    intent = await filled(path)
    sqlite_backup.backup(path, target)
    await intent.close()
    sqlite_backup.restore(target, path)
    sqlite_backup.restore(target, path)
    path.write_bytes(b"x" * 8192)
    sqlite_backup.restore(target, path)
    intent = Intent(SqliteStore(path))
    assert intent.era > 3
    await intent.close()


async def test_refused_maintenance_says_that_nothing_was_done(tmp_path: Path) -> None:
    """What is refused before it begins isn't told as something that may have happened."""
    path = tmp_path / "metadata.db"
    await (await filled(path)).close()
    refused = maintenance(path, "backup", str(path))
    assert json.loads(refused.stderr)["outcome"] == "not started"


@pytest.mark.parametrize("step", ["backup", "restore"])
async def test_file_that_cannot_be_written_is_told_with_what_to_do(
    small_disk: Callable[[int], Path], step: str
) -> None:
    """A full disk under a backup or a restore is said as such, and leaves no half of a file and the store as it was."""
    disk = small_disk(8)
    path = (disk if step == "restore" else disk.parent / f"store-{new_id()}") / "metadata.db"
    path.parent.mkdir(exist_ok=True)
    await (await filled(path)).close()
    target = (disk.parent if step == "restore" else disk) / f"backup-{new_id()}"
    if step == "restore":
        assert maintenance(path, "backup", str(target)).returncode == 0
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    (path.parent / ".lock").touch()
    before = content(disk)
    done = maintenance(path, step, str(target))
    problem = json.loads(done.stderr)
    assert (done.returncode, problem["code"]) == (1, "ResourceExhausted"), done.stderr
    assert problem["next_step"].startswith("make room")
    assert content(disk) == before
