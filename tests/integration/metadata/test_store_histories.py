"""Every body of the metadata store against the model: random operations and interleavings, kills between and during them.

A longer run: HYTHE_TEST_HISTORIES=50 (histories of each test; 1 by default), HYTHE_TEST_SEED=… (where seeds begin).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hythe_metadata.records import Key, RecordStore, Transaction, Work
from hythe_metadata.wiring import open_store
from tests.fixtures.histories import Event, Operation, explain, make, perform, snapshot
from tests.fixtures.redis import RedisServer, lenient_library
from tests.fixtures.waiting import eventually
from tests.integration.metadata import history_process

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = Path(history_process.__file__)
FIRST_SEED = int(os.environ.get("HYTHE_TEST_SEED", "1"))
SEEDS = range(FIRST_SEED, FIRST_SEED + int(os.environ.get("HYTHE_TEST_HISTORIES", "1")))
BODIES = ("redis", "sqlite")

MakeUrl = Callable[[], str]


@pytest.fixture(params=BODIES)
def make_url(request: pytest.FixtureRequest, tmp_path: Path) -> MakeUrl:
    """A function that returns the URL of a store that isn't there yet."""
    if request.param == "sqlite":
        return lambda: f"sqlite://{tmp_path}/{uuid.uuid4().hex}.db"
    server: RedisServer = request.getfixturevalue("shared_redis")
    return lambda: server.url(prefix=uuid.uuid4().hex)


def opened(url: str) -> RecordStore:
    """Return the store at a URL, which the caller closes."""
    return open_store(url, Path("/nowhere"))


class Runner:
    """A process that carries out random operations, and what it has said."""

    def __init__(self, url: str, name: str, seed: int, callers: int, operations: int = 0) -> None:
        """Start it; a thread hears what it says, first that it is ready."""
        self.lines = 0
        self.finished = False
        self._asked: dict[str, Operation] = {}
        self._answered: dict[str, Event] = {}
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), url, name, str(seed), str(callers), str(operations)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    @property
    def history(self) -> list[Event]:
        """What it asked until its end, with what came of it: ``unknown`` where no answer was heard."""
        return [self._answered.get(name, Event(operation, "unknown")) for name, operation in self._asked.items()]

    def begin(self) -> Runner:
        """Have it begin when it is ready; return it."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"begin\n")
        self._process.stdin.close()
        return self

    def kill(self) -> None:
        """Kill it, and hear what it said before."""
        self._process.send_signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        """Wait until it has ended by itself."""
        self._process.wait(30)
        self._thread.join()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                if line.endswith(b"\n"):
                    self._hear(json.loads(line))
                    self.lines += 1

    def _hear(self, words: list[object]) -> None:
        match words:
            case ["asked", dict(operation)]:
                self._asked[operation["id"]] = operation
            case ["answered", str(name), str(outcome), int(seen), result]:
                self._answered[name] = Event(self._asked[name], outcome, seen, result)
            case ["finished"]:
                self.finished = True


def hear(runners: list[Runner], lines: int) -> None:
    """Wait until so many more lines were heard from the runners together."""
    begun = sum(runner.lines for runner in runners)
    eventually(lambda: sum(runner.lines for runner in runners) >= begun + lines, what="the runners go on")


async def explained(history: list[Event], url: str) -> None:
    """Assert that a history which says something explains what is in the store."""
    assert sum(event.outcome == "done" for event in history) > 50
    store = opened(url)
    await explain(history, await snapshot(store))
    await store.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_operations_one_by_one_do_what_the_model_does(make_url: MakeUrl, seed: int) -> None:
    """Whatever is asked of a store, it answers as the model does, and holds the same afterwards, also when opened again."""
    rng = random.Random(seed)
    url = make_url()
    store = opened(url)
    history: list[Event] = []
    revisions: dict[Key, int] = {}
    for count in range(300):
        operation = make(rng, f"o{count}", revisions)
        history.append(await perform(store, operation))
        for step in operation["steps"]:
            key = Key(*step["key"])
            stored = await store.read(lambda view, key=key: view.get(key))  # type: ignore[misc]
            revisions[key] = stored.revision if stored else 0
        if count % 50 == 49:
            await store.close()
            store = opened(url)
    assert {"done", "refused"} == {event.outcome for event in history}
    await explain(history, await snapshot(store))
    await store.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_operations_at_the_same_time_have_an_order(make_url: MakeUrl, seed: int) -> None:
    """Whatever many callers of one process ask at once, it is as if one had come after another, in the order of revisions."""
    store = opened(make_url())

    async def caller(number: int) -> list[Event]:
        rng = random.Random(f"{seed} {number}")
        history = []
        for count in range(25):
            operation = make(rng, f"{number}-{count}", {})
            history.append(await perform(store, operation))
        return history

    histories = await asyncio.gather(*(caller(number) for number in range(16)))
    await explain([event for history in histories for event in history], await snapshot(store))
    await store.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_killed_between_and_during_operations_loses_nothing(make_url: MakeUrl, seed: int) -> None:
    """After each kill -9 of the store's process all that was acknowledged is there, whole, and nothing is there twice."""
    rng = random.Random(seed)
    url = make_url()
    history: list[Event] = []
    for life in range(4):
        runner = Runner(url, f"life{life}", seed, callers=8).begin()
        hear([runner], rng.randrange(100, 400))
        runner.kill()
        history += runner.history
    await explained(history, url)


