"""A process whose callers raise counters in a metadata store by compare-and-set; it says how often each was raised.

It begins when it gets a line, having said that it is ready.

Run with the store's URL, the number of callers, and how often each raises a counter.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from hythe.errors import Conflict
from hythe_metadata.records import Key, RecordStore, Stored, Transaction
from hythe_metadata.wiring import open_store

COUNTERS = [Key("content", "counting", f"c{number}") for number in range(3)]


async def _raise(store: RecordStore, key: Key) -> bool:
    """Raise a counter by one as it was read before; tell whether nobody else came first."""
    before: Stored | None = await store.read(lambda view: view.get(key))
    value, revision = (int(before.body), before.revision) if before else (0, 0)

    def work(transaction: Transaction) -> None:
        present = transaction.get(key)
        if (present.revision if present else 0) != revision:
            raise Conflict("changed")
        transaction.put(key, str(value + 1))

    try:
        await store.change(work)
    except Conflict:
        return False
    return True


async def main(url: str, callers: int, times: int) -> None:
    """Raise the counters."""
    store = open_store(url, Path("/nowhere"))
    raised: Counter[str] = Counter()

    async def caller(number: int) -> None:
        for count in range(times):
            key = COUNTERS[(number + count) % len(COUNTERS)]
            while not await _raise(store, key):
                pass
            raised[key.name] += 1

    print("ready", flush=True)
    sys.stdin.readline()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    print(json.dumps(raised))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
