"""Moving a metadata store from one body to another: all of it arrives, and there are never two."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hythe.errors import DataLoss, FailedPrecondition, HytheError, InvalidArgument, Unavailable
from hythe.ports.metadata import Origin
from hythe_metadata.adapters.moving import move, unmove
from hythe_metadata.adapters.redis_keys import keys_of
from hythe_metadata.changes import Happening
from hythe_metadata.records import Key, RecordStore, Transaction
from hythe_metadata.wiring import open_store
from tests.fixtures.histories import Snapshot, make, perform, snapshot
from tests.fixtures.redis import RedisServer

NOWHERE = Path("/nowhere")
CROSSINGS = [("sqlite", "redis"), ("redis", "sqlite"), ("redis", "redis")]


@pytest.fixture
def url_of(redis_server: RedisServer, tmp_path: Path) -> Callable[[str, str], str]:
    """A function that returns the URL of a place of a body, by name."""
    return lambda body, name: redis_server.url(name) if body == "redis" else f"sqlite://{tmp_path}/{name}/metadata.db"


def opened(url: str) -> RecordStore:
    """Return the store at a URL, which the caller closes."""
    if url.startswith("sqlite:"):
        Path(url.removeprefix("sqlite://")).parent.mkdir(exist_ok=True)
    return open_store(url, NOWHERE)


async def filled(url: str) -> tuple[str, int, Snapshot]:
    """Fill a store with random records and events, some of which are sent; return its id, its era and what it holds."""
    rng = random.Random(url.partition(":")[0])
    store = opened(url)
    for number in range(120):
        await perform(store, make(rng, f"o{number}", {}))
    store.sent([event.sequence for event in await store.outgoing(0, 5)])

    def keep(transaction: Transaction) -> None:
        transaction.put(Key("lease", "a", "kept"), "{}", keep_s=3600)
        transaction.put(Key("request", "", "big"), "{}", bulk="x" * 500_000)

    await store.change(keep)
    await store.close()
    store = opened(url)
    found = store.store_id, store.era, await snapshot(store)
    await store.close()
    return found


@pytest.mark.parametrize(("before", "after"), CROSSINGS)
async def test_moved_store_is_the_same_store(url_of: Callable[[str, str], str], before: str, after: str) -> None:
    """Records, names, references, counts, revisions, events and their numbers arrive; the era is one higher."""
    source, target = url_of(before, "source"), url_of(after, "target")
    store_id, era, held = await filled(source)
    done = move(source, target, NOWHERE)
    assert (done["store_id"], done["era"], done["revision"]) == (store_id, era + 1, held.revision)
    store = opened(target)
    assert (store.store_id, store.era) == (store_id, era + 1)
    held.changes = []  # the log of a copy begins where the store was
    assert await snapshot(store, changes_after=held.revision) == held
    last = {(space, noun, name): number for space, noun, name, number in held.events}
    (space, noun, name), number = max(last.items())
    await store.change(lambda t: t.emit(Origin(space, "test"), Happening(noun, name, "updated", "/test")))
    event = (await store.outgoing(0, 1_000_000))[-1]
    assert (event.object_id, event.number) == (name, number + 1)
    told = await store.read(lambda view: view.moment.revision)
    assert told == held.revision + 2
    await store.close()


@pytest.mark.parametrize(("before", "after"), CROSSINGS)
async def test_store_that_was_moved_refuses_until_that_is_undone(
    url_of: Callable[[str, str], str], before: str, after: str
) -> None:
    """Opening a store that was moved is refused with where it is; undoing that brings it back as it was left."""
    source, target = url_of(before, "source"), url_of(after, "target")
    _, era, held = await filled(source)
    move(source, target, NOWHERE)
    with pytest.raises(FailedPrecondition, match="moved to"):
        opened(source)
    with pytest.raises(FailedPrecondition, match="moved to"):
        move(source, url_of(after, "third"), NOWHERE)
    unmove(source, NOWHERE)
    store = opened(source)
    assert store.era == era
    assert await snapshot(store) == held
    await store.close()


async def test_there_and_back_again_is_what_it_was(url_of: Callable[[str, str], str]) -> None:
    """A store that is moved to Redis and back to SQLite is the same, two eras later."""
    source, middle, target = url_of("sqlite", "source"), url_of("redis", "middle"), url_of("sqlite", "target")
    store_id, era, held = await filled(source)
    move(source, middle, NOWHERE)
    move(middle, target, NOWHERE)
    store = opened(target)
    assert (store.store_id, store.era) == (store_id, era + 2)
    held.changes = []
    assert await snapshot(store, changes_after=held.revision) == held
    await store.close()


@pytest.mark.parametrize("body", ["sqlite", "redis"])
async def test_place_that_is_not_empty_is_left_alone(url_of: Callable[[str, str], str], body: str) -> None:
    """A store is never written over another, and stays usable when its move was refused."""
    source, target = url_of("redis", "source"), url_of(body, "target")
    _, _, held = await filled(source)
    _, _, other = await filled(target)
    with pytest.raises(FailedPrecondition, match="is there"):
        move(source, target, NOWHERE)
    for url, expected in ((source, held), (target, other)):
        store = opened(url)
        assert await snapshot(store) == expected
        await store.close()


def stores_below(directory: Path) -> list[Path]:
    """Return the files of SQLite stores below a directory, unfinished ones too."""
    return list(directory.rglob("metadata.db*"))


async def test_store_in_use_is_not_moved(url_of: Callable[[str, str], str], tmp_path: Path) -> None:
    """While a process uses a store in Redis it can't be moved, and goes on as if nobody had tried."""
    source = url_of("redis", "source")
    store = opened(source)
    with pytest.raises(FailedPrecondition, match="1 hythe-metadata processes use it"):
        move(source, url_of("sqlite", "target"), NOWHERE)
    await store.change(lambda transaction: transaction.put(Key("image", "a", "n"), "{}"))
    await store.close()
    assert stores_below(tmp_path) == []


