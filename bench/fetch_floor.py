"""The floor that a fetch is compared with: the same bytes verified and durable, by ``http.client`` in threads alone."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hythe.writeback import WRITEBACK_STEP_BYTES, start_writeback


def bare(address: str, repository: str, digests: Sequence[str], directory: Path, threads: int) -> float:
    """Fetch blobs into the new `directory`, begun in the order of `digests`, and return the seconds.

    Write-back is begun as early as Hythe begins it.

    Raises:
        ValueError: the registry did not send what a digest says.
    """
    directory.mkdir()

    def fetch(digest: str) -> None:
        connection = http.client.HTTPConnection(address)
        connection.request("GET", f"/v2/{repository}/blobs/{digest}")
        response = connection.getresponse()
        hasher, buffer, done, begun = hashlib.sha256(), memoryview(bytearray(1 << 20)), 0, 0
        with (directory / digest).open("wb", buffering=0) as file:
            while count := response.readinto(buffer):
                hasher.update(buffer[:count])
                file.write(buffer[:count])
                done += count
                if done - begun >= WRITEBACK_STEP_BYTES:
                    start_writeback(file.fileno(), begun, done - begun)
                    begun = done
            os.fsync(file.fileno())
        connection.close()
        if f"sha256:{hasher.hexdigest()}" != digest:
            raise ValueError(f"fetch {digest}: other bytes arrived")

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fetch, digests))
    return time.perf_counter() - start
