"""How an operation keeps what it works with from being collected: reference before presence, under a lease of its own.

Before an operation asks whether a blob exists, it has the blob named to its lease (`Held.refer`). The lease is renewed as
long as the operation lives and goes when it ends; of one that was killed it runs out by itself (ARCHITECTURE §7).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType

from hythe.digest import Digest
from hythe.errors import HytheError, NotFound, Unavailable
from hythe.ports.leases import Leases, Referred

log = logging.getLogger(__name__)

DURATION_S = 60.0
BATCH = 500
BATCH_CHARACTERS = 1 << 20
"""So many blobs, and characters of labels, are named by one request at most: a message has its limit."""
_RENEWALS = 3
_RETRIES = 12
END_WITHIN_S = 2.0


def _boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Holder:
    """Makes the leases of one process's operations."""

    def __init__(
        self, leases: Leases, *, duration_s: float = DURATION_S, clock: Callable[[], float] = _boottime_s
    ) -> None:
        """Make leases of `duration_s`, renewed after a third of it; `clock` counts seconds through suspend."""
        self._leases = leases
        self._duration_s = duration_s
        self._clock = clock
        self._ending: set[asyncio.Task[None]] = set()

    def open(self, namespace: str, lease: str) -> Held:
        """Return a hold under the name `lease`, the request id of the operation, so that its repeats share it.

        Nothing is asked of anybody until the first `Held.refer`. To be ended by `Held.end`; `hold` does so by itself.
        """
        return Held(self._leases, namespace, lease, self._duration_s, self._clock, self._end)

    @asynccontextmanager
    async def hold(self, namespace: str, lease: str) -> AsyncIterator[Held]:
        """Hold for a block; however it is left, nobody waits for the lease to go."""
        held = self.open(namespace, lease)
        try:
            yield held
        finally:
            held.end()

    def _end(self, namespace: str, lease: str) -> None:
        task = asyncio.get_running_loop().create_task(self._remove(namespace, lease))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _remove(self, namespace: str, lease: str) -> None:
        try:
            await self._leases.remove(namespace, lease)
        except HytheError as error:
            log.info("a lease could not be ended and will run out", extra={"lease": lease, "cause": error.message})

    async def close(self) -> None:
        """Wait a little for leases that are just being ended; those that are not will run out."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=END_WITHIN_S)


class Held:
    """The hold of one operation on what it works with.

    Attributes:
        lease: its name.
    """

    def __init__(
        self,
        leases: Leases,
        namespace: str,
        lease: str,
        duration_s: float,
        clock: Callable[[], float],
        on_end: Callable[[str, str], None],
    ) -> None:
        self.lease = lease
        self._leases = leases
        self._namespace = namespace
        self._duration_s = duration_s
        self._clock = clock
        self._on_end = on_end
        self._contents: dict[Digest, Mapping[str, str]] = {}
        self._begun = False
        self._ended = False
        self._lost = False
        self._renewed_s = 0.0
        self._renewing: asyncio.Task[None] | None = None

    async def refer(self, contents: Sequence[Referred]) -> None:
        """Keep `contents` and whatever their labels name; only when this returns may be asked whether they are there.

        May be repeated, with the same or with more.

        Raises:
            Unavailable, DeadlineExceeded: metadata is away; nothing is kept for certain. Or all was given free already.
        """
        if self._ended:
            raise Unavailable(f"refer to {len(contents)} blobs: what needed them has ended", outcome="not started")
        for each in contents:
            known = self._contents.get(each.digest, MappingProxyType({}))
            self._contents[each.digest] = {**known, **each.labels}
        if self._begun and not self._fresh():
            await self._refer_again()
        else:
            await self._refer(contents)

    async def confirm(self) -> bool:
        """Tell whether all that was referred to has been kept since this was asked last; from now on it is, in any case.

        Where it wasn't, for the lease had run out, whatever was seen to be there may be gone: it is referred to again,
        and the caller looks again. Nobody is asked as long as the lease can't have run out.

        Raises:
            Unavailable, DeadlineExceeded: metadata is away, and the lease may have run out.
        """
        if self._begun and not self._fresh():
            await self._refer_again()
        lost, self._lost = self._lost, False
        return not lost

    @asynccontextmanager
    async def handed_over(self) -> AsyncIterator[str]:
        """Give the name of the lease to a block that has somebody else end it, and renew it no more; empty if there is none.

        A change of the metadata that takes the lease's place ends it in its own transaction. When the block raises, the
        lease is this one's again.
        """
        self._stop_renewing()
        begun, self._begun = self._begun, False
        try:
            yield self.lease if begun else ""
        except BaseException:
            self._begun = begun or self._begun
            if self._begun:
                self._keep_renewing()
            raise

    def end(self) -> None:
        """Give everything free; to be called in the event loop. Repeating it does nothing."""
        self._ended = True
        self._stop_renewing()
        if self._begun:
            self._begun = False
            self._on_end(self._namespace, self.lease)

    def _fresh(self) -> bool:
        """Tell whether a third of the duration is left, for what is begun before the lease runs out."""
        return self._clock() - self._renewed_s < self._duration_s * (_RENEWALS - 1) / _RENEWALS

    async def _refer_again(self) -> None:
        """Refer to everything again, and note if the lease may have run out before that was heard."""
        before_s = self._renewed_s
        await self._refer([Referred(digest, labels) for digest, labels in self._contents.items()])
        if self._clock() - before_s >= self._duration_s:
            self._lost = True

    async def _refer(self, contents: Sequence[Referred]) -> None:
        self._begun = True  # if no answer comes, there may be a lease all the same
        for batch in batches(contents):
            sent_s = self._clock()
            await self._leases.refer(self._namespace, self.lease, self._duration_s, batch)
            self._renewed_s = max(self._renewed_s, sent_s)  # as if it had been heard when it was sent
        self._keep_renewing()

    def _keep_renewing(self) -> None:
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.get_running_loop().create_task(self._renew_for_ever(), name="renew-lease")

    def _stop_renewing(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None

    async def _renew_for_ever(self) -> None:
        wait_s = self._duration_s / _RENEWALS
        while True:
            await asyncio.sleep(wait_s)
            try:
                await self._renew()
                wait_s = self._duration_s / _RENEWALS
            except HytheError as error:
                wait_s = self._duration_s / _RETRIES
                log.warning("a lease could not be renewed", extra={"lease": self.lease, "cause": error.message})

    async def _renew(self) -> None:
        sent_s = self._clock()
        try:
            await self._leases.renew(self._namespace, self.lease)
        except NotFound:
            await self._refer_again()
            self._lost = True
        else:
            self._renewed_s = max(self._renewed_s, sent_s)


def batches(contents: Sequence[Referred]) -> Iterator[list[Referred]]:
    """Yield `contents` in parts that each fit into a request; one empty part where there are none."""
    batch: list[Referred] = []
    characters = 0
    for each in contents:
        size = sum(len(key) + len(value) for key, value in each.labels.items())
        if batch and (len(batch) == BATCH or characters + size > BATCH_CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(each)
        characters += size
    yield batch
