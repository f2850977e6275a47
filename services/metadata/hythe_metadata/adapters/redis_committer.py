"""How works become a change of a Redis store: on what is remembered, sent with the mark they rest on, again if it was old."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

from hythe import failpoints
from hythe.errors import HytheError, OutOfRange, Unavailable
from hythe.identifiers import new_id
from hythe_metadata.adapters import redis_keys as keys
from hythe_metadata.adapters.redis_batch import Batch, CachedView, Stale, Task
from hythe_metadata.adapters.redis_cache import Cache
from hythe_metadata.adapters.redis_errors import unknown
from hythe_metadata.adapters.redis_link import AnswerLost, Link
from hythe_metadata.adapters.redis_view import RedisView
from hythe_metadata.records import INTERNAL_KINDS

FIND_OUT_S = 2.0
"""How long is asked what became of a batch whose answer was lost."""
MAX_ATTEMPTS = 50
TURN_MS = 50
"""How long the others leave a process alone that has taken its turn; advisory, nothing rests on it."""
TURN_WAIT_S = 0.1
CONTENDED_S = 1.0
"""How long turns are taken after another process came first."""
MOST_NEWS = 1000
FORGET_AT_ONCE = 200
KEEP_NUMBERS_MS = 14 * 86_400_000
"""How long a number is remembered after an object's last event: longer than the stream keeps any event."""
_STEP = "write metadata store"


class Committer:
    """Carries out works and sends what they change; for one thread.

    Attributes:
        sent: sequences of events that are to be forgotten.
        place: where the store is.
    """

    def __init__(self, link: Link, store_id: str, era: int, process: str, kept_changes: int) -> None:
        """Write to the store `store_id` as `process`, an id that no other process has had."""
        self.sent: list[int] = []
        self.place = link.place
        self._link = link
        self._store_id = store_id
        self._era = era
        self._process = process
        self._kept_changes = kept_changes
        self._channel = keys.channel_of(link.place.prefix)
        self._turn = keys.keys_of(link.place.prefix)[keys.KEY_NAMES.index("turn")]
        self._cache = Cache()
        self._plain = RedisView(link, store_id, era)
        self._view = CachedView(self._cache, RedisView(link, store_id, era, self._notice))
        self._batches = itertools.count(1)
        self._contended_until = 0.0
        self._verified = False

    def carry_out(self, tasks: Sequence[Task]) -> list[Task]:
        """Carry out works; when this returns, all that they changed is durable, and those returned are yet to be done.

        Raises:
            Unavailable: Redis is away; nothing was changed, unless the outcome is ``unknown``.
            HytheError: nothing can be changed now.
        """
        for _ in range(MAX_ATTEMPTS):
            try:
                self._begin()
                batch = Batch(self._view, self._cache.revision, self._era)
                batch.run(tasks)
                if batch.wrote:
                    self._send(batch)
                elif not self._verified:
                    self._notice(*self._plain.standing())
            except Stale:
                self._contended_until = time.monotonic() + CONTENDED_S
                continue
            except BaseException:
                self._cache.clear()
                raise
            return batch.left
        raise Unavailable(f"{_STEP} {self.place}: other processes came first {MAX_ATTEMPTS} times", service="metadata")

    def forget_sent(self) -> None:
        """Forget the events that were sent."""
        if self.sent:
            self._link.question(_STEP, self._forget_command())
            self.sent.clear()

    def forget_due(self) -> None:
        """Forget records whose time has come, and numbers of events that nobody needs any more."""
        while True:
            arguments = (self._store_id, new_id(), FORGET_AT_ONCE, self._kept_changes, self._channel, KEEP_NUMBERS_MS)
            _, _, count = self._link.question(_STEP, self._link.call("forget", *arguments, *sorted(INTERNAL_KINDS)))[0]
            if count:
                self._cache.clear()
            if count < FORGET_AT_ONCE:
                return

    def reconnected(self) -> None:
        """Forget what is remembered: Redis may have been restarted without its last changes."""
        self._cache.clear()

    def close(self) -> None:
        """Give up what this process holds."""
        try:
            self.forget_sent()
            self._link.question(_STEP, self._link.call("leave", self._process))
        except HytheError:
            pass  # turns end by themselves, and a record of a last batch is forgotten after a day
        self._link.close()

    def _begin(self) -> None:
        """Know which state of the store the works are carried out on."""
        self._link.renew(_STEP)
        contended = time.monotonic() < self._contended_until
        if contended:
            self._take_turn()
        if contended or not self._cache.mark:
            self._catch_up()
        self._verified = False

    def _take_turn(self) -> None:
        until = time.monotonic() + TURN_WAIT_S
        while time.monotonic() < until:
            take = ("SET", self._turn, self._process, "NX", "GET", "PX", TURN_MS)
            holder = self._link.question(_STEP, take)[0]
            if holder is None or holder.decode() == self._process:
                return
            time.sleep(0.001)

    def _catch_up(self) -> None:
        if self._cache.mark:
            try:
                news = self._plain.news(self._cache.revision, MOST_NEWS)
            except OutOfRange:
                self._cache.clear()
            else:
                if self._cache.mark and len(news.log) < MOST_NEWS and news.revision >= self._cache.revision:
                    changed = (key for _, text in news.log for key in keys.changed_keys(text))
                    self._cache.changed(changed, news.revision, news.mark)
                    return
                self._cache.clear()
        revision, mark = self._plain.standing()
        self._cache.revision, self._cache.mark = revision, mark

    def _notice(self, revision: int, mark: str) -> None:
        if mark != self._cache.mark:
            raise Stale
        self._verified = True

    def _send(self, batch: Batch) -> None:
        name = f"{self._process}.{next(self._batches)}"
        call = self._link.call(
            "commit",
            *(self._store_id, self._process, name, self._cache.mark, batch.revision, self._kept_changes, self._channel),
            *batch.arguments(),
        )
        failpoints.reach("metadata.commit")
        outcome, *_ = self._settle([self._forget_command(), call] if self.sent else [call])
        failpoints.reach("metadata.committed")
        if outcome == b"stale":
            raise Stale
        self.sent.clear()
        if outcome == b"again":
            self._cache.clear()
        else:
            self._cache.committed(batch.changes, batch.revision, name)

    def _settle(self, commands: list[tuple[str | bytes | int, ...]]) -> list[Any]:
        """Return the answer to the last command, which is sent until there is one: it takes effect once.

        Raises:
            Unavailable: there is no connection; or, with outcome ``unknown``, what became of it can't be found out.
            HytheError: Redis has refused it.
        """
        until = 0.0
        while True:
            try:
                answer: list[Any] = self._link.ask(_STEP, *commands)[-1]
                return answer
            except AnswerLost as lost:
                cause: Exception = lost
            except HytheError as error:
                if not until:
                    raise
                cause = error  # says nothing about the batch that was sent before
            until = until or time.monotonic() + FIND_OUT_S
            if time.monotonic() > until:
                raise unknown(_STEP, self.place, cause) from cause
            time.sleep(0.02)

    def _forget_command(self) -> tuple[str | bytes | int, ...]:
        return self._link.call("sent", self._store_id, *self.sent)
