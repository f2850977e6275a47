"""What the Redis body demands of its server, and what it does when the server fails, goes and comes back."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from hythe.errors import DataLoss, FailedPrecondition, HytheError, ResourceExhausted, Unavailable
from hythe_metadata.adapters.redis_keys import keys_of
from hythe_metadata.adapters.redis_store import RedisStore
from hythe_metadata.adapters.store_url import RedisPlace, read_url
from hythe_metadata.records import Edge, Key, Transaction, Work
from tests.fakes.tls import Authority
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import eventually_async, freeze, until

KEY = Key("image", "a", "n")
AT_ONCE_S = 3.0

StartRedis = Callable[..., RedisServer]


@asynccontextmanager
async def opened(place: RedisPlace, **options: object) -> AsyncIterator[RedisStore]:
    """Open a store for the duration of a block."""
    store = RedisStore(place, **options)  # type: ignore[arg-type]
    try:
        yield store
    finally:
        await store.close()


def put(body: str, key: Key = KEY, keep_s: float = 0.0) -> Work[int]:
    """Return a work that writes a record."""

    def work(transaction: Transaction) -> int:
        transaction.put(key, body, keep_s=keep_s)
        return transaction.moment.revision

    return work


def count(transaction: Transaction) -> None:
    """Raise a counter: what is done twice shows."""
    present = transaction.get(KEY)
    transaction.put(KEY, str(int(present.body) + 1 if present else 1))


async def body_of(store: RedisStore, key: Key = KEY) -> str | None:
    """Return the body of a record, None if there is none."""
    found = await store.read(lambda view: view.get(key))
    return found.body if found else None


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--appendonly", "no"), "appendonly yes"),
        (("--appendfsync", "everysec"), "appendfsync always"),
        (("--maxmemory-policy", "allkeys-lru"), "maxmemory-policy noeviction"),
        (("--cluster-enabled", "yes"), "single redis-server"),
        (("--replicaof", "127.0.0.1 1"), "primary"),
    ],
)
def test_server_that_may_lose_records_is_refused(start_redis: StartRedis, options: tuple[str, ...], named: str) -> None:
    """A Redis that isn't set up to keep what it acknowledged is refused, with what to set."""
    server = start_redis(*options)
    with pytest.raises(FailedPrecondition) as caught:
        RedisStore(server.place())
    assert named in caught.value.next_step


async def test_everysec_is_taken_when_it_was_allowed(start_redis: StartRedis) -> None:
    """Who allows it may keep records in a Redis that syncs each second; one that never syncs is refused all the same."""
    server = start_redis("--appendfsync", "everysec")
    async with opened(server.place(), allow_relaxed=True) as store:
        assert await store.change(put("1")) == 1
    server.command("CONFIG", "SET", "appendfsync", "no")
    with pytest.raises(FailedPrecondition):
        RedisStore(server.place(), allow_relaxed=True)


async def test_server_whose_settings_became_unsafe_is_refused_when_it_comes_back(start_redis: StartRedis) -> None:
    """A Redis that comes back with other settings isn't written to until they are right again."""
    server = start_redis()
    async with opened(server.place()) as store:
        await store.change(put("1"))
        server.kill()
        server.start()
        server.command("CONFIG", "SET", "appendfsync", "everysec")
        with pytest.raises(FailedPrecondition, match="appendfsync is everysec"):
            await store.change(put("2"))
        server.command("CONFIG", "SET", "appendfsync", "always")
        assert await store.change(put("2")) == 2