@pytest.mark.parametrize("seed", SEEDS)
async def test_processes_on_one_redis_have_one_order(shared_redis: RedisServer, seed: int) -> None:
    """What several processes ask of one Redis has one order, whichever of them is killed in the middle."""
    rng = random.Random(seed)
    url = shared_redis.url(prefix=uuid.uuid4().hex)
    runners = [Runner(url, name, seed, callers=4).begin() for name in ("left", "right")]
    history: list[Event] = []
    for life in range(3):
        hear(runners, rng.randrange(100, 300))
        killed = runners.pop(rng.randrange(2))
        killed.kill()
        history += killed.history
        runners.append(Runner(url, f"again{life}", seed, callers=4).begin())
    hear(runners, 200)
    for runner in runners:
        runner.kill()
        history += runner.history
    await explained(history, url)


@pytest.mark.parametrize("seed", SEEDS)
async def test_redis_killed_in_the_middle_loses_nothing(start_redis: Callable[..., RedisServer], seed: int) -> None:
    """When redis-server itself is killed and started again, each answer that was given is true, and all goes on by itself."""
    rng = random.Random(seed)
    server = start_redis()
    runners = [Runner(server.url(), name, seed, callers=6).begin() for name in ("left", "right")]
    for _ in range(3):
        hear(runners, rng.randrange(100, 400))
        server.kill()
        if rng.random() < 0.5:
            hear(runners, 50)
        server.start()
    hear(runners, 200)
    history: list[Event] = []
    for runner in runners:
        runner.kill()
        history += runner.history
    assert "not started" in {event.outcome for event in history}
    store = opened(server.url())
    await explain(history, await snapshot(store))
    await store.close()


async def test_store_that_ignores_what_others_changed_is_found_out(start_redis: Callable[..., RedisServer]) -> None:
    """The check of histories isn't empty: a server that takes a change made on an old state doesn't pass it."""
    server = start_redis()
    assert await why_unexplained(server.url()) == ""
    server.command("FUNCTION", "LOAD", "REPLACE", lenient_library())
    assert await why_unexplained(server.url("lenient")) != ""


async def why_unexplained(url: str) -> str:
    """Return why a history can't be explained in which one writer decides before another's change, and is told after it.

    Empty if it can be explained.
    """
    slow, quick = opened(url), opened(url)
    decided, told = threading.Event(), threading.Event()
    step = {
        "verb": "put",
        "key": ["image", "a", "n1"],
        "expect": 0,
        "bulk": "",
        "unique": {},
        "everywhere": {},
        "edges": [],
    }
    operations = [{"id": name, "abort": False, "steps": [{**step, "body": name}]} for name in ("slow", "quick")]

    class Slow:
        """The slow writer's store: it makes up its mind, then waits."""

        async def change(self, work: Work[Any]) -> Any:
            """See `RecordStore.change`."""

            def waits(transaction: Transaction) -> Any:
                result = work(transaction)
                decided.set()
                told.wait(10)
                return result

            return await slow.change(waits)

    waiting = asyncio.create_task(perform(Slow(), operations[0]))
    await asyncio.to_thread(decided.wait, 10)
    history = [await perform(quick, operations[1])]
    told.set()
    history.append(await waiting)
    try:
        await explain(history, await snapshot(quick))
    except AssertionError as error:
        return str(error)
    finally:
        await slow.close()
        await quick.close()
    return ""
