"""Reading a stream to its end and on: nothing twice, nothing lost unseen, on the pinned server and on Debian's old one."""

from __future__ import annotations

import os
import signal

import pytest

from hythe import subjects
from hythe.client.jetstream import api
from hythe.client.stream_parts import Gap, Message, Timing, state_of
from hythe.client.stream_reader import BATCH, StreamReader
from hythe.errors import DeadlineExceeded, HytheError, OutOfRange, Unavailable
from hythe.stack.streams import Limits, ensure_streams
from tests.fixtures.stack_bus import StackBus
from tests.fixtures.waiting import eventually, freeze

STREAM = subjects.EVENT_STREAM
SMALL = Limits(size_bytes=4096)
Read = list[int | tuple[int, int]]


def shown(items: list[Message | Gap]) -> Read:
    """Return sequences of messages, and gaps as pairs."""
    return [(item.first, item.last) if isinstance(item, Gap) else item.sequence for item in items]


def read_to_end(reader: StreamReader) -> Read:
    """Return all that is there."""
    reader.stop_at_end()
    found: Read = []
    while not reader.done:
        found += shown(reader.turn(5))
    return found


def read(reader: StreamReader, count: int) -> Read:
    """Return the next so many things."""
    found: Read = []
    while len(found) < count:
        found += shown(reader.turn(5))
    return found


def numbered(first: int, last: int, size: int = 0) -> list[bytes]:
    """Return distinct messages of at least `size` bytes."""
    return [str(number).encode().ljust(size) for number in range(first, last + 1)]


def test_stored_and_live_messages_come_once_each_in_order(stack_bus: StackBus) -> None:
    """Several batches of stored messages, then those that come while it waits."""
    ensure_streams(stack_bus.sync("streams"))
    stack_bus.events(*numbered(1, 2 * BATCH + 5))
    reader = StreamReader(stack_bus.sync(), STREAM, subjects.ALL_EVENTS, first=3)
    assert read(reader, 2 * BATCH + 3) == list(range(3, 2 * BATCH + 6))
    for number in range(5):
        stack_bus.events(b"live")
        assert read(reader, 1) == [2 * BATCH + 6 + number]
    reader.close()
    assert api(stack_bus.sync(), f"STREAM.INFO.{STREAM}", {})["state"]["consumer_count"] == 0


def test_reader_of_what_comes_from_now_on_sees_nothing_older(stack_bus: StackBus) -> None:
    """Without a beginning, only what is stored after the reader was made is read."""
    ensure_streams(stack_bus.sync("streams"))
    stack_bus.events(b"old")
    reader = StreamReader(stack_bus.sync(), STREAM, subjects.ALL_EVENTS)
    stack_bus.events(b"new")
    assert read(reader, 1) == [2]


def test_reader_from_a_time_begins_with_what_was_stored_then(stack_bus: StackBus) -> None:
    """The server's time decides; a time before the beginning of a whole stream is no gap."""
    ensure_streams(stack_bus.sync("streams"))
    stack_bus.events(b"1", b"2")
    middle = api(stack_bus.sync(), f"STREAM.INFO.{STREAM}", {})["state"]["last_ts"]
    stack_bus.events(b"3")
    reader = StreamReader(stack_bus.sync(), STREAM, subjects.ALL_EVENTS, since_rfc3339=middle)
    assert read_to_end(reader) == [2, 3]
    early = StreamReader(stack_bus.sync(), STREAM, subjects.ALL_EVENTS, since_rfc3339="1970-01-01T00:00:00Z")
    assert read_to_end(early) == [1, 2, 3]


def test_beginning_that_is_no_longer_stored_is_told_as_a_gap(stack_bus: StackBus) -> None:
    """Who comes too late hears which sequences he has missed, by place and by time."""
    ensure_streams(stack_bus.sync("streams"), SMALL)
    stack_bus.events(*numbered(1, 40, size=300))
    first = state_of(stack_bus.sync(), STREAM).first
    assert first > 20
    kept = list(range(first, 41))
    by_place = StreamReader(stack_bus.sync(), STREAM, subjects.ALL_EVENTS, first=7)
    assert read_to_end(by_place) == [(7, first - 1), *kept]
    by_time = StreamReader(stack_bus.sync(), STREAM, subjects.ALL_EVENTS, since_rfc3339="1970-01-01T00:00:00Z")
    assert read_to_end(by_time) == [(1, first - 1), *kept]


def test_reader_that_is_overtaken_by_the_limits_is_told(stack_bus: StackBus) -> None:
    """What the stream dropped before a slow reader got it is a gap, exactly, and everything else is read."""
    ensure_streams(stack_bus.sync("streams"), SMALL)
    stack_bus.events(b"1", b"2")
    reader = StreamReader(stack_bus.sync(), STREAM, subjects.ALL_EVENTS, first=1)
    assert read(reader, 2) == [1, 2]
    stack_bus.events(*numbered(3, 300, size=300))  # more than the one batch that the server may have sent meanwhile
    found = read_to_end(reader)
    sequences = [s for item in found for s in (range(item[0], item[1] + 1) if isinstance(item, tuple) else (item,))]
    assert sequences == list(range(3, 301))
    assert any(isinstance(item, tuple) for item in found)


