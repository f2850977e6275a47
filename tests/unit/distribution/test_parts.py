"""One large blob over several connections: faster where a registry can, never wrong, and never large in memory."""

from __future__ import annotations

import asyncio
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hythe.errors import DataLoss, ResourceExhausted, Unavailable
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.fetcher import Rules
from hythe_distribution.parts import Spares
from tests.fakes.fetching import RULES, SOURCE, Bench
from tests.fixtures.waiting import until

LARGE = b"".join(i.to_bytes(4, "big") for i in range(30_000))
PART = RULES.part_bytes
SPARE = RULES.spare_parts


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A fetcher on an in-memory store and registry."""
    made = Bench()
    yield made
    await made.close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB of its own, mounted on a directory."""
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], check=True)
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


async def test_large_blob_comes_in_parts_over_spare_connections(bench: Bench) -> None:
    """Spare connections fetch ahead, every byte comes once, and the blob is right."""
    wanted = bench.registry.serve(SOURCE, LARGE)
    bench.hold()
    caller = bench.begin(wanted)
    await bench.running(1 + SPARE)
    bench.registry.gate.set()
    assert await caller == len(LARGE)
    assert b"".join(bench.content.read(wanted.digest)) == LARGE
    assert bench.registry.asked[0] == (0, PART)
    assert sorted(offset for offset, _ in bench.registry.asked) == list(range(0, len(LARGE), PART))
    assert bench.registry.served_bytes == len(LARGE)
    assert bench.registry.most_running == 1 + SPARE
    assert bench.counts.part_count == len(bench.registry.asked) - 1


async def test_small_blob_costs_one_plain_request(bench: Bench) -> None:
    """Below the limit nothing is asked for in ranges."""
    wanted = bench.registry.serve(SOURCE, LARGE[: RULES.parallel_from_bytes - 1])
    await bench.begin(wanted)
    assert bench.registry.asked == [(0, None)]


async def test_server_without_ranges_is_asked_once(bench: Bench) -> None:
    """Where the first answer is the whole blob it is taken as it comes."""
    bench.registry.knows_ranges = False
    wanted = bench.registry.serve(SOURCE, LARGE)
    assert await bench.begin(wanted) == len(LARGE)
    assert bench.registry.asked == [(0, PART)]
    assert bench.registry.served_bytes == len(LARGE)
    assert bench.counts.part_count == 0


async def test_part_that_breaks_is_finished_by_the_download_itself(bench: Bench) -> None:
    """What a spare connection had brought before it broke is used, and only the rest is asked for again."""
    wanted = bench.registry.serve(SOURCE, LARGE)
    bench.registry.breaks_at[2 * PART] = deque([1234])
    assert await bench.begin(wanted) == len(LARGE)
    assert bench.has(wanted)
    assert (2 * PART + 1234, PART - 1234) in bench.registry.asked
    assert bench.registry.served_bytes == len(LARGE)
    assert bench.counts.retries == 0


async def test_registry_that_refuses_further_connections_still_gives_the_blob(bench: Bench) -> None:
    """Where only one connection is allowed, the blob comes over that one."""
    wanted = bench.registry.serve(SOURCE, LARGE)
    for i in range(1, SPARE + 1):
        bench.registry.breaks_at[i * PART] = deque([ResourceExhausted("too many requests")])
    assert await bench.begin(wanted) == len(LARGE)
    assert bench.has(wanted)
    assert bench.counts.part_count == SPARE
    assert bench.registry.served_bytes == len(LARGE)


async def test_head_that_breaks_while_parts_come_is_gone_on_with(bench: Bench) -> None:
    """A break of the first connection costs nothing of what the others bring."""
    wanted = bench.registry.serve(SOURCE, LARGE)
    bench.registry.breaks_at[0] = deque([2000])
    assert await bench.begin(wanted) == len(LARGE)
    assert bench.has(wanted)
    assert (2000, PART - 2000) in bench.registry.asked
    assert bench.registry.served_bytes == len(LARGE)


async def test_server_that_knows_ranges_no_more_gives_the_rest_at_once(bench: Bench) -> None:
    """When another server answers after a break and sends the whole, that is taken to its end."""
    wanted = bench.registry.serve(SOURCE, LARGE)
    bench.registry.breaks_at[0] = deque([2000])
    bench.hold()
    caller = bench.begin(wanted)
    await bench.running(1 + SPARE)
    bench.registry.knows_ranges = False
    bench.registry.gate.set()
    assert await caller == len(LARGE)
    assert bench.has(wanted)
    assert bench.registry.asked[-1] == (2000, PART - 2000)


