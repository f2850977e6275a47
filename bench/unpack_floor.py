"""The floor that a pull is compared with: ``curl | igzip -dc | tar -x`` into a directory for each layer, then one syncfs."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def missing() -> str:
    """Return why it cannot be measured here; empty when it can."""
    absent = [name for name in ("curl", "igzip", "tar") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not installed (Debian packages curl, isal, tar)" if absent else ""


def pipelines(address: str, repository: str, digests: Sequence[str], directory: Path, at_once: int) -> float:
    """Unpack blobs, begun in the order of `digests`, each below `directory`; return the seconds.

    Nothing is verified, kept or stacked: it is what the tools alone need.

    Raises:
        subprocess.CalledProcessError: one of the programs failed.
    """

    def unpack(digest: str) -> None:
        target = directory / digest.replace(":", "-")
        target.mkdir(parents=True)
        url = f"http://{address}/v2/{repository}/blobs/{digest}"
        script = 'set -o pipefail; curl -sSf "$1" | igzip -dc | tar -x --numeric-owner -C "$2"'
        subprocess.run(["bash", "-c", script, "pipeline", url, str(target)], check=True)

    start = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(unpack, digests))
    subprocess.run(["sync", "--file-system", str(directory)], check=True)
    return time.perf_counter() - start
