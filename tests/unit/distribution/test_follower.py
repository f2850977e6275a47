"""Reading a blob while it is fetched: at once, in order, and with a true end."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hythe.digest import digest_of
from hythe.errors import DataLoss, NotFound, OutOfRange, Unavailable
from hythe.ports.content import MAX_CHUNK_BYTES
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.cancellation import Cancelled
from hythe_distribution.fetcher import Follower
from tests.fakes.fetching import DATA, SOURCE, Bench
from tests.fixtures.waiting import until


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A fetcher on an in-memory store and registry."""
    made = Bench()
    yield made
    await made.close()


def read_all(follower: Follower) -> bytes:
    """Read to the verified end and close."""
    data = b""
    with follower:
        while chunk := follower.read(MAX_CHUNK_BYTES):
            data += chunk
    return data


async def held(bench: Bench, data: bytes = DATA) -> tuple[asyncio.Task[int], Follower]:
    """Begin a download that waits after its first chunk, and follow it from its first byte."""
    wanted = bench.registry.serve(SOURCE, data)
    bench.hold()
    caller = bench.begin(wanted)
    await until(lambda: bench.registry.served_bytes >= 1000, what="the first chunk comes")
    follower = bench.fetcher.follow(wanted.digest)
    assert follower is not None
    return caller, follower


async def test_reader_gets_bytes_before_the_download_has_ended(bench: Bench) -> None:
    """What has come can be read while the rest is on its way, and the end comes after the verification."""
    caller, follower = await held(bench)
    assert follower.total_bytes == len(DATA)
    assert await asyncio.to_thread(follower.read, 300) == DATA[:300]
    assert await asyncio.to_thread(follower.read, 10_000) == DATA[300:1000]
    reading = asyncio.create_task(asyncio.to_thread(read_all, follower))
    assert not bench.has(bench.registry.serve(SOURCE, DATA))
    bench.registry.gate.set()
    assert await reading == DATA[1000:]
    assert bench.has(bench.registry.serve(SOURCE, DATA))
    await caller


async def test_many_readers_of_a_large_blob_all_get_it_whole(bench: Bench) -> None:
    """Readers from several offsets keep pace with a download in parts, or fall behind, and lose nothing."""
    large = DATA * 10
    caller, follower = await held(bench, large)
    others = [bench.fetcher.follow(digest_of(large), offset) for offset in (1, 999, 55_555, len(large))]
    reading = [asyncio.to_thread(read_all, each) for each in (follower, *others) if each is not None]
    bench.registry.gate.set()
    assert await asyncio.gather(*reading) == [large[offset:] for offset in (0, 1, 999, 55_555, len(large))]
    await caller


async def test_readers_of_a_directory_lose_nothing_at_the_commit(tmp_path: Path) -> None:
    """While the file of the ingest is closed and renamed, readers go on from it to the blob."""
    bench = Bench(DirectoryContent(tmp_path))
    for i in range(10):
        data = DATA * 5 + bytes([i])
        caller, follower = await held(bench, data)
        others = [bench.fetcher.follow(digest_of(data)) for _ in range(3)]
        reading = [asyncio.to_thread(read_all, each) for each in (follower, *others) if each is not None]
        bench.registry.gate.set()
        assert await asyncio.gather(*reading) == [data] * 4
        await caller
        bench.registry.served_bytes = 0
    await bench.close()


async def test_slow_reader_goes_on_after_the_download_has_ended(bench: Bench) -> None:
    """Who falls behind reads the rest from the store."""
    caller, follower = await held(bench)
    bench.registry.gate.set()
    await caller
    assert bench.fetcher.follow(digest_of(DATA)) is None
    assert await asyncio.to_thread(read_all, follower) == DATA


async def test_reader_of_a_resumed_download_gets_the_first_bytes_at_once(bench: Bench) -> None:
    """What an earlier download left is there for readers before anything new has come."""
    with bench.content.open_ingest(f"layer-{digest_of(DATA)}") as ingest:
        ingest.write(DATA[:7000])
    caller, follower = await held(bench)
    assert await asyncio.to_thread(follower.read, 6000) == DATA[:6000]
    bench.registry.gate.set()
    assert await asyncio.to_thread(read_all, follower) == DATA[6000:]
    await caller


async def test_reader_keeps_a_download_alive_and_its_end_gives_it_up(bench: Bench) -> None:
    """A reader counts as somebody who waits: with the last one the download ends, and its bytes are kept."""
    caller, follower = await held(bench)
    second = bench.fetcher.follow(digest_of(DATA))
    assert second is not None
    caller.cancel()
    follower.close()
    follower.close()
    assert await asyncio.to_thread(second.read, 1000) == DATA[:1000]
    assert bench.registry.running == 1
    second.close()
    await until(lambda: bench.counts.outcomes == ["cancelled"])
    assert [status.offset for status in bench.content.ingests()] == [1000]
    assert bench.fetcher.follow(digest_of(DATA)) is None


