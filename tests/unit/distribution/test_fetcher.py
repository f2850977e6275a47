"""One download per blob, shared by all who wait, ended with the last of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hythe.digest import digest_of
from hythe.errors import DataLoss, NotFound, Unavailable
from hythe.oci import Descriptor
from hythe_distribution.fetcher import BlobProgress
from tests.fakes.fetching import DATA, DOWNLOADS, OTHER, RULES, SOURCE, Bench
from tests.fixtures.waiting import eventually_async


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A fetcher on an in-memory store and registry."""
    made = Bench()
    yield made
    await made.close()


async def test_missing_blob_is_fetched_and_present_one_is_not(bench: Bench) -> None:
    """A blob comes over the network once; who asks again finds it here."""
    wanted = bench.registry.serve(SOURCE, DATA)
    assert await bench.begin(wanted) == len(DATA)
    assert b"".join(bench.content.read(wanted.digest)) == DATA
    assert [news.state for news in bench.seen] == ["waiting", "fetching", "verifying", "fetched"]
    bench.seen.clear()
    assert await bench.begin(wanted) == 0
    assert [(news.state, news.done_bytes) for news in bench.seen] == [("exists", len(DATA))]
    assert len(bench.registry.opened) == 1
    assert (bench.counts.outcomes, bench.counts.size_bytes, bench.counts.hits) == (["ok"], len(DATA), 1)


async def test_all_who_ask_at_once_share_one_download(bench: Bench) -> None:
    """Ten callers cost one request to the registry, and each learns of the end."""
    wanted = bench.registry.serve(SOURCE, DATA)
    bench.hold()
    callers = [bench.begin(wanted) for _ in range(5)]
    await bench.running()
    callers += [bench.begin(wanted, OTHER) for _ in range(5)]
    await bench.joined(9)
    bench.registry.gate.set()
    assert await asyncio.gather(*callers) == [len(DATA)] * 10
    assert len(bench.registry.opened) == 1


async def test_ten_pulls_of_one_image_cost_one_download_of_each_blob(bench: Bench) -> None:
    """However many ask for the same blobs at once, large and small, every byte comes once."""
    sizes = (7, 999, len(DATA), RULES.parallel_from_bytes, 3 * RULES.parallel_from_bytes)
    blobs = [bench.registry.serve(SOURCE, bytes([i]) * size) for i, size in enumerate(sizes)]
    await asyncio.gather(*(bench.begin(blob) for _ in range(10) for blob in blobs))
    assert bench.counts.joins + bench.counts.hits == 9 * len(blobs)
    assert bench.registry.served_bytes == sum(sizes)
    assert bench.counts.outcomes == ["ok"] * len(blobs)
    assert all(bench.has(blob) for blob in blobs)


async def test_late_caller_is_told_where_the_download_stands(bench: Bench) -> None:
    """Who joins in the middle sees the present state at once, not only the next change."""
    wanted = bench.registry.serve(SOURCE, DATA)
    bench.hold()
    first = bench.begin(wanted)
    await bench.running()

    async def fetching() -> bool:
        return bool(bench.seen) and bench.seen[-1].state == "fetching"

    await eventually_async(fetching)
    late: list[BlobProgress] = []
    second = asyncio.create_task(bench.fetcher.ensure(SOURCE, wanted, late.append))

    async def told() -> bool:
        return bool(late)

    await eventually_async(told)
    assert (late[0].state, late[0].total_bytes) == ("fetching", len(DATA))
    bench.registry.gate.set()
    await asyncio.gather(first, second)


