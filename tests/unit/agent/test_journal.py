"""The journal: what was durable is read again, what was torn is left out, what is damaged is said."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hythe.errors import DataLoss, ResourceExhausted
from hythe_runtime.agent import segment
from hythe_runtime.agent.entries import Asked, Confirmed, Entry
from hythe_runtime.agent.journal import Journal
from tests.fixtures.agents import fill
from tests.unit.agent.records import intent

SMALL_BYTES = 64 << 10


async def start(directory: Path, *, segment_bytes: int = SMALL_BYTES, snapshot: list[Entry] | None = None) -> Journal:
    """Return a journal that takes appends; its snapshots are what it had read unless `snapshot` says otherwise."""
    journal = Journal(directory, segment_bytes=segment_bytes)
    read = journal.read()
    entries: list[Entry] = read if snapshot is None else snapshot
    await asyncio.to_thread(journal.start, asyncio.get_running_loop(), entries, lambda: list(entries))
    return journal


def confirmed(count: int) -> list[Entry]:
    return [Confirmed(f"{i:032x}", i) for i in range(count)]


def read(directory: Path) -> list[Entry]:
    return Journal(directory).read()


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.segment"))


async def test_entries_that_were_awaited_are_read_by_the_next_agent_in_order(tmp_path: Path) -> None:
    """What was awaited is there for the next agent, even when this one never closes its journal."""
    journal = await start(tmp_path)
    entries: list[Entry] = [Asked(intent()), *confirmed(3)]
    await journal.append(entries[:2], urgent=True)
    await journal.append(entries[2:], urgent=True)
    assert read(tmp_path) == entries
    journal.close()


async def test_append_that_is_not_urgent_is_durable_soon_without_another(tmp_path: Path) -> None:
    """An append that nobody is in a hurry for becomes durable by itself."""
    journal = await start(tmp_path)
    async with asyncio.timeout(5):
        await journal.append(confirmed(1), urgent=False)
    assert read(tmp_path) == confirmed(1)
    journal.close()


async def test_many_appends_at_once_share_their_fsyncs(tmp_path: Path) -> None:
    """A hundred appends made at once cost a few fsyncs, not a hundred."""
    journal = await start(tmp_path)
    before = journal.syncs
    await asyncio.gather(*(journal.append([entry], urgent=True) for entry in confirmed(100)))
    assert journal.syncs - before < 20
    assert read(tmp_path) == confirmed(100)
    journal.close()


async def test_close_makes_everything_durable(tmp_path: Path) -> None:
    """Closing writes out what was only queued."""
    journal = await start(tmp_path)
    appended = journal.append(confirmed(1), urgent=False)
    journal.close()
    await appended
    assert read(tmp_path) == confirmed(1)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6, 0.99])
async def test_torn_last_write_is_left_out(tmp_path: Path, keep: float) -> None:
    """A power cut in the middle of a write loses that write and nothing before it."""
    journal = await start(tmp_path)
    await journal.append(confirmed(1), urgent=True)
    whole = segments(tmp_path)[-1].read_bytes().rstrip(b"\0")
    await journal.append([Asked(intent())], urgent=True)
    after = segments(tmp_path)[-1].read_bytes().rstrip(b"\0")
    journal.close()
    torn = len(whole) + int((len(after) - len(whole)) * keep)
    os.truncate(segments(tmp_path)[-1], torn)
    assert read(tmp_path) == confirmed(1)
    reopened = await start(tmp_path)
    await reopened.append([Confirmed("a" * 32, 9)], urgent=True)
    reopened.close()
    assert read(tmp_path) == [*confirmed(1), Confirmed("a" * 32, 9)]


async def test_damage_before_the_end_is_data_loss_with_a_clear_text(tmp_path: Path) -> None:
    """A flipped bit in something that had been durable is never passed over in silence."""
    journal = await start(tmp_path)
    for entry in confirmed(5):
        await journal.append([entry], urgent=True)
    journal.close()
    path = segments(tmp_path)[-1]
    data = bytearray(path.read_bytes())
    data[data.index(b"confirmed") + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataLoss, match=r"damaged at byte \d+, though it had been written up to byte \d+"):
        read(tmp_path)


@pytest.mark.parametrize("missing", [0, 1])
async def test_missing_segment_is_data_loss(tmp_path: Path, missing: int) -> None:
    """A journal from which a file was taken away is not read as if it were whole."""
    journal = await start(tmp_path, segment_bytes=4096, snapshot=confirmed(300))
    journal.close()
    segments(tmp_path)[missing].unlink()
    with pytest.raises(DataLoss):
        read(tmp_path)


async def test_full_segment_is_replaced_by_a_snapshot_and_old_files_go(tmp_path: Path) -> None:
    """However long an agent runs, its journal takes a bounded number of files."""
    state: list[Entry] = [Asked(intent("c" * 32))]
    journal = await start(tmp_path, segment_bytes=4096, snapshot=state)
    for entry in confirmed(500):
        await journal.append([entry], urgent=True)
    journal.close()
    assert len(segments(tmp_path)) <= 2
    entries = read(tmp_path)
    assert entries[0] == state[0]
    assert entries[-1] == confirmed(500)[-1]


async def test_snapshot_larger_than_a_segment_is_read_whole(tmp_path: Path) -> None:
    """A snapshot may span several segments."""
    state = confirmed(300)
    journal = await start(tmp_path, segment_bytes=4096, snapshot=state)
    journal.close()
    assert read(tmp_path) == state


async def test_interrupted_snapshot_changes_nothing(tmp_path: Path) -> None:
    """A crash while a snapshot is written leaves what was there before it."""
    journal = await start(tmp_path)
    await journal.append(confirmed(2), urgent=True)
    journal.close()
    data = segments(tmp_path)[-1].read_bytes()
    serial = segment.read(data, 1, None, "first")[-1].serial
    part = segment.Part.SNAPSHOT | segment.Part.SNAPSHOT_FIRST
    torn = segment.encode(2, serial + 1, 0, part, b'{"kind":"confirmed","id":"x","number":1}')
    (tmp_path / "00000002.segment").write_bytes(torn)
    assert read(tmp_path) == confirmed(2)


async def test_entry_too_large_for_a_frame_is_refused_and_others_go_on(tmp_path: Path) -> None:
    """One absurd request does not stop the journal."""
    journal = await start(tmp_path, segment_bytes=4 << 20)
    huge = Asked(intent(spec={"args": ["x" * (2 << 20)]}))
    with pytest.raises(ResourceExhausted):
        await journal.append([huge], urgent=True)
    await journal.append(confirmed(1), urgent=True)
    journal.close()
    assert read(tmp_path) == confirmed(1)


async def test_full_disk_still_takes_exits(small_disk: Callable[[int], Path]) -> None:
    """With not a byte free on its disk the journal takes what is ahead of it allocated, then says that it is full."""
    disk = small_disk(16)
    journal = await start(disk / "journal", segment_bytes=256 << 10, snapshot=[])
    fill(disk / "filler")
    taken = 0
    for entry in confirmed(2000):
        await journal.append([entry], urgent=True)
        taken += 1
    assert taken == 2000
    journal.close()
    assert read(disk / "journal")[-1] == confirmed(2000)[-1]


async def test_full_disk_and_full_journal_refuse_and_keep_what_they_have(small_disk: Callable[[int], Path]) -> None:
    """When even the spare room is used up, an append is refused, nothing is lost, and room makes it go on."""
    disk = small_disk(16)
    state = confirmed(3000)  # a snapshot that is larger than the spare segment
    journal = await start(disk / "journal", segment_bytes=64 << 10, snapshot=state)
    fill(disk / "filler")
    with pytest.raises(ResourceExhausted, match="the disk is full"):
        for _ in range(5000):
            await journal.append(confirmed(1), urgent=True)
    (disk / "filler").unlink()
    state.append(Confirmed("b" * 32, 1))
    await journal.append(state[-1:], urgent=True)
    journal.close()
    assert Confirmed("b" * 32, 1) in read(disk / "journal")