async def test_reader_alone_brings_the_blob_into_the_store(bench: Bench) -> None:
    """The download that only a reader waits for is finished like any other."""
    caller, follower = await held(bench)
    caller.cancel()
    bench.registry.gate.set()
    assert await asyncio.to_thread(read_all, follower) == DATA
    assert bench.has(bench.registry.serve(SOURCE, DATA))


async def test_failed_download_fails_its_readers(bench: Bench) -> None:
    """A reader never takes bytes that were not verified for the whole: it gets the error in place of the end."""
    wanted = bench.registry.serve(SOURCE, DATA, instead=b"x" * len(DATA))
    bench.hold()
    caller = bench.begin(wanted)
    await bench.running()
    follower = bench.fetcher.follow(wanted.digest)
    assert follower is not None
    bench.registry.gate.set()
    with pytest.raises(DataLoss):
        await asyncio.to_thread(read_all, follower)
    with pytest.raises(DataLoss):
        await caller


async def test_reader_of_wrong_first_bytes_is_told_to_read_again(bench: Bench) -> None:
    """When a leftover turns out wrong and all is fetched anew, who has read of it fails, who has not goes on."""
    with bench.content.open_ingest(f"layer-{digest_of(DATA)}") as ingest:
        ingest.write(b"x" * 7000)
    caller, follower = await held(bench)
    late = bench.fetcher.follow(digest_of(DATA), len(DATA) - 5)
    assert late is not None
    assert await asyncio.to_thread(follower.read, 10) == b"x" * 10
    bench.registry.gate.set()
    await caller
    with pytest.raises(Unavailable) as raised:
        await asyncio.to_thread(read_all, follower)
    assert "anew" in raised.value.message
    assert await asyncio.to_thread(read_all, late) == DATA[-5:]


async def test_reader_of_a_given_up_download_is_told_so(bench: Bench) -> None:
    """A service that stops leaves no reader waiting."""
    caller, follower = await held(bench)
    reading = asyncio.create_task(asyncio.to_thread(read_all, follower))
    await bench.fetcher.close()
    with pytest.raises(Unavailable):
        await reading
    with pytest.raises(Unavailable):
        await caller


async def test_closed_reader_wakes_from_its_read(bench: Bench) -> None:
    """Closing from another thread ends a read that waits for bytes."""
    caller, follower = await held(bench)
    woken = threading.Event()

    def read() -> None:
        with pytest.raises(Cancelled):
            while True:
                follower.read(1000)
        woken.set()

    reading = asyncio.create_task(asyncio.to_thread(read))
    await until(lambda: bench.registry.served_bytes == 1000)
    follower.close()
    await reading
    assert woken.is_set()
    bench.registry.gate.set()
    assert await caller == len(DATA)


async def test_reader_of_a_waiting_download_waits_with_it(bench: Bench) -> None:
    """A download that has no free thread yet can be followed already."""
    busy = [bench.registry.serve(SOURCE, DATA + bytes([i])) for i in range(2)]
    bench.hold()
    callers = [bench.begin(blob) for blob in busy]
    await bench.running(2)
    wanted = bench.registry.serve(SOURCE, b"short")
    callers.append(bench.begin(wanted))
    await until(lambda: bench.fetcher.follow(wanted.digest) is not None)
    follower = bench.fetcher.follow(wanted.digest, 2)
    assert follower is not None
    bench.registry.gate.set()
    assert await asyncio.to_thread(read_all, follower) == b"ort"
    await asyncio.gather(*callers)


@pytest.mark.parametrize("offset", [-1, len(DATA) + 1])
async def test_offset_outside_the_blob_is_out_of_range(bench: Bench, offset: int) -> None:
    """A reader can't begin before the first or after the last byte."""
    caller, follower = await held(bench)
    with pytest.raises(OutOfRange):
        bench.fetcher.follow(digest_of(DATA), offset)
    follower.close()
    bench.registry.gate.set()
    await caller


async def test_blob_that_nobody_fetches_cannot_be_followed(bench: Bench) -> None:
    """Without a download there is nothing to follow: what is here is read from the store."""
    assert bench.fetcher.follow(digest_of(DATA)) is None
    with pytest.raises(NotFound):
        bench.content.info(digest_of(DATA))


async def test_break_in_the_middle_is_not_noticed_by_readers(bench: Bench) -> None:
    """While the download goes on after a break, its readers wait."""
    bench.registry.breaks = deque([1000, 3000])
    caller, follower = await held(bench)
    bench.registry.gate.set()
    assert await asyncio.to_thread(read_all, follower) == DATA
    await caller
