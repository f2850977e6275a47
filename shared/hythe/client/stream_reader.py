"""Reads a stream from a place on and follows it: each message once and in order, and whatever is lost is told as a gap.

It reads by a pull consumer that is made anew, from the next sequence, after everything that may have lost a message: a
broken connection, a restart of the server, a jump in what the consumer counts, silence. A gap is seen by the stream's
own first sequence; sequences that are only missing because they are under other subjects are none. What a consumer says
of messages that are left is not relied on: version 2.9 may not know of one yet that is stored already. Only what
nats-server 2.9 and 2.15 both have is used.
"""

from __future__ import annotations

import json
import time

from hythe.client.jetstream import api, last_message
from hythe.client.stream_parts import USUAL, Delivered, Gap, Message, Timing, state_of
from hythe.errors import DeadlineExceeded, HytheError, OutOfRange, ResourceExhausted, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hythe.client.protocol import Frame
    from hythe.client.sync_bus import SyncBus

BATCH = 256
_TRY_AGAIN_S = 0.2
_MOST = 0.8
_IDLE, _NOTHING, _EXPIRED = 100, 404, 408
_NS = 1_000_000_000


class StreamReader:
    """A place in a stream. `turn` gives what comes next; after an error of the bus `recover` goes on from there.

    Attributes:
        position: each message up to this sequence was given, was told as a gap, or is under another subject.
    """

    def __init__(
        self,
        bus: SyncBus,
        stream: str,
        subject: str,
        *,
        first: int = 0,
        since_rfc3339: str = "",
        timing: Timing = USUAL,
    ) -> None:
        """Begin at sequence `first`; or with what was stored from a time on; or, with neither, with what comes from now on.

        Raises:
            OutOfRange: the stream has not come as far as `first` yet, but for the very next message.
            NotFound: there is no such stream.
            HytheError: the server does not answer.
        """
        self._bus = bus
        self._stream = stream
        self._subject = subject
        self._since = since_rfc3339
        self._timing = timing
        self._end: int | None = None
        self._items: list[Message | Gap] = []
        self._found: list[Frame] = []
        self._subscription = 0
        self._pulls = 0
        state = state_of(bus, stream)
        if first > state.last + 1:
            raise OutOfRange(
                f"read {stream} from sequence {first}: it ends at {state.last}",
                cause="the stream was made anew or lost its end, or the number is another stream's",
                next_step="read by time instead, with --since",
            )
        self.position = 0 if since_rfc3339 else (first or state.last + 1) - 1
        self._open()

    @property
    def done(self) -> bool:
        """It was asked to stop at an end of the stream, and is there."""
        return self._end is not None and not self._items and self.position >= self._end

    def stop_at_end(self) -> None:
        """Stop at what is the end of the stream now.

        Raises:
            HytheError: the server does not answer.
        """
        last = last_message(self._bus, self._stream, self._subject)
        self._end = last.sequence if last else 0

    def turn(self, wait_s: float) -> list[Message | Gap]:
        """Return what comes next, in order; nothing when nothing came within `wait_s`, and at the end.

        Raises:
            Unavailable, DeadlineExceeded: the connection broke or the server is silent; `recover` goes on.
        """
        if not self._items and not self.done:
            if time.monotonic() - self._heard > self._timing.pull_s * _MOST:
                self._open()  # nobody has called for so long that the server has forgotten this reader, or is about to
            if self._pull_ended:
                self._pull()
            if not self._found:
                self._bus.pump(wait_s)
                self._check_silence()
            self._take_found()
        items, self._items = self._items, []
        return items

    def recover(self, failure: HytheError, away: Callable[[HytheError], None]) -> None:
        """Connect again and read on after `position`.

        Args:
            failure: what `turn` raised.
            away: told once, if the bus does not come back at once.

        Raises:
            HytheError: the bus stays away for 60 s, or refuses.
        """
        deadline = time.monotonic() + self._timing.away_s
        told = False
        while True:
            try:
                self._bus.reconnect()
                self._open()
                return
            except (Unavailable, DeadlineExceeded, ResourceExhausted):
                if time.monotonic() > deadline:
                    raise
            if not told:
                away(failure)
                told = True
            time.sleep(_TRY_AGAIN_S)

    def close(self) -> None:
        """Leave nothing behind on the server; it would forget this reader by itself after 30 s."""
        try:
            api(self._bus, f"CONSUMER.DELETE.{self._stream}.{self._consumer}", {})
        except HytheError:
            pass

    def _open(self) -> None:
        """Make the consumer that reads on after `position`."""
        if self._subscription:
            subscription, self._subscription = self._subscription, 0
            self._bus.unsubscribe(subscription)
        before = state_of(self._bus, self._stream)
        if before.last < self.position:  # a power loss, and a server that does not write each message to the disk
            self._items.append(Gap(before.last + 1, self.position))
            self.position = before.last
        answer = api(
            self._bus,
            f"CONSUMER.CREATE.{self._stream}",
            {"stream_name": self._stream, "config": self._config()},
        )
        self._consumer = str(answer["name"])
        first = state_of(self._bus, self._stream).first
        begins = int(answer["delivered"]["stream_seq"]) + 1
        if self._since and begins > first:  # all that is older than that time is still there, so nothing was lost
            self.position = begins - 1
        self._since = ""
        self._lost(self.position + 1, first - 1)
        self._counted = 0
        self._pull_ended = True
        self._heard = time.monotonic()
        self._found.clear()
        self._inbox = self._bus.new_inbox(separate=True)
        self._subscription = self._bus.subscribe(f"{self._inbox}.*", self._found.append)

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "filter_subject": self._subject,
            "ack_policy": "none",
            "inactive_threshold": int(self._timing.pull_s * _NS),
            "mem_storage": True,
        }
        if self._since:
            return {**config, "deliver_policy": "by_start_time", "opt_start_time": self._since}
        return {**config, "deliver_policy": "by_start_sequence", "opt_start_seq": self.position + 1}

    def _pull(self) -> None:
        """Ask for what is there and what comes within the next 30 s."""
        self._pulls += 1
        self._left = BATCH
        self._pull_ended = False
        self._heard = time.monotonic()
        timing = self._timing
        order = {"batch": BATCH, "expires": int(timing.pull_s * _NS), "idle_heartbeat": int(timing.heartbeat_s * _NS)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        self._bus.publish(subject, json.dumps(order).encode(), None, f"{self._inbox}.{self._pulls}")

    def _check_silence(self) -> None:
        """Begin anew where the server says nothing at all: of a consumer that it forgot, old versions don't speak."""
        if self._found:
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > self._timing.silent_s:
            self._open()

    def _take_found(self) -> None:
        frames = self._found.copy()
        self._found.clear()
        messages = [Delivered(frame) for frame in frames if not frame.status]
        first = self._first_if_asked(messages)
        for frame in frames:
            if frame.status:
                if not self._see_status(frame):
                    return
                continue
            found = messages.pop(0)
            if found.counted != self._counted + 1:
                self._open()  # something between was lost on the way: read again from where we are
                return
            self._counted += 1
            self._lost(self.position + 1, min(found.message.sequence, first) - 1)
            if found.message.sequence > self.position:
                self._items.append(found.message)
                self.position = found.message.sequence
            self._left -= 1
            self._pull_ended = self._pull_ended or not self._left

    def _first_if_asked(self, messages: list[Delivered]) -> int:
        """Return the stream's first sequence, where one before a message was skipped; else 0."""
        expected = self.position + 1
        for found in messages:
            if found.message.sequence > expected:
                return state_of(self._bus, self._stream).first
            expected = found.message.sequence + 1
        return 0

    def _see_status(self, frame: Frame) -> bool:
        """Take the server's word on a pull; tell whether this consumer can be used on."""
        if frame.subject != f"{self._inbox}.{self._pulls}":
            return True
        if frame.status == _IDLE:
            return self._see_heartbeat(frame)
        if frame.status in (_NOTHING, _EXPIRED):
            self._pull_ended = True
            return True
        self._open()  # the consumer is gone: the server was started again, or nobody had asked it for long
        return False

    def _see_heartbeat(self, frame: Frame) -> bool:
        """Take how far the consumer has looked, beyond what it found under this subject."""
        if int(frame.headers.get("Nats-Last-Consumer", 0)) > self._counted:
            self._open()
            return False
        looked_at = int(frame.headers.get("Nats-Last-Stream", 0))
        if looked_at > self.position:
            first = state_of(self._bus, self._stream).first
            self._lost(self.position + 1, min(looked_at + 1, first) - 1)
            self.position = looked_at
        return True

    def _lost(self, first: int, last: int) -> None:
        if first <= last:
            self._items.append(Gap(first, last))
            self.position = last
