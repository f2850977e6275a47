"""One blob on its way into S3: staged on this host while its digest isn't known yet, then uploaded under it."""

from __future__ import annotations

import io
from types import TracebackType

from hythe import failpoints, tracing
from hythe.digest import Digest
from hythe.errors import DataLoss, HytheError
from hythe.ports.content import BlobInfo
from hythe_distribution.adapters.directory_ingest import DirectoryIngest
from hythe_distribution.adapters.s3_bucket import S3Bucket, Stored

BLOB_PREFIX = "blobs/sha256/"


class S3Ingest:
    """A body of `hythe.ports.content.Ingest`, over one in a directory whose bytes become an object when it is committed."""

    def __init__(self, bucket: S3Bucket, staged: DirectoryIngest, reference: str) -> None:
        self._bucket = bucket
        self._staged = staged
        self._reference = reference

    @property
    def offset(self) -> int:
        """See `hythe.ports.content.Ingest.offset`."""
        return self._staged.offset

    def write(self, data: bytes | memoryview) -> None:
        """See `hythe.ports.content.Ingest.write`."""
        self._staged.write(data)

    def read_back(self, offset: int, length: int) -> bytes:
        """See `hythe.ports.content.Ingest.read_back`."""
        return self._staged.read_back(offset, length)

    def commit(self, expected: Digest | None = None, size_bytes: int | None = None) -> BlobInfo:
        """See `hythe.ports.content.Ingest.commit`.

        Where the store fails, the staged bytes stay: who opens the ingest again with ``resume`` need only commit.

        Raises:
            Unavailable, PermissionDenied, FailedPrecondition, ResourceExhausted: the store doesn't take it in.
        """
        digest = self._staged.verify(expected, size_bytes)
        try:
            info = self._store(digest)
        except BaseException:
            self._staged.close()
            raise
        failpoints.reach("distribution.s3.verified")
        self._staged.abort()
        return info

    def _store(self, digest: Digest) -> BlobInfo:
        key, size_bytes = BLOB_PREFIX + digest.hex, self.offset
        found = self._bucket.head(key)
        if found is None or found.size_bytes != size_bytes:
            failpoints.reach("distribution.s3.uploading")
            with tracing.span("upload blob", oci__digest=str(digest), oci__size_bytes=size_bytes):
                etag = self._bucket.upload(key, io.BufferedReader(_Staged(self._staged)), size_bytes)
                failpoints.reach("distribution.s3.uploaded")
                found = self._check(key, size_bytes, etag)
        return BlobInfo(digest, size_bytes, found.changed_ns)

    def _check(self, key: str, size_bytes: int, etag: str) -> Stored:
        """Return what the store has under `key` if that is what was sent; it has checked each part's hash on its way."""
        found = self._bucket.head(key)
        if found is not None and found.size_bytes == size_bytes and found.etag == etag:
            return found
        try:
            self._bucket.remove(key)
        except HytheError:
            pass  # what is wrong is raised below
        got = "nothing" if found is None else f"{found.size_bytes} bytes with ETag {found.etag}"
        raise DataLoss(f"commit {self._reference}: sent {size_bytes} bytes with ETag {etag}, the store has {got}")

    def abort(self) -> None:
        """See `hythe.ports.content.Ingest.abort`."""
        self._staged.abort()

    def close(self) -> None:
        """See `hythe.ports.content.Ingest.close`."""
        self._staged.close()

    def __enter__(self) -> S3Ingest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Staged(io.RawIOBase):
    """The bytes of an ingest as a file that is read from its beginning."""

    def __init__(self, ingest: DirectoryIngest) -> None:
        self._ingest = ingest
        self._offset = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # RawIOBase says any buffer
        """Fill `buffer` as far as there are bytes; return how many."""
        failpoints.reach("distribution.s3.part")
        data = self._ingest.read_back(self._offset, len(buffer))
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)
