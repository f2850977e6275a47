"""A process that unpacks one image as the bundle service does, to be killed: ``unpacking.py ROOT BLOBS DIGEST``.

When that is done it says so, then makes a container's snapshot and removes it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))  # for the tests' own modules

from hythe.digest import Digest
from hythe.oci import default_platform
from tests.fakes.blobs import LocalBlobs
from tests.fixtures.bundles import ORIGIN, Rig


async def main(root: Path, blobs: Path, digest: str) -> None:
    """Unpack, and close as the service does."""
    rig = Rig(root, LocalBlobs(blobs))
    try:
        found = await rig.unpacker.unpack(ORIGIN, Digest(digest), default_platform(), lambda report: None)
        print("done", flush=True)
        await rig.snapshots.prepare("container", found.image.chain_id)
        await rig.snapshots.remove("container")
    finally:
        await rig.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
