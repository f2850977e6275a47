"""One bucket of an S3 store, by the MinIO SDK: objects by key, with errors of the closed set. The only user of the SDK."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import BinaryIO, cast

import urllib3
from minio import Minio
from minio.error import S3Error

from hythe.errors import DataLoss
from hythe.ports.content import MAX_CHUNK_BYTES
from hythe_distribution.adapters.s3_errors import MISSING, translated

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 20.0
RETRIES = 2
CONNECTIONS = 16
PART_BYTES = 16 << 20
PARTS_AT_ONCE = 3
MAX_PARTS = 10_000
UPLOADS_AT_ONCE = 2
"""Uploads of one process that send at the same time; each keeps up to four parts in memory."""
MAX_PRESIGN_S = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as its store describes it. `changed_ns`: nanoseconds since 1970, whole seconds in most stores."""

    key: str
    size_bytes: int
    etag: str
    changed_ns: int


class S3Bucket:
    """A bucket, made on first use where it is missing and the keys may make it. Safe for several threads.

    All methods raise Unavailable, PermissionDenied, FailedPrecondition, ResourceExhausted and Internal as said in
    `hythe_distribution.adapters.s3_errors.translated`.
    """

    def __init__(
        self, endpoint: str, name: str, access_key: str, secret_key: str, *, secure: bool = True, region: str = ""
    ) -> None:
        """Describe a bucket; nothing is asked yet.

        Args:
            endpoint: ``host`` or ``host:port``.
            region: as the store calls it; most don't care.

        Raises:
            ValueError: `endpoint` is none.
        """
        self.endpoint = endpoint
        self.name = name
        self._ready = False
        self._opening = False
        self._preparing = threading.RLock()
        self._on_open: Callable[[], None] = lambda: None
        self._uploads = threading.BoundedSemaphore(UPLOADS_AT_ONCE)
        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
            maxsize=CONNECTIONS,
            cert_reqs="CERT_REQUIRED",
            retries=urllib3.Retry(total=RETRIES, backoff_factor=0.1, status_forcelist=(500, 502, 503, 504)),
        )
        # A region that is given saves asking for it, which some stores and keys do not allow.
        self._client = Minio(
            endpoint, access_key, secret_key, secure=secure, region=region or "us-east-1", http_client=pool
        )

    def __repr__(self) -> str:
        return f"S3Bucket({self.endpoint}/{self.name})"

    def on_open(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once the bucket was seen to be there and before anything else is asked of it."""
        self._on_open = callback

    def prepare(self) -> None:
        """Make the bucket if it isn't there; costs nothing when that was seen before."""
        if self._ready:
            return
        with self._preparing:
            if self._ready or self._opening:
                return
            self._opening = True
            try:
                self._open()
                self._on_open()
                self._ready = True
            finally:
                self._opening = False

    def _open(self) -> None:
        with self._translated("open bucket"):
            try:
                # Unlike that to HEAD, the answer to this says why it is a refusal.
                next(iter(self._client.list_objects(self.name)), None)
            except S3Error as error:
                if error.code != "NoSuchBucket":
                    raise
                self._make()

    def _make(self) -> None:
        try:
            self._client.make_bucket(self.name)
        except S3Error as error:
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise

    def head(self, key: str) -> Stored | None:
        """Return what is known about an object, or None if there is none."""
        self.prepare()
        with self._translated("look up", key):
            try:
                found = self._client.stat_object(self.name, key)
            except S3Error as error:
                if error.code in MISSING:
                    return None
                raise
        return Stored(key, found.size or 0, _plain(found.etag), _nanoseconds(found.last_modified))

    def get(self, key: str, most_bytes: int) -> bytes | None:
        """Return a small object, or None if there is none.

        Raises:
            DataLoss: it is larger than `most_bytes`.
        """
        self.prepare()
        with self._translated("read", key):
            try:
                response = self._client.get_object(self.name, key)
            except S3Error as error:
                if error.code in MISSING:
                    return None
                raise
            try:
                data = response.read(most_bytes + 1)
            finally:
                response.close()
                response.release_conn()
        if len(data) > most_bytes:
            raise DataLoss(f"read {key}: S3 at {self.endpoint} has more than {most_bytes} bytes there")
        return data

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        """Yield a range that lies within an object, in chunks of at most 1 MiB.

        Raises:
            NotFound: it is gone (details ``kind=blob``).
            DataLoss: fewer bytes came.
        """
        left = length
        if not left:
            return
        with self._translated("read", key):
            response = self._client.get_object(self.name, key, offset, length)
            try:
                while left and (chunk := response.read(min(MAX_CHUNK_BYTES, left))):
                    left -= len(chunk)
                    yield chunk
            finally:
                if left:
                    response.close()  # what a reader doesn't want any more is not read to its end
                response.release_conn()
        if left:
            raise DataLoss(f"read {key}: S3 at {self.endpoint} sent {length - left} of {length} bytes")

    def put(self, key: str, data: bytes) -> None:
        """Write a small object, replacing what is there; it is seen whole or not at all."""
        self.prepare()
        with self._translated("write", key):
            self._client.put_object(self.name, key, BytesIO(data), len(data))

    def upload(self, key: str, source: BinaryIO, size_bytes: int) -> str:
        """Write an object of `size_bytes` from `source` in parts; it is seen when all are there. Returns its ETag."""
        self.prepare()
        part_bytes = max(PART_BYTES, -(-size_bytes // MAX_PARTS))
        with self._uploads, self._translated("upload", key):
            result = self._client.put_object(
                self.name, key, source, size_bytes, part_size=part_bytes, num_parallel_uploads=PARTS_AT_ONCE
            )
        return _plain(result.etag)

    def remove(self, key: str) -> None:
        """Remove an object; none there is fine."""
        self.prepare()
        with self._translated("remove", key):
            self._client.remove_object(self.name, key)

    def walk(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """Yield the objects whose keys begin with `prefix`, ordered by key, from behind key `after` on."""
        self.prepare()
        with self._translated("list", prefix):
            for found in self._client.list_objects(self.name, prefix, recursive=True, start_after=after or None):
                yield Stored(
                    cast(str, found.object_name), found.size or 0, _plain(found.etag), _nanoseconds(found.last_modified)
                )

    def directories(self, prefix: str) -> list[str]:
        """Return what stands between `prefix` and the next slash in the keys."""
        self.prepare()
        with self._translated("list", prefix):
            found = [str(entry.object_name) for entry in self._client.list_objects(self.name, prefix)]
        return [key[len(prefix) : -1] for key in found if key.endswith("/") and len(key) > len(prefix) + 1]

    def presign(self, key: str, lifetime_s: float) -> str:
        """Return a URL from which anybody can read an object for `lifetime_s` seconds (at least one, at most a week)."""
        lifetime = timedelta(seconds=int(min(max(lifetime_s, 1.0), MAX_PRESIGN_S)))
        with self._translated("sign a URL of", key):
            return self._client.presigned_get_object(self.name, key, expires=lifetime)

    def abort_uploads(self, prefix: str, older_than_s: float) -> int:
        """Drop the parts of uploads to keys that begin with `prefix` and were begun that long ago; return how many.

        The SDK keeps these requests to itself; nothing else of it lists what a killed process has left.
        """
        self.prepare()
        limit = datetime.now(UTC) - timedelta(seconds=older_than_s)
        marker, aborted = "", 0
        while True:
            with self._translated("list uploads of", prefix):
                page = self._client._list_multipart_uploads(self.name, prefix=prefix, key_marker=marker or None)
                for upload in page.uploads:
                    begun = upload.initiated_time
                    if begun is None or begun > limit or not upload.upload_id:
                        continue
                    try:
                        self._client._abort_multipart_upload(self.name, upload.object_name, upload.upload_id)
                    except S3Error as error:
                        if error.code not in MISSING:
                            raise
                    aborted += 1
            following = page.next_key_marker or ""
            if not page.is_truncated or following <= marker:
                return aborted
            marker = following

    def _translated(self, step: str, what: str = "") -> AbstractContextManager[None]:
        return translated(f"{step} {what or self.name}", self.endpoint)


def _plain(etag: str | None) -> str:
    return (etag or "").strip('"')


def _nanoseconds(when: datetime | None) -> int:
    return 0 if when is None else int(when.timestamp()) * 1_000_000_000
