"""The streams of a stack on the pinned server and on Debian's old one."""

from __future__ import annotations

import pytest

from hythe import subjects
from hythe.client.jetstream import Consumer, api, last_message, messages_of
from hythe.errors import NotFound
from hythe.stack.streams import Limits, ensure_streams
from tests.fixtures.stack_bus import HOST, StackBus
from tests.fixtures.waiting import eventually


def test_streams_are_made_once_and_kept_at_the_next_start(stack_bus: StackBus) -> None:
    """A second start changes nothing and loses nothing; what the server took is what was asked for."""
    bus = stack_bus.sync()
    assert ensure_streams(stack_bus.sync("streams")) == []
    subject = subjects.event("default", HOST, "container", "x", "started")
    stack_bus.publish(subject, b"1")
    assert ensure_streams(stack_bus.sync("streams")) == []
    stored = last_message(bus, subjects.EVENT_STREAM, subjects.ALL_EVENTS)
    assert stored is not None
    assert (stored.subject, stored.data) == (subject, b"1")
    config = api(bus, f"STREAM.INFO.{subjects.SPAN_STREAM}", {})["config"]
    assert (config["max_bytes"], config["max_age"]) == (256 << 20, 24 * 3600 * 10**9)


def test_events_are_kept_as_long_as_the_settings_say(stack_bus: StackBus) -> None:
    """Age and size of the stream follow the settings at each start, up and down; 0 keeps events for ever."""
    maker = stack_bus.sync("streams")
    for limits in (Limits(60, 1 << 20), Limits(0, 600 << 20), Limits()):
        assert ensure_streams(maker, limits) == []
        config = api(maker, f"STREAM.INFO.{subjects.EVENT_STREAM}", {})["config"]
        assert (config["max_age"], config["max_bytes"]) == (limits.age_s * 10**9, limits.size_bytes)


def test_messages_are_found_by_subject_among_many(stack_bus: StackBus) -> None:
    """Reading one object's messages needs no look at the others."""
    bus = stack_bus.sync()
    ensure_streams(stack_bus.sync("streams"))
    for number in range(20):
        stack_bus.publish(subjects.event("default", HOST, "container", f"c{number % 4}", "started"), b"%d" % number)
    wanted = subjects.events_of_object("default", HOST, "container", "c1")
    assert [m.data for m in messages_of(bus, subjects.EVENT_STREAM, wanted)] == [b"1", b"5", b"9", b"13", b"17"]
    later = [m.sequence for m in messages_of(bus, subjects.EVENT_STREAM, wanted, after=6)]
    assert later == [10, 14, 18]
    assert last_message(bus, subjects.EVENT_STREAM, subjects.events_of_object("default", HOST, "x", "y")) is None


def test_consumer_reads_everything_in_order_and_leaves_nothing_behind(stack_bus: StackBus) -> None:
    """A stretch longer than one batch comes whole; the consumer is gone afterwards."""
    bus = stack_bus.sync()
    ensure_streams(stack_bus.sync("streams"))
    agent = stack_bus.sync("agent")
    for number in range(600):
        agent.publish(subjects.event("default", HOST, "container", "c", "started"), b"%d" % number)
    agent.flush()
    eventually(lambda: (last := last_message(bus, subjects.EVENT_STREAM, subjects.ALL_EVENTS)) and last.data == b"599")
    with Consumer(bus, subjects.EVENT_STREAM, subjects.events_of_namespace("default")) as consumer:
        assert [int(m.data) for m in consumer.read(consumer.pending)] == list(range(600))
        assert list(consumer.read(1)) == []
    with Consumer(bus, subjects.EVENT_STREAM, subjects.ALL_EVENTS, since_rfc3339="2200-01-01T00:00:00Z") as consumer:
        assert consumer.pending == 0
    assert api(bus, f"STREAM.INFO.{subjects.EVENT_STREAM}", {})["state"]["consumer_count"] == 0


def test_missing_stream_is_not_found(stack_bus: StackBus) -> None:
    """Before the streams are made, asking for one is a clear error."""
    with pytest.raises(NotFound):
        api(stack_bus.sync(), f"STREAM.INFO.{subjects.EVENT_STREAM}", {})
