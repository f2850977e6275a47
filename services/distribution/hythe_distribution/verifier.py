"""Whether the bytes of an ingest are what was promised: one pass over them, while they come in."""

from __future__ import annotations

import hashlib

from hythe.digest import Digest
from hythe.errors import DataLoss


class Verifier:
    """Counts and hashes what it is shown, and compares it with a promise."""

    def __init__(self, what: str, total_bytes: int | None) -> None:
        self._what = what
        self._total_bytes = total_bytes
        self._hasher = hashlib.sha256()
        self.seen_bytes = 0

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises:
            DataLoss: they go beyond the promised total.
        """
        self.seen_bytes += len(data)
        if self._total_bytes is not None and self.seen_bytes > self._total_bytes:
            raise DataLoss(f"write {self._what}: expected {self._total_bytes} bytes, got more")
        self._hasher.update(data)

    def check(self, expected: Digest | None, size_bytes: int | None) -> Digest:
        """Return the digest of all bytes seen if that and their length are as promised; None stands for no promise.

        Raises:
            DataLoss: another length or digest.
        """
        if size_bytes is not None and self.seen_bytes != size_bytes:
            raise DataLoss(f"commit {self._what}: expected {size_bytes} bytes, got {self.seen_bytes}")
        found = Digest(self._hasher.hexdigest())
        if expected is not None and found != expected:
            raise DataLoss(f"commit {self._what}: expected {expected}, got {found}")
        return found
