"""Records of who sees which blob, as objects beside the blobs: ``records/<namespace>/sha256/<hex>``, in JSON."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from hythe.clock import now_ns
from hythe.digest import Digest, parse_digest
from hythe.errors import DataLoss, InvalidArgument
from hythe.identifiers import check_namespace, decode_token, encode_token
from hythe.ports.namespace_content import LabelledBlob
from hythe_distribution.adapters.s3_bucket import S3Bucket
from hythe_distribution.labels import as_labels, check_labels, check_publications, no_record, published, relabelled
from hythe_distribution.records import Publication

PREFIX = "records/"
REQUESTS_AT_ONCE = 8
PAGE_RECORDS = 64
MAX_RECORD_BYTES = 16 << 20


class S3Records:
    """A body of `hythe_distribution.records.Records`.

    Two processes that label the same blob in the same moment may lose one of the changes: S3 has no transactions.
    """

    def __init__(self, bucket: S3Bucket) -> None:
        self._bucket = bucket
        self._changing = threading.Lock()
        self._workers = ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="records")

    def publish(self, namespace: str, blobs: Sequence[Publication]) -> None:
        """See `hythe_distribution.records.Records.publish`; reads at once, and writes in order."""
        check_publications(blobs)
        with self._changing:
            seen = dict(
                zip((b.digest for b in blobs), self._find_all(namespace, [b.digest for b in blobs]), strict=True)
            )
            for blob in blobs:
                before = seen[blob.digest]
                after = seen[blob.digest] = published(before, blob, now_ns())
                if after is not before:
                    self._put(namespace, after)

    def get(self, namespace: str, digest: Digest) -> LabelledBlob:
        """See `hythe_distribution.records.Records.get`."""
        found = self._find(namespace, digest)
        if found is None:
            raise no_record(namespace, digest)
        return found

    def walk(self, namespace: str, after: str = "") -> Iterator[LabelledBlob]:
        """See `hythe_distribution.records.Records.walk`; a request for each record, several at once."""
        marker = _digest(after)
        listed = self._bucket.walk(_prefix(namespace), "" if marker is None else _key(namespace, marker))
        found = (_digest(entry.key.removeprefix(_prefix(namespace)).replace("/", ":", 1)) for entry in listed)
        digests = (digest for digest in found if digest is not None)
        wanted = (digest for digest in digests if str(digest) > after)
        while page := list(islice(wanted, PAGE_RECORDS)):
            yield from (blob for blob in self._find_all(namespace, page) if blob is not None)

    def label(self, namespace: str, digest: Digest, changes: Mapping[str, str]) -> LabelledBlob:
        """See `hythe_distribution.records.Records.label`."""
        check_labels(changes)
        with self._changing:
            before = self.get(namespace, digest)
            after = relabelled(before, changes, now_ns())
            if after is not before:
                self._put(namespace, after)
            return after

    def withdraw(self, namespace: str, digest: Digest) -> None:
        """See `hythe_distribution.records.Records.withdraw`."""
        with self._changing:
            self.get(namespace, digest)
            self._bucket.remove(_key(namespace, digest))

    def namespaces_of(self, digest: Digest) -> frozenset[str]:
        """See `hythe_distribution.records.Records.namespaces_of`; a request for each namespace, several at once."""
        names = (_namespace(token) for token in self._bucket.directories(PREFIX))
        namespaces = [name for name in names if name is not None]
        heads = self._workers.map(lambda namespace: self._bucket.head(_key(namespace, digest)), namespaces)
        return frozenset(name for name, head in zip(namespaces, heads, strict=True) if head is not None)

    def close(self) -> None:
        """See `hythe_distribution.records.Records.close`."""
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _find_all(self, namespace: str, digests: Sequence[Digest]) -> list[LabelledBlob | None]:
        return list(self._workers.map(lambda digest: self._find(namespace, digest), digests))

    def _find(self, namespace: str, digest: Digest) -> LabelledBlob | None:
        key = _key(namespace, digest)
        data = self._bucket.get(key, MAX_RECORD_BYTES)
        return None if data is None else _parse(data, digest, key)

    def _put(self, namespace: str, blob: LabelledBlob) -> None:
        record = {
            "size_bytes": blob.size_bytes,
            "created_ns": blob.created_ns,
            "updated_ns": blob.updated_ns,
            "labels": dict(blob.labels),
        }
        self._bucket.put(_key(namespace, blob.digest), json.dumps(record, sort_keys=True).encode())


def _prefix(namespace: str) -> str:
    return f"{PREFIX}{encode_token(namespace)}/"


def _key(namespace: str, digest: Digest) -> str:
    return f"{_prefix(namespace)}sha256/{digest.hex}"


def _digest(text: str) -> Digest | None:
    """Return the digest that `text` spells; None where it is something else, like the key of somebody else's object."""
    try:
        return parse_digest(text)
    except InvalidArgument:
        return None


def _namespace(token: str) -> str | None:
    try:
        return check_namespace(decode_token(token))
    except InvalidArgument:
        return None


def _parse(data: bytes, digest: Digest, key: str) -> LabelledBlob:
    try:
        record = json.loads(data)
        numbers = [record[name] for name in ("size_bytes", "created_ns", "updated_ns")]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a number is none")
        size_bytes, created_ns, updated_ns = numbers
        return LabelledBlob(digest, size_bytes, created_ns, updated_ns, as_labels(record["labels"]))
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise DataLoss(
            f"read {key}: it is no record",
            cause=repr(error),
            next_step="remove that object, and pull the images again",
        ) from error
