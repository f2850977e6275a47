"""The watcher of a Redis store: what it calls for, and what it leaves to the process that made the change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from hythe_metadata.adapters import redis_keys as keys
from hythe_metadata.adapters.redis_watcher import TICK_S, Watcher
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import eventually

PROCESS = "aaaa"


@contextmanager
def watching(server: RedisServer, prefix: str, mark: str) -> Iterator[list[float]]:
    """Watch a store whose first change bears `mark` and was told to nobody; gives after how many seconds it was called for."""
    server.command("HSET", keys.keys_of(prefix)[0], "revision", "1", "mark", mark)
    calls: list[float] = []
    begun = time.monotonic()
    watcher = Watcher(server.place(prefix), PROCESS, 0, lambda: calls.append(time.monotonic() - begun))
    try:
        yield calls
    finally:
        watcher.close()


def test_missed_change_of_another_process_is_called_for_at_once(redis_server: RedisServer) -> None:
    """The first look is when listening begins, and what is found then isn't called for again."""
    with watching(redis_server, "watched-other", "bbbb.1") as calls:
        eventually(lambda: bool(calls))
        time.sleep(2 * TICK_S)
    assert len(calls) == 1


def test_change_of_the_process_itself_is_left_to_it(redis_server: RedisServer) -> None:
    """Only a second look calls for it, for then its answer may have been lost; and only once."""
    with watching(redis_server, "watched-own", f"{PROCESS}.1") as calls:
        eventually(lambda: bool(calls))
        time.sleep(2 * TICK_S)
    assert len(calls) == 1
    assert calls[0] >= TICK_S