class OldServer:
    """Answers as a Redis of before version 7 would."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        info = b"redis_version:6.2.14\r\nredis_mode:standalone\r\nrole:master\r\n"
        with client:
            while data := client.recv(65536):
                for _ in range(data.count(b"*")):
                    client.sendall(b"$%d\r\n%s\r\n" % (len(info), info) if b"INFO" in data else b"+OK\r\n")


@contextmanager
def old_server() -> Iterator[OldServer]:
    """Run an old server for the duration of a block."""
    server = OldServer()
    try:
        yield server
    finally:
        server.close()


def test_server_before_version_7_is_refused() -> None:
    """A Redis without functions is refused, and its version is named."""
    with old_server() as server, pytest.raises(FailedPrecondition, match=r"version 6\.2\.14"):
        RedisStore(RedisPlace(host="127.0.0.1", port=server.port))


def test_prefix_of_something_else_is_refused_and_left_alone(redis_server: RedisServer) -> None:
    """What another program keeps under the prefix is neither taken for records nor touched."""
    store, body = keys_of("mine")[:2]
    redis_server.command("SET", store, "a text")
    with pytest.raises(FailedPrecondition, match="something else"):
        RedisStore(redis_server.place("mine"))
    assert redis_server.command("GET", store) == b"$6\r\na text\r\n"
    redis_server.command("DEL", store)
    redis_server.command("HSET", store, "colour", "red")
    with pytest.raises(FailedPrecondition, match="something else"):
        RedisStore(redis_server.place("mine"))
    redis_server.command("DEL", store)
    redis_server.command("HSET", body, "k", "v")
    with pytest.raises(DataLoss, match="missing"):
        RedisStore(redis_server.place("mine"))


async def test_store_of_a_newer_version_is_refused(redis_server: RedisServer) -> None:
    """A store that a newer Hythe made isn't opened by this one."""
    async with opened(redis_server.place()):
        pass
    redis_server.command("HSET", keys_of("default")[0], "schema", "99")
    with pytest.raises(FailedPrecondition, match="newer Hythe"):
        RedisStore(redis_server.place())


async def test_stores_under_two_prefixes_know_nothing_of_each_other(redis_server: RedisServer) -> None:
    """Several stores can be in one Redis, each with its own id and revisions."""
    async with opened(redis_server.place("a")) as left, opened(redis_server.place("b")) as right:
        assert left.store_id != right.store_id
        assert await left.change(put("1")) == 1
        assert await right.change(put("2")) == 1
        assert await body_of(left) == "1"


async def test_store_opened_again_is_the_same(redis_server: RedisServer) -> None:
    """A store keeps its id, its era and its revisions; an emptied Redis is another store."""
    async with opened(redis_server.place()) as store:
        known = store.store_id, store.era
        await store.change(put("1"))
    async with opened(redis_server.place()) as store:
        assert (store.store_id, store.era) == known
        assert await store.change(put("2")) == 2
    redis_server.command("FLUSHALL")
    async with opened(redis_server.place()) as store:
        assert store.store_id != known[0]


async def test_store_emptied_under_a_running_process_is_not_taken_for_an_empty_one(redis_server: RedisServer) -> None:
    """When somebody empties Redis, a running process neither reads nothing from it nor writes to it: it says so."""
    async with opened(redis_server.place()) as store:
        await store.change(put("1"))
        redis_server.command("FLUSHALL")
        for ask in (
            lambda: store.read(lambda view: list(view.edges())),
            lambda: store.read(lambda view: list(view.scan("image"))),
            lambda: store.read(lambda view: view.get(KEY)),
            lambda: store.change(put("2")),
            lambda: store.outgoing(0, 10),
        ):
            with pytest.raises(FailedPrecondition, match="another store"):
                await ask()
        assert redis_server.command("DBSIZE") == b":0\r\n"


async def test_redis_away_is_said_at_once_and_work_goes_on_when_it_is_back(redis_server: RedisServer) -> None:
    """While Redis is away everything is refused as unavailable, at once and truly; afterwards all goes on by itself."""
    async with opened(redis_server.place()) as store:
        await store.change(put("1"))
        redis_server.kill()
        for ask in (lambda: store.change(put("2")), lambda: body_of(store), lambda: store.change(put("3"))):
            begun = time.monotonic()
            with pytest.raises(Unavailable) as caught:
                await ask()
            assert time.monotonic() - begun < AT_ONCE_S
        assert caught.value.outcome == "not started"
        redis_server.start()
        assert await body_of(store) == "1"
        assert await store.change(put("4")) == 2


async def test_redis_that_hangs_makes_no_one_wait_for_ever(redis_server: RedisServer) -> None:
    """When Redis hangs in the middle of a change, it is said within seconds that its outcome is unknown, and so it is."""
    async with opened(redis_server.place()) as store:
        await store.change(count)
        freeze(redis_server.pid)
        begun = time.monotonic()
        outcomes = await asyncio.gather(*(store.change(count) for _ in range(5)), return_exceptions=True)
        assert time.monotonic() - begun < 3 * AT_ONCE_S
        os.kill(redis_server.pid, signal.SIGCONT)
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        unknown = sum(isinstance(o, HytheError) and o.outcome == "unknown" for o in outcomes)
        assert unknown >= 1

        async def goes_on() -> bool:
            try:
                await store.change(count)
            except Unavailable:
                return False
            return True

        await eventually_async(goes_on, what="it goes on")
        assert 2 <= int(await body_of(store) or 0) <= 2 + unknown