def test_messages_under_other_subjects_are_no_gap(stack_bus: StackBus) -> None:
    """A reader of one namespace is not alarmed by those of others, not even when the stream drops them."""
    ensure_streams(stack_bus.sync("streams"), SMALL)
    timing = Timing(pull_s=2.0, heartbeat_s=0.1)
    reader = StreamReader(stack_bus.sync(), STREAM, subjects.events_of_namespace("default"), timing=timing)
    stack_bus.events(b"1")
    stack_bus.events(*numbered(2, 6), namespace="other")
    stack_bus.events(b"7")
    assert read(reader, 2) == [1, 7]
    for last in (17, 27, 37):
        stack_bus.events(*numbered(1, 10, size=300), namespace="other")
        eventually(lambda wanted=last: not reader.turn(0.1) and reader.position == wanted)  # type: ignore[misc]
    assert state_of(stack_bus.sync(), STREAM).first > 8
    stack_bus.events(b"38")
    assert read_to_end(reader) == [38]


def test_restart_of_the_server_loses_and_repeats_nothing(stack_bus: StackBus) -> None:
    """After kill -9 of the bus the reader goes on behind the last sequence by itself, and tells that it waited."""
    ensure_streams(stack_bus.sync("streams"))
    stack_bus.events(*numbered(1, 3))
    reader = StreamReader(stack_bus.sync(), STREAM, subjects.ALL_EVENTS, first=1)
    assert read(reader, 3) == [1, 2, 3]
    stack_bus.kill()
    with pytest.raises(Unavailable) as caught:
        eventually(lambda: reader.turn(1))
    stack_bus.start()
    stack_bus.events(b"4", b"5")
    reader.recover(caught.value, lambda failure: None)
    assert read(reader, 2) == [4, 5]
    stack_bus.events(b"6")
    assert read(reader, 1) == [6]


def test_reader_that_the_server_forgot_goes_on(stack_bus: StackBus) -> None:
    """A reader that did not ask for long, as one whose output nobody took, reads on where it was."""
    ensure_streams(stack_bus.sync("streams"))
    timing = Timing(pull_s=1.0, heartbeat_s=0.4)
    reader = StreamReader(stack_bus.sync(), STREAM, subjects.ALL_EVENTS, first=1, timing=timing)
    stack_bus.events(b"1")
    assert read(reader, 1) == [1]
    other = stack_bus.sync()
    eventually(lambda: api(other, f"STREAM.INFO.{STREAM}", {})["state"]["consumer_count"] == 0)
    stack_bus.events(b"2", b"3")
    assert read(reader, 2) == [2, 3]


def test_stream_that_has_lost_its_end_is_told(stack_bus: StackBus) -> None:
    """A reader that has read more than the stream has now hears so, and reads on what comes then."""
    ensure_streams(stack_bus.sync("streams"))
    stack_bus.events(*numbered(1, 5))
    reader = StreamReader(stack_bus.sync(), STREAM, subjects.ALL_EVENTS, first=1)
    assert read(reader, 5) == [1, 2, 3, 4, 5]
    stack_bus.kill()
    stack_bus.forget()
    stack_bus.start()
    ensure_streams(stack_bus.sync("streams"))
    stack_bus.events(b"1", b"2")
    reader.recover(Unavailable("it was killed"), lambda failure: None)
    assert read(reader, 1) == [(3, 5)]
    stack_bus.events(b"3")
    assert read(reader, 1) == [3]


def test_beginning_beyond_the_end_is_refused(stack_bus: StackBus) -> None:
    """Only the very next message may be waited for; a number far ahead is another stream's."""
    ensure_streams(stack_bus.sync("streams"))
    stack_bus.events(*numbered(1, 5))
    with pytest.raises(OutOfRange, match="from sequence 7: it ends at 5"):
        StreamReader(stack_bus.sync(), STREAM, subjects.ALL_EVENTS, first=7)
    reader = StreamReader(stack_bus.sync(), STREAM, subjects.ALL_EVENTS, first=6)
    stack_bus.events(b"6")
    assert read(reader, 1) == [6]


@pytest.mark.parametrize("stack_bus", ["pinned"], indirect=True)
def test_silent_server_is_noticed(stack_bus: StackBus) -> None:
    """A server that hangs is not mistaken for one that has nothing to say, and is used again when it wakes up."""
    ensure_streams(stack_bus.sync("streams"))
    timing = Timing(heartbeat_s=0.2, silent_s=1.0)
    reader = StreamReader(stack_bus.sync(), STREAM, subjects.ALL_EVENTS, timing=timing)
    assert reader.turn(0.1) == []
    freeze(stack_bus.process.pid)
    with pytest.raises(HytheError) as caught:
        eventually(lambda: reader.turn(0.1), 10)
    assert isinstance(caught.value, Unavailable | DeadlineExceeded)
    os.kill(stack_bus.process.pid, signal.SIGCONT)
    stack_bus.events(b"1")
    reader.recover(caught.value, lambda failure: None)
    assert read(reader, 1) == [1]


@pytest.mark.parametrize("stack_bus", ["pinned"], indirect=True)
def test_bus_that_stays_away_ends_the_reading(stack_bus: StackBus) -> None:
    """A reader waits for the bus as long as it was told, says once that it waits, and fails then."""
    ensure_streams(stack_bus.sync("streams"))
    reader = StreamReader(stack_bus.sync(), STREAM, subjects.ALL_EVENTS, timing=Timing(away_s=0.5))
    stack_bus.kill()
    told: list[HytheError] = []
    with pytest.raises(Unavailable, match="does not listen"):
        reader.recover(Unavailable("it was killed"), told.append)
    assert len(told) <= 1
