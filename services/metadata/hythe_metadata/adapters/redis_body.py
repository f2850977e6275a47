"""What carries the batches of a process out on Redis, and keeps the store tidy."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence

from hythe.errors import HytheError, Unavailable
from hythe_metadata.adapters.batches import Done, Job
from hythe_metadata.adapters.redis_batch import Task
from hythe_metadata.adapters.redis_committer import Committer
from hythe_metadata.adapters.redis_errors import away

UPKEEP_S = 60.0
"""How often records are forgotten whose time has come."""
LONG_S = 0.5
"""How long Redis must have been waited for that those who have come meanwhile are refused, too."""
SHORT_S = 0.01
"""Who asks so soon after such a wait has come during it."""


class RedisBody:
    """Keeps the promises of `hythe_metadata.adapters.batches.Body`."""

    def __init__(self, committer: Committer, changed: Callable[[], None], upkeep_s: float = UPKEEP_S) -> None:
        """Take over `committer`; `changed` is called in the thread after each batch that changed something."""
        self._committer = committer
        self._changed = changed
        self._upkeep_s = upkeep_s
        self._upkeep_at = 0.0
        self._away: Unavailable | None = None
        self._refuse_until = 0.0

    def commit(self, jobs: Sequence[Job]) -> HytheError | None:
        """See `hythe_metadata.adapters.batches.Body.commit`."""
        begun = time.monotonic()
        if self._away is not None and begun < self._refuse_until:
            return self._away  # they came while Redis was waited for: they would wait as long, and hear the same
        tasks = [Task(job.work) for job in jobs]
        left = tasks
        error: HytheError | None = None
        try:
            while left:
                left = self._committer.carry_out(left)
        except HytheError as raised:
            error = raised
            self._remember(raised, time.monotonic() - begun)
        undone = {id(task) for task in left}
        for job, task in zip(jobs, tasks, strict=True):
            if error is not None and id(task) in undone:
                job.outcome = copy.copy(error)
            else:
                job.outcome = task.error or Done(task.result, task.wrote)
        if any(task.wrote for task in tasks if id(task) not in undone):
            self._changed()
        if error is None and time.monotonic() >= self._upkeep_at:
            self.rest()
        return None

    def forget_sent(self, sequences: Sequence[int]) -> None:
        """See `hythe_metadata.adapters.batches.Body.forget_sent`."""
        self._committer.sent += sequences

    def rest(self) -> HytheError | None:
        """See `hythe_metadata.adapters.batches.Body.rest`."""
        try:
            self._committer.forget_sent()
            if time.monotonic() >= self._upkeep_at:
                self._upkeep_at = time.monotonic() + self._upkeep_s
                self._committer.forget_due()
        except HytheError as error:
            return error
        return None

    def close(self) -> None:
        """See `hythe_metadata.adapters.batches.Body.close`."""
        self._committer.close()

    def _remember(self, error: HytheError, waited_s: float) -> None:
        """Refuse at once what comes right after a long wait for nothing."""
        self._away = None
        if isinstance(error, Unavailable) and waited_s > LONG_S:
            self._away = away("write metadata store", self._committer.place, error.cause)
            self._refuse_until = time.monotonic() + SHORT_S
