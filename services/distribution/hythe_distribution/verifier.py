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

    @property
    def digest(self) -> Digest:
        """The digest of all bytes seen so far."""
        return Digest(self._hasher.hexdigest())

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises:
            DataLoss: they go beyond the promised total.
        """
        self.seen_bytes += len(data)
        if self._total_bytes is not None and self.seen_bytes > self._total_bytes:
            raise DataLoss(f"write {self._what}: expected {self._total_bytes} bytes, got more")
        self._hasher.update(data)

    def check(self, expected: Digest, size_bytes: int) -> None:
        """Return if all bytes seen are `size_bytes` long and have the digest `expected`.

        Raises:
            DataLoss: they don't.
        """
        if self.seen_bytes != size_bytes:
            raise DataLoss(f"commit {self._what}: expected {size_bytes} bytes, got {self.seen_bytes}")
        found = self._hasher.hexdigest()
        if found != expected.hex:
            raise DataLoss(f"commit {self._what}: expected {expected}, got sha256:{found}")
