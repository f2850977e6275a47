"""What changed among the records of a bucket since one looked last: numbered by this process, for S3 numbers nothing."""

from __future__ import annotations

import threading
from bisect import bisect_right
from dataclasses import dataclass

from hythe.clock import now_ns
from hythe.digest import Digest
from hythe.errors import OutOfRange
from hythe_distribution.adapters.s3_bucket import S3Bucket
from hythe_distribution.adapters.s3_keys import PREFIX, record_in


@dataclass(frozen=True, slots=True)
class Listed:
    """A record's object as it was listed last. `sequence`: of the listing's change that it was seen to have changed by."""

    sequence: int
    key: str
    gone: bool


class S3Changes:
    """Lists the bucket when somebody asks for all or for news, and compares ETags; so all who use it are seen.

    Numbers begin at the time of the start in nanoseconds: none of an earlier life of the process is taken for one of this.
    """

    def __init__(self, bucket: S3Bucket) -> None:
        self._bucket = bucket
        self._lock = threading.Lock()
        self._first = self._last = now_ns()
        self._etags: dict[str, str] = {}
        self._sequences: dict[str, int] = {}
        self._order: list[tuple[int, str]] = []
        self._seen: frozenset[str] | None = None

    def page(self, after: int, limit: int) -> list[Listed]:
        """Return what changed beyond `after`, by sequence; looks at the bucket where `after` is 0 or all that was known.

        Raises:
            OutOfRange: `after` is of another life of this process.
            HytheError: see `S3Bucket`.
        """
        with self._lock:
            if after in (0, self._last):
                self._look()
            elif not self._first <= after < self._last:
                raise OutOfRange(f"list changes of content beyond {after}: that is not known to this process")
            start = bisect_right(self._order, (after, "\uffff"))
            return [Listed(*entry, entry[1] not in self._etags) for entry in self._order[start : start + limit]]

    def seen(self, digest: Digest) -> bool:
        """Tell whether a namespace saw a blob when one looked last.

        Raises:
            HytheError: see `S3Bucket`.
        """
        with self._lock:
            if self._seen is None:
                self._look()
            return digest.hex in (self._seen or ())

    def _look(self) -> None:
        present = {entry.key: entry.etag for entry in self._bucket.walk(PREFIX) if record_in(entry.key) is not None}
        changed = [key for key, etag in present.items() if not etag or self._etags.get(key) != etag]
        changed += [key for key in self._etags if key not in present]
        for number, key in enumerate(changed, self._last + 1):
            self._sequences[key] = number
        self._last += len(changed)
        self._etags = present
        self._order = sorted((number, key) for key, number in self._sequences.items())
        self._seen = frozenset(key.rpartition("/")[2] for key in present)
