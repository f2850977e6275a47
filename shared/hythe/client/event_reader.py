"""Reads the event stream: each event once, although publishers may store one twice, and what is missing is told.

Promise: every event that the stream has from the beginning on is given, those of one object in the order of their
numbers. An event that was stored twice is given once; for a reader that goes on where another ended, this holds for
repeats of the last `LOOK_BACK` messages before its beginning, which it reads again (a publisher repeats an event within
seconds, after an acknowledgement that it did not hear).
"""

from __future__ import annotations

import json

from hythe import subjects
from hythe.client.stream_parts import Gap, Message
from hythe.client.stream_reader import StreamReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hythe.client.sync_bus import SyncBus

LOOK_BACK = 8192
MAX_OBJECTS = 65_536
_CATCH_UP_S = 5.0


class StoredEvent:
    """An event with its place in the stream; `body` has every field of `hythe.wire.events.Event`."""

    __slots__ = ("body", "noun", "past", "sequence", "stored_ns")

    def __init__(self, message: Message, body: dict[str, Any]) -> None:
        parts = message.subject.split(".")
        self.noun, self.past = parts[5], parts[7]
        self.sequence = message.sequence
        self.stored_ns = message.stored_ns
        self.body = body


class Missing:
    """Events of one object that its publisher numbered and the stream does not have: `first` to `last`, both included."""

    __slots__ = ("event", "first", "last")

    def __init__(self, event: StoredEvent, first: int, last: int) -> None:
        self.event = event
        self.first = first
        self.last = last


class Unreadable:
    """A message that is no event."""

    __slots__ = ("cause", "sequence")

    def __init__(self, sequence: int, cause: str) -> None:
        self.sequence = sequence
        self.cause = cause


class Numbers:
    """The highest number of each object's events so far, of the last 65,536 objects."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, str, int]] = {}
        self._gap = 0

    def gap(self, last: int) -> None:
        """Everything before sequence `last` may have been lost: numbers that jump from there on are no surprise."""
        self._gap = last

    def take(self, subject: str, number: int, time: str, sequence: int) -> int | None:
        """Take an event; return how many of its object are missing before it, or None if it is a repeat.

        A number that comes again later, by the publisher's own clock, than everything of the object before is no repeat:
        the publisher was set back to an older state and counts anew.
        """
        of_object = subject.rpartition(".")[0]
        highest, latest, last = self._seen.pop(of_object, (0, "", 0))
        if highest >= number and time <= latest:
            self._seen[of_object] = highest, latest, last
            return None
        self._seen[of_object] = number, max(time, latest), sequence
        if len(self._seen) > MAX_OBJECTS:
            del self._seen[next(iter(self._seen))]
        return number - highest - 1 if 0 < highest < number and last > self._gap else 0


class EventReader:
    """`hythe.client.stream_reader.StreamReader` for events."""

    def __init__(self, bus: SyncBus, subject: str, *, first: int = 0, since_rfc3339: str = "") -> None:
        """Begin at sequence `first`; or with what was stored from a time on; or, with neither, with what comes from now on.

        Raises:
            OutOfRange: the stream has not come as far as `first` yet, but for the very next message.
            NotFound: there is no stream of events.
            HytheError: the server does not answer.
        """
        self.stream = StreamReader(bus, subjects.EVENT_STREAM, subject, first=first, since_rfc3339=since_rfc3339)
        self._numbers = Numbers()
        if first > 1:
            self._look_back(bus, subject, first)

    def turn(self, wait_s: float) -> list[StoredEvent | Gap | Missing | Unreadable]:
        """Return what comes next, in order; nothing when nothing came within `wait_s`, and at the end.

        Raises:
            Unavailable, DeadlineExceeded: the connection broke or the server is silent; `stream.recover` goes on.
        """
        told: list[StoredEvent | Gap | Missing | Unreadable] = []
        for item in self.stream.turn(wait_s):
            if isinstance(item, Gap):
                self._numbers.gap(item.last)
                told.append(item)
            else:
                told += self._judge(item)
        return told

    def _judge(self, message: Message) -> list[StoredEvent | Gap | Missing | Unreadable]:
        try:
            event = StoredEvent(message, read_event(message.data))
        except (ValueError, IndexError) as error:
            return [Unreadable(message.sequence, str(error))]
        number = event.body["number"]
        missing = self._numbers.take(message.subject, number, event.body["time"], message.sequence)
        if missing is None:
            return []
        return [*([Missing(event, number - missing, number - 1)] if missing else []), event]

    def _look_back(self, bus: SyncBus, subject: str, first: int) -> None:
        """Learn the numbers of what came just before `first`."""
        earlier = StreamReader(bus, subjects.EVENT_STREAM, subject, first=max(1, first - LOOK_BACK))
        earlier.stop_at_end()
        while not earlier.done and earlier.position < first - 1:
            for item in earlier.turn(_CATCH_UP_S):
                if isinstance(item, Message) and item.sequence < first:
                    self._judge(item)
        earlier.close()


def read_event(data: bytes) -> dict[str, Any]:
    """Return the event that `data` spells, with all its fields.

    Raises:
        ValueError: it spells none.
    """
    try:
        body = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(body, dict):
        raise ValueError("it is no object")
    found: dict[str, Any] = {}
    for name, default in _FIELDS.items():
        value = body.get(name, default)
        if type(value) is not type(_KINDS[name]):
            raise ValueError(f"{name} is {'missing' if value is None else 'of another kind'}")
        found[name] = value
    if not all(isinstance(value, str) for value in found["attributes"].values()):
        raise ValueError("attributes are not text")
    return found


_KINDS: dict[str, Any] = {
    "topic": "",
    "namespace": "",
    "host": "",
    "object_id": "",
    "number": 0,
    "run": 0,
    "time": "",
    "caller": "",
    "request_id": "",
    "trace_id": "",
    "attributes": {},
}
_NEEDED = ("topic", "namespace", "object_id", "number", "time")
_FIELDS = {name: None if name in _NEEDED else kind for name, kind in _KINDS.items()}
