"""A process that changes a metadata store as fast as it can and says on stdout what was acknowledged.

Run with the store's directory, the number of callers and the number of changes each makes (0: until killed).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

from hythe.errors import Conflict
from hythe.identifiers import new_id
from hythe.ports.metadata import ContainerWish, ImageRecord, ImageWish, Origin
from hythe_metadata.adapters.sqlite_store import SqliteStore
from tests.fakes.intent import Intent

REFERENCE = "localhost/counter:1"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def say(*words: object) -> None:
    """Write one line at once; a line is shorter than a pipe's atomic write."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def spec_of(container_id: str) -> str:
    """Return a spec that can be recognised whole."""
    return '{"args":["' + container_id * 40 + '"]}'


def digest_of(predecessor: int) -> str:
    """Return a digest that tells which revision it replaced."""
    return f"sha256:{predecessor:032x}{new_id()}"


async def _begin(store: Intent) -> None:
    container_id = new_id()
    wish = ContainerWish(container_id, f"c-{container_id}", "r", "sha256:" + "0" * 64, "h1", spec_of(container_id))
    say("asked", container_id)
    record = await store.begin(Origin("crash", "test", container_id), wish)
    say("begun", container_id, record.revision)


async def _replace(store: Intent) -> None:
    try:
        found: ImageRecord = await store.image("crash", REFERENCE)
        wish = ImageWish(REFERENCE, digest_of(found.revision), MANIFEST, 1, found.revision)
        record = await store.put_image(Origin("crash", "test", new_id()), wish)
    except Conflict:
        return
    say("replaced", found.revision, record.revision, record.digest)


async def main(directory: Path, callers: int, changes: int) -> None:
    """Change the store until killed, or so many times."""
    store = Intent(SqliteStore(directory / "metadata.db"))
    await store.put_image(Origin("crash", "test", ""), ImageWish(REFERENCE, digest_of(0), MANIFEST, 1))
    say("ready")

    async def caller(number: int) -> None:
        for _ in range(changes) if changes else itertools.count():
            await (_begin(store) if number % 2 else _replace(store))

    await asyncio.gather(*(caller(number) for number in range(callers)))
    say("done")
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
