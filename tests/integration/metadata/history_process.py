"""A process that carries out random operations on a metadata store and says on stdout what it asks and what came of it.

Run with the store's URL, a name, a seed, the number of callers, and the number of operations of each (0: until killed). It
begins when it gets a line.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import sys
from pathlib import Path

from hythe.errors import HytheError
from hythe_metadata.records import Key, RecordStore
from hythe_metadata.wiring import open_store
from tests.fixtures.histories import KINDS, NAMESPACES, make, perform


def say(*words: object) -> None:
    """Write one line at once."""
    text = (json.dumps(words) + "\n").encode()
    while text:
        text = text[os.write(1, text) :]


async def _revisions(store: RecordStore) -> dict[Key, int]:
    return await store.read(
        lambda view: {
            stored.key: stored.revision for kind in KINDS for space in NAMESPACES for stored in view.scan(kind, space)
        }
    )


async def main(url: str, name: str, seed: int, callers: int, operations: int) -> None:
    """Change the store until killed, or so many times."""
    store = open_store(url, Path("/nowhere"))
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)

    async def caller(number: int) -> None:
        rng = random.Random(f"{seed} {name} {number}")
        revisions: dict[Key, int] = {}
        for count in range(operations) if operations else itertools.count():
            if count % 3 == 0:
                try:
                    revisions = await _revisions(store)
                except HytheError:
                    pass
            operation = make(rng, f"{name}-{number}-{count}", revisions)
            say("asked", operation)
            event = await perform(store, operation)
            say("answered", operation["id"], event.outcome, event.seen, event.result)

    await asyncio.gather(*(caller(number) for number in range(callers)))
    say("finished")
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])))