async def test_lost_answers_are_found_out(redis_server: RedisServer) -> None:
    """Connections that break again and again while answers are on their way lose no change and do none twice."""
    async with opened(redis_server.place()) as store:
        done = 0
        stop = False

        async def caller() -> None:
            nonlocal done
            while not stop:
                await store.change(count)
                done += 1

        callers = [asyncio.create_task(caller()) for _ in range(8)]
        for _ in range(20):
            before = done
            await until(lambda before=before: done > before + 8, what="changes go on")  # type: ignore[misc]
            await asyncio.to_thread(redis_server.command, "CLIENT", "KILL", "TYPE", "normal")
        stop = True
        await asyncio.gather(*callers)
        assert await body_of(store) == str(done)


async def test_redis_without_memory_refuses_and_recovers(redis_server: RedisServer) -> None:
    """When Redis has no memory left a change is refused with what to do, nothing of it happens, and reads go on."""
    async with opened(redis_server.place()) as store:
        await store.change(put("1"))
        redis_server.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(ResourceExhausted) as caught:
            await store.change(put("2"))
        assert "maxmemory" in caught.value.next_step
        assert await body_of(store) == "1"
        redis_server.command("CONFIG", "SET", "maxmemory", "0")
        assert await store.change(put("3")) == 2


async def test_redis_that_cannot_save_refuses(start_redis: StartRedis) -> None:
    """When Redis stops taking writes because it can't save, that is what is said."""
    server = start_redis("--save", "3600 1")
    async with opened(server.place()) as store:
        await store.change(put("1"))
        shutil.rmtree(server.directory / "appendonlydir")
        server.directory.rename(server.directory.with_name("moved"))
        shutil.rmtree(server.directory.with_name("moved"))
        server.command("BGSAVE")

        async def refused() -> bool:
            try:
                await store.change(put("2"))
            except ResourceExhausted as error:
                return "redis-server's directory" in error.next_step
            return False

        await eventually_async(refused, what="the failed save is noticed")


