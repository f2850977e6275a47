"""Which metadata store may delete in a bucket, kept in the bucket, for all hosts that use it."""

from __future__ import annotations

import json

from hythe.errors import DataLoss, HytheError
from hythe.identifiers import new_id
from hythe_distribution.adapters.s3_bucket import S3Bucket
from hythe_distribution.adapters.s3_ingest import BLOB_PREFIX
from hythe_distribution.adapters.s3_keys import PREFIX

ORIGIN_KEY = "collection/origin.json"
TRUST_KEY = "collection/trust.json"
MAX_BYTES = 64 << 10


class S3Trust:
    """A body of `hythe_distribution.ledger.TrustPlace`. What others write is seen at the next question."""

    def __init__(self, bucket: S3Bucket) -> None:
        self._bucket = bucket

    def mark(self) -> None:
        """Say in a bucket that says nothing yet whether it begins empty; to be called before anything is written to it.

        Where that can't be said now, it is said later, and then of a bucket that has blobs.
        """
        try:
            self._origin()
        except HytheError:
            pass

    def shared(self) -> str:
        """See `hythe_distribution.ledger.TrustPlace.shared`."""
        return self._origin()[0]

    def virgin(self) -> bool:
        """See `hythe_distribution.ledger.TrustPlace.virgin`."""
        return self._origin()[1]

    def load(self) -> str:
        """See `hythe_distribution.ledger.TrustPlace.load`."""
        return (self._bucket.get(TRUST_KEY, MAX_BYTES) or b"").decode(errors="replace")

    def save(self, text: str) -> None:
        """See `hythe_distribution.ledger.TrustPlace.save`."""
        self._bucket.put(TRUST_KEY, text.encode())

    def _origin(self) -> tuple[str, bool]:
        """Return id of the bucket and whether it began empty, as whoever came first has said."""
        found = self._bucket.get(ORIGIN_KEY, MAX_BYTES)
        if found is None:
            empty = not any(self._has(prefix) for prefix in (BLOB_PREFIX, PREFIX))
            # Who writes a blob has written this before, so that what is there with blobs is the first one's.
            found = None if empty else self._bucket.get(ORIGIN_KEY, MAX_BYTES)
        if found is None:
            self._bucket.put(ORIGIN_KEY, json.dumps({"id": new_id(), "virgin": empty}).encode())
            found = self._bucket.get(ORIGIN_KEY, MAX_BYTES) or b""
        try:
            origin = json.loads(found)
            return str(origin["id"]), origin["virgin"] is True
        except (ValueError, TypeError, LookupError) as error:
            raise DataLoss(
                f"read {ORIGIN_KEY}: it doesn't say where the bucket comes from",
                cause=repr(error),
                next_step="remove that object; then collections have to be confirmed once",
            ) from error

    def _has(self, prefix: str) -> bool:
        return next(self._bucket.walk(prefix), None) is not None