async def test_file_that_another_program_has_open_is_not_moved(url_of: Callable[[str, str], str]) -> None:
    """While anything has the file of a store open it can't be moved, and goes on as if nobody had tried."""
    source = url_of("sqlite", "source")
    store = opened(source)
    await store.change(lambda transaction: transaction.put(Key("image", "a", "n"), "1"))
    with pytest.raises(Unavailable, match="another program"):
        move(source, url_of("redis", "target"), NOWHERE)
    await store.change(lambda transaction: transaction.put(Key("image", "a", "n"), "2"))
    await store.close()
    assert move(source, url_of("redis", "target"), NOWHERE)["records"] == 1


async def test_source_that_does_not_agree_with_itself_is_not_moved(
    redis_server: RedisServer, url_of: Callable[[str, str], str]
) -> None:
    """A store of which a part is missing isn't moved: what is wrong is said, and both places are as they were."""
    source, target = url_of("redis", "source"), url_of("redis", "target")
    await filled(source)
    key = dict(zip(("store", "body", "bulk", "unique", "edges", "names"), keys_of("source"), strict=False))
    redis_server.command("ZADD", key["names"], "0", "image\0a\0nobody")
    with pytest.raises(DataLoss, match="image nobody"):
        move(source, target, NOWHERE)
    redis_server.command("ZREM", key["names"], "image\0a\0nobody")
    assert move(source, target, NOWHERE)["records"] > 10


async def test_same_place_is_refused(url_of: Callable[[str, str], str]) -> None:
    """A store can't be moved to where it is."""
    source = url_of("redis", "source")
    await filled(source)
    with pytest.raises(InvalidArgument):
        move(source, source, NOWHERE)


def test_mover_says_what_it_did_and_what_failed(url_of: Callable[[str, str], str], tmp_path: Path) -> None:
    """The program answers with one line of JSON, and tells errors the same way, without any password."""
    root = tmp_path / "root"
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "HYTHE_ROOT": str(root),
        "HYTHE_CONFIG": str(tmp_path / "none.toml"),
        "HYTHE_METADATA_COPY_TO": url_of("redis", "target"),
    }
    (tmp_path / "none.toml").touch()
    command = [sys.executable, "-m", "hythe_metadata.adapters.moving", "copy"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    problem = json.loads(done.stderr)
    assert problem["code"] == "FailedPrecondition"
    assert "there is none" in problem["message"]
    environment["HYTHE_METADATA_COPY_TO"] = "redis://user:sesame@127.0.0.1:1/0"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "sesame" not in done.stdout + done.stderr
    with pytest.raises(HytheError):
        move("", "nothing", root / "metadata.db")


def test_command_moves_and_takes_back(url_of: Callable[[str, str], str], tmp_path: Path) -> None:
    """`hythe metadata copy` moves the records of the stack and says what is next; `hythe metadata unmove` takes it back."""
    (tmp_path / "hythe.toml").touch()
    root = tmp_path / "root"
    (root / "metadata").mkdir(parents=True)
    asyncio.run(filled(f"sqlite://{root}/metadata/metadata.db"))
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "HYTHE_ROOT": str(root),
        "HYTHE_CONFIG": str(tmp_path / "hythe.toml"),
    }

    def hythe(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from hythe.cli.main import entry; entry()", "metadata", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    moved = hythe("copy", "--to", url_of("redis", "target"))
    assert moved.returncode == 0, moved.stderr
    assert "HYTHE_METADATA_URL" in moved.stderr
    assert url_of("redis", "target").partition("?")[0] in moved.stdout
    again = hythe("copy", "--to", url_of("redis", "other"))
    assert again.returncode != 0
    assert "moved to" in again.stderr
    back = hythe("unmove")
    assert back.returncode == 0, back.stderr
    store = opened(f"sqlite://{root}/metadata/metadata.db")
    assert store.era == 1
    asyncio.run(store.close())