async def test_large_blob_left_halfway_goes_on_in_parts(bench: Bench) -> None:
    """Resuming and fetching in parts go together."""
    wanted = bench.registry.serve(SOURCE, LARGE)
    with bench.content.open_ingest(f"layer-{wanted.digest}") as ingest:
        ingest.write(LARGE[:12_345])
    assert await bench.begin(wanted) == len(LARGE) - 12_345
    assert bench.registry.asked[0] == (12_345, PART)
    assert bench.counts.part_count > 0
    assert bench.registry.served_bytes == len(LARGE) - 12_345


async def test_wrong_bytes_in_a_part_are_data_loss(bench: Bench) -> None:
    """However a blob comes, it is what was promised or it isn't here."""
    wrong = LARGE[:50_000] + b"!" + LARGE[50_001:]
    wanted = bench.registry.serve(SOURCE, LARGE, instead=wrong)
    with pytest.raises(DataLoss):
        await bench.begin(wanted)
    assert list(bench.content.ingests()) == []


async def test_answer_to_a_range_that_ends_early_is_asked_for_again(bench: Bench) -> None:
    """A registry whose blob is too short gives nothing after its end, which ends in an error."""
    wanted = bench.registry.serve(SOURCE, LARGE, instead=LARGE[:-100])
    with pytest.raises(Unavailable) as raised:
        await bench.begin(wanted)
    assert "100 bytes too early" in raised.value.message


async def test_given_up_download_lets_go_of_all_its_connections(bench: Bench) -> None:
    """When nobody waits any more, the parts end with it; what had come in order is kept."""
    wanted = bench.registry.serve(SOURCE, LARGE)
    bench.hold()
    caller = bench.begin(wanted)
    await bench.running(1 + SPARE)
    caller.cancel()
    await bench.running(0)
    await until(lambda: bench.counts.outcomes == ["cancelled"])
    [left] = bench.content.ingests()
    bench.registry.gate.set()
    assert await bench.begin(wanted) == len(LARGE) - left.offset
    assert bench.has(wanted)


async def test_two_large_blobs_leave_each_other_a_connection(bench: Bench) -> None:
    """Each further download takes one of the spare connections, so that all together are never more."""
    blobs = [bench.registry.serve(SOURCE, LARGE + bytes([i])) for i in range(2)]
    await asyncio.gather(*(bench.begin(blob) for blob in blobs))
    assert all(bench.has(blob) for blob in blobs)
    assert bench.registry.most_running <= 2 + SPARE
    assert bench.registry.served_bytes == sum(blob.size_bytes for blob in blobs)


async def test_without_spare_connections_one_stretch_follows_the_other() -> None:
    """While others need all connections, a large blob comes over one, in long stretches."""
    alone = Bench(rules=replace(RULES, spare_parts=0))
    wanted = alone.registry.serve(SOURCE, LARGE)
    await alone.begin(wanted)
    assert alone.registry.asked[:2] == [(0, RULES.stretch_bytes), (RULES.stretch_bytes, RULES.stretch_bytes)]
    assert alone.registry.most_running == 1
    assert alone.has(wanted)
    await alone.close()


async def test_disk_that_fills_up_ends_the_parts_too(tiny_disk: Path) -> None:
    """No room in the middle is ResourceExhausted, gives its room back and leaves no connection open."""
    content = DirectoryContent(tiny_disk)
    full = Bench(content)
    wanted = full.registry.serve(SOURCE, LARGE * 6)
    full.hold()
    caller = full.begin(wanted)
    await full.running(1 + SPARE)
    (tiny_disk / "filler").write_bytes(bytes(700_000))
    full.registry.gate.set()
    with pytest.raises(ResourceExhausted):
        await caller
    assert list(content.ingests()) == []
    (tiny_disk / "filler").unlink()
    assert await full.begin(wanted) == len(LARGE) * 6
    await full.close()


def test_buffers_are_few_and_used_again() -> None:
    """However many parts are fetched, memory is taken once for each spare connection."""
    spares = Spares(2, PART)
    first, second = spares.take(), spares.take()
    assert first is not None and second is not None
    assert spares.take() is None
    spares.give(first)
    assert spares.take() is first
    spares.close()


def test_defaults_keep_parts_within_sixteen_mebibytes() -> None:
    """The memory that parts may take is a small constant."""
    assert Rules().part_bytes * Rules().spare_parts <= 16 << 20
