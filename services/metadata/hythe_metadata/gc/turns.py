"""One collection at a time, also where several metadata processes use one store: whose turn it is stands in a record.

That only saves work: what keeps two collections apart is the generation, of which each owner carries out the newest alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hythe.errors import HytheError, Unavailable
from hythe_metadata.lease_clock import LeaseClock
from hythe_metadata.records import NO_NAMESPACE, Key, RecordStore, Transaction, Work

DURATION_S = 20.0
TRY_AGAIN_S = 0.25
_RENEWALS = 4
_KEY = Key("gc", NO_NAMESPACE, "turn")

log = logging.getLogger(__name__)


@asynccontextmanager
async def turn(store: RecordStore, clock: LeaseClock, process: str, within_s: float) -> AsyncIterator[None]:
    """Hold the turn for a block, after waiting up to `within_s` seconds for it.

    Raises:
        Unavailable: another process has it.
    """
    until_s = time.monotonic() + within_s
    while not await store.change(_take(clock, process)):
        if time.monotonic() >= until_s:
            raise Unavailable(
                "collect garbage: another metadata process does it just now",
                service="metadata",
                next_step="ask again when it is done",
            )
        await asyncio.sleep(TRY_AGAIN_S)
    renewing = asyncio.create_task(_renew(store, clock, process), name="gc-turn")
    try:
        yield
    finally:
        renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await renewing
        try:
            await store.change(_give_back(process))
        except HytheError as error:
            log.warning("the turn to collect runs out by itself", extra={"cause": error.message})


async def _renew(store: RecordStore, clock: LeaseClock, process: str) -> None:
    while True:
        await asyncio.sleep(DURATION_S / _RENEWALS)
        try:
            await store.change(_take(clock, process))
        except HytheError as error:
            log.warning("the turn to collect could not be renewed", extra={"cause": error.message})


def _take(clock: LeaseClock, process: str) -> Work[bool]:
    def work(transaction: Transaction) -> bool:
        stored = transaction.get(_KEY)
        holder, count = json.loads(stored.body) if stored else ("", 0)
        mark = f"{holder} {count}"
        if stored is not None and holder != process and not clock.expired("gc turn", mark, DURATION_S):
            return False
        transaction.put(_KEY, json.dumps([process, count + 1]))
        return True

    return work


def _give_back(process: str) -> Work[None]:
    def work(transaction: Transaction) -> None:
        stored = transaction.get(_KEY)
        if stored is not None and json.loads(stored.body)[0] == process:
            transaction.delete(_KEY)

    return work
