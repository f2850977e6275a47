"""Hears of the changes that other processes make, and keeps the sender's turn while events are being sent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from hythe.errors import HytheError
from hythe_metadata.adapters import redis_keys as keys
from hythe_metadata.adapters.redis_link import Link
from hythe_metadata.adapters.store_url import RedisPlace

SENDER_TURN_MS = 4000
"""How long after its last sign of life a process keeps the turn to send events."""
TICK_S = 1.0
_LISTEN_S = 0.25
_STEP = "listen to metadata store"

_log = logging.getLogger(__name__)


class Watcher:
    """A thread that calls when something changed; Redis's own messages are quick, a look each second is sure.

    Attributes:
        sending: this process is sending events, so it keeps the turn; it is lengthened each second.
    """

    def __init__(self, place: RedisPlace, process: str, revision: int, changed: Callable[[], None]) -> None:
        """Watch from `revision` on; `changed` is called in the thread, for changes that `process` itself didn't call for."""
        self.sending = False
        self._place = place
        self._process = process
        self._changed = changed
        self._ask = Link(place)
        self._listen = Link(place)
        self._revision = revision
        self._own = revision
        self._listening = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metadata-watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End, within a quarter of a second unless Redis hangs."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        tick_at = time.monotonic() + TICK_S  # the look when listening begins is the first
        told = False
        while not self._ended.is_set():
            try:
                if time.monotonic() >= tick_at:
                    tick_at = time.monotonic() + TICK_S
                    self._tick()
                self._hear()
                told = False
            except HytheError as error:
                if not told:
                    _log.warning("%s (%s)", error.message, error.cause)
                told = True
                self._listening = False
                self._ended.wait(_LISTEN_S)
        self._ask.close()
        self._listen.close()

    def _hear(self) -> None:
        if not self._listening:
            self._listen.question(_STEP, ("SUBSCRIBE", keys.channel_of(self._place.prefix)))
            self._listening = True
            self._look()
        message = self._listen.read(_LISTEN_S)
        # Beside messages there are words of subscriptions, also late ones of a server that hung.
        if message is not None and message[0] == b"message" and message[2].decode() != self._process:
            self._changed()

    def _tick(self) -> None:
        turn_ms = SENDER_TURN_MS if self.sending else ""
        if self._ask.question(_STEP, self._ask.call("wait", "", self._process, turn_ms))[0]:
            self._changed()  # events wait, and whoever had the turn to send them is gone
        self._look()

    def _look(self) -> None:
        """Call if the revision isn't the last one seen: messages may have been missed.

        Who commits calls by itself, for all before its own change too. So a change of this process waits for a second look,
        which finds it only if its answer was lost and nothing came after it.
        """
        store = keys.keys_of(self._place.prefix)[0]
        text, mark = self._ask.question(_STEP, ("HMGET", store, "revision", "mark"))[0]
        revision = int(text or 0)
        if revision == self._revision:
            return
        if (mark or b"").startswith(f"{self._process}.".encode()) and revision != self._own:
            self._own = revision
            return
        self._revision = revision
        self._changed()