async def test_disk_of_redis_full_loses_nothing_that_was_acknowledged(
    small_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    """When the disk of Redis is full, what can't be kept isn't acknowledged, and all that was is there afterwards."""
    disk = small_disk(12)
    server = RedisServer(disk / "redis", "--auto-aof-rewrite-percentage", "0")
    server.start()
    try:
        async with opened(server.place()) as store:
            kept = 0
            with pytest.raises((Unavailable, ResourceExhausted)):
                for number in range(100):
                    await store.change(put("x" * (1 << 19), Key("image", "a", f"n{number}")))
                    kept += 1
            assert 2 < kept < 100
            server.kill()
            for path in (disk / "redis").glob("temp-*"):
                path.unlink()
            bigger = tmp_path / "bigger"
            shutil.copytree(disk / "redis", bigger)
        again = RedisServer(bigger)
        again.start()
        try:
            async with opened(again.place()) as store:
                found = await store.read(lambda view: {stored.key.name for stored in view.scan("image")})
                assert found >= {f"n{number}" for number in range(kept)}
        finally:
            again.close()
    finally:
        server.close()


async def test_record_is_forgotten_in_its_time(redis_server: RedisServer) -> None:
    """A record that is kept for a while goes by itself, with its name, and without an entry in the log of changes."""
    fleeting = Key("lease", "a", "fleeting")

    def work(transaction: Transaction) -> None:
        transaction.put(fleeting, "{}", unique={"name": "taken"}, edges=[Edge("content", "d", "l")], keep_s=0.05)

    async with opened(redis_server.place(), upkeep_s=0.02) as store, opened(redis_server.place()) as other:
        await other.change(work)
        await other.change(put("1"))

        async def gone() -> bool:
            await store.change(put("2"))
            return await body_of(store, fleeting) is None

        await eventually_async(gone)
        assert await store.read(lambda view: view.named("name", "a", "taken")) is None
        assert await store.read(lambda view: list(view.edges())) == []
        assert await store.read(lambda view: dict(view.occupants("a"))) == {"image": 1}
        told = [change.key for change in await store.read(lambda view: view.changes(0, 1000))]
        assert told[:2] == [fleeting, KEY]
        assert set(told[2:]) == {KEY}

        def taken_again(transaction: Transaction) -> None:
            transaction.put(Key("lease", "a", "next"), "{}", unique={"name": "taken"})

        await other.change(taken_again)


async def test_references_are_one_state_while_others_write(redis_server: RedisServer) -> None:
    """All references are answered as they were at one moment: one that moves from record to record is never missed."""
    many = 6000

    def begin(transaction: Transaction) -> None:
        for number in range(many):
            transaction.put(Key("content", "a", f"c{number}"), "", edges=[Edge("content", str(number), "l")])

    async with opened(redis_server.place()) as store, opened(redis_server.place()) as writer:
        await writer.change(begin)
        stop = asyncio.Event()

        async def wander() -> None:
            at = 0
            await writer.change(lambda t: t.put(Key("lease", "a", "l0"), "", edges=[Edge("content", "wanderer", "l")]))
            while not stop.is_set():

                def move(transaction: Transaction, at: int = at) -> None:
                    transaction.delete(Key("lease", "a", f"l{at}"))
                    transaction.put(Key("lease", "a", f"l{at + 1}"), "", edges=[Edge("content", "wanderer", "l")])

                await writer.change(move)
                at += 1

        wandering = asyncio.create_task(wander())
        await eventually_async(lambda: store.read(lambda view: next(view.scan("lease"), None)), what="it begins")
        for _ in range(5):
            found = await store.read(lambda view: list(view.edges()))
            assert sum(edge.name == "wanderer" for _, edge in found) == 1
            assert len(found) == many + 1
        stop.set()
        await wandering


async def test_large_changes_at_the_same_time_all_pass(redis_server: RedisServer) -> None:
    """Many records near the limit of size can be written at once."""
    async with opened(redis_server.place()) as store:
        bodies = {Key("image", "a", f"n{number}"): "x" * 1_000_000 for number in range(20)}
        await asyncio.gather(*(store.change(put(body, key)) for key, body in bodies.items()))
        assert {s.key: s.body for s in await store.read(lambda view: list(view.scan("image")))} == bodies


async def test_password_opens_the_store_and_is_never_shown(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A store behind user and password is opened with them; a wrong password is refused, and no text ever has it."""
    caplog.set_level(logging.DEBUG)
    everything = ("~{hythe:default}*", "&{hythe:default}*", "+@all")
    redis_server.command("ACL", "SETUSER", "hythe", "on", ">sesame#1", *everything)
    redis_server.command("ACL", "SETUSER", "default", "off")
    place = read_url(f"unix://hythe:sesame%231@{redis_server.socket}", Path("/nowhere"))
    assert isinstance(place, RedisPlace)
    async with opened(place) as store:
        await store.change(put("1"))
        wrong = read_url(f"unix://hythe:pa55word@{redis_server.socket}", Path("/nowhere"))
        assert isinstance(wrong, RedisPlace)
        with pytest.raises(FailedPrecondition) as caught:
            RedisStore(wrong)
    shown = repr(place) + repr(wrong) + str(place) + repr(caught.value) + caught.value.next_step + caplog.text
    assert "sesame" not in shown
    assert "pa55word" not in shown


async def test_store_behind_tls_is_opened_by_its_authority(start_redis: StartRedis, tmp_path: Path) -> None:
    """A Redis that speaks TLS is used when its certificate is signed by the given authority, and refused otherwise."""
    authority = Authority(tmp_path / "ca")
    shown = authority.issue("redis")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start_redis(
        *("--tls-port", str(port), "--tls-cert-file", str(shown.certificate), "--tls-key-file", str(shown.key)),
        *("--tls-ca-cert-file", str(authority.certificate), "--tls-auth-clients", "no"),
    )
    place = read_url(f"rediss://127.0.0.1:{port}/0?ca={authority.certificate}", Path("/nowhere"))
    assert isinstance(place, RedisPlace)
    async with opened(place) as store:
        assert await store.change(put("1")) == 1
    with pytest.raises(Unavailable):
        RedisStore(RedisPlace(host="127.0.0.1", port=port, tls=True))