async def test_download_ends_with_the_last_who_waits(bench: Bench) -> None:
    """One caller that goes takes nothing from the other; when both are gone the work stops, and nothing is readable."""
    wanted = bench.registry.serve(SOURCE, DATA)
    bench.hold()
    first, second = bench.begin(wanted), bench.begin(wanted)
    await bench.running()
    await bench.joined(1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert bench.registry.running == 1
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await bench.running(0)
    assert not bench.has(wanted)
    await bench.fetcher.close()
    assert bench.counts.outcomes == ["cancelled"]


async def test_caller_that_comes_while_a_download_is_given_up_gets_its_own(bench: Bench) -> None:
    """A download given up by others never fails one who asks meanwhile."""
    wanted = bench.registry.serve(SOURCE, DATA)
    bench.hold()
    first = bench.begin(wanted)
    await bench.running()
    first.cancel()
    await asyncio.sleep(0)
    second = bench.begin(wanted)
    bench.registry.gate.set()
    assert await second == len(DATA)
    assert bench.has(wanted)


async def test_wrong_bytes_leave_nothing(bench: Bench) -> None:
    """Other bytes than the digest promises are DataLoss for all who wait, and are removed at once."""
    wanted = bench.registry.serve(SOURCE, DATA, instead=b"x" * len(DATA))
    bench.hold()
    callers = [bench.begin(wanted), bench.begin(wanted)]
    await bench.joined(1)
    bench.registry.gate.set()
    for outcome in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(outcome, DataLoss)
    assert not bench.has(wanted)
    assert list(bench.content.ingests()) == []
    assert bench.counts.outcomes == ["DataLoss"]


@pytest.mark.parametrize("instead", [DATA[:-1], DATA + b"x"])
async def test_wrong_length_leaves_nothing(bench: Bench, instead: bytes) -> None:
    """Too few or too many bytes are DataLoss, whatever their hash."""
    wanted = bench.registry.serve(SOURCE, DATA, instead=instead)
    with pytest.raises(DataLoss):
        await bench.begin(wanted)
    assert list(bench.content.ingests()) == []


async def test_broken_connection_keeps_what_came(bench: Bench) -> None:
    """What arrived before a break is kept for a later download, but cannot be read."""
    wanted = bench.registry.serve(SOURCE, DATA)
    bench.hold()
    caller = bench.begin(wanted)
    await bench.running()

    async def came() -> bool:
        return any(status.offset for status in bench.content.ingests())

    await eventually_async(came)
    caller.cancel()
    await bench.fetcher.close()
    assert [status.offset for status in bench.content.ingests()] == [1000]
    assert not bench.has(wanted)


async def test_failure_of_anothers_source_does_not_fail_mine(bench: Bench) -> None:
    """Who joined a download from a broken registry has its own registry asked, when that was another."""
    wanted = bench.registry.serve(SOURCE, DATA, instead=Unavailable("fetch: broken"))
    bench.registry.serve(OTHER, DATA)
    bench.hold()
    first = bench.begin(wanted)
    await bench.running()
    second = bench.begin(wanted, OTHER)
    await bench.joined(1)
    bench.registry.gate.set()
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    assert isinstance(outcomes[0], Unavailable)
    assert outcomes[1] == len(DATA)


async def test_descriptor_with_a_wrong_size_does_not_fail_others(bench: Bench) -> None:
    """A hostile manifest that gives a blob's digest a wrong size harms only itself."""
    wanted = bench.registry.serve(SOURCE, DATA)
    lie = Descriptor(wanted.media_type, wanted.digest, wanted.size_bytes - 1)
    bench.hold()
    lying, honest = bench.begin(lie), bench.begin(wanted)
    await bench.joined(1)
    bench.registry.gate.set()
    outcomes = await asyncio.gather(lying, honest, return_exceptions=True)
    assert isinstance(outcomes[0], DataLoss)
    assert outcomes[1] == len(DATA)
    with pytest.raises(DataLoss):
        await bench.begin(lie)


async def test_unknown_blob_is_not_found(bench: Bench) -> None:
    """The registry's word is passed on."""
    with pytest.raises(NotFound):
        await bench.begin(Descriptor("x/y", digest_of(b"nowhere"), 7))


async def test_no_more_downloads_run_at_once_than_allowed(bench: Bench) -> None:
    """Further blobs wait for a free place, and all arrive; what is here is found meanwhile."""
    here = bench.registry.serve(SOURCE, b"here already")
    await bench.begin(here)
    bench.hold()
    blobs = [bench.registry.serve(SOURCE, DATA + bytes([i])) for i in range(6)]
    callers = [bench.begin(blob) for blob in blobs]
    await bench.running(DOWNLOADS)
    assert await bench.begin(here) == 0
    assert len(bench.registry.opened) == 1 + DOWNLOADS
    bench.registry.gate.set()
    await asyncio.gather(*callers)
    assert all(bench.has(blob) for blob in blobs)
    assert bench.registry.most_running == DOWNLOADS


async def test_progress_is_told_seldom_and_in_order(bench: Bench) -> None:
    """However many chunks come, bytes are told at most ten times a second, rising, and states in their order."""
    wanted = bench.registry.serve(SOURCE, DATA * 200)
    await bench.begin(wanted)
    states = [news.state for news in bench.seen]
    assert list(dict.fromkeys(states)) == ["waiting", "fetching", "verifying", "fetched"]
    fetching = [news.done_bytes for news in bench.seen if news.state == "fetching"]
    assert fetching == sorted(fetching)
    assert len(fetching) < 100
    assert bench.seen[-1].done_bytes == bench.seen[-1].total_bytes == wanted.size_bytes


async def test_closed_fetcher_has_stopped_everything(bench: Bench) -> None:
    """A service that stops waits for its threads, and those who wait are told."""
    wanted = bench.registry.serve(SOURCE, DATA)
    bench.hold()
    caller = bench.begin(wanted)
    await bench.running()
    await bench.fetcher.close()
    assert bench.registry.running == 0
    with pytest.raises(Unavailable):
        await caller
