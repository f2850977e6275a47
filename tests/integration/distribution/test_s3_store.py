"""Content and records in S3 as other clients of the store find them."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hythe.digest import digest_of
from hythe.errors import DataLoss, HytheError, NotFound, PermissionDenied
from hythe.ports.content import MAX_CHUNK_BYTES, BlobInfo
from hythe_distribution.adapters.content_url import open_content
from hythe_distribution.adapters.records_s3 import S3Records
from hythe_distribution.adapters.s3_bucket import PART_BYTES
from hythe_distribution.adapters.s3_store import S3Content
from hythe_distribution.namespace_store import Library
from hythe_distribution.records import Publication
from tests.fixtures.s3 import Bucket, SeaweedServer
from tests.fixtures.s3_client import ask, blob, uploads

DATA = b"a blob of some bytes"
DIGEST = digest_of(DATA)


@pytest.fixture
def content(bucket: Bucket, tmp_path: Path) -> S3Content:
    """An empty store."""
    return S3Content(bucket.open(), tmp_path / "staging")


def put(content: S3Content, data: bytes) -> BlobInfo:
    """Store `data`."""
    with content.open_ingest("put", total_bytes=len(data)) as ingest:
        ingest.write(data)
        return ingest.commit(digest_of(data), len(data))


@pytest.mark.parametrize("size_bytes", [0, 1, PART_BYTES, PART_BYTES * 2 + 7])
def test_another_client_reads_each_blob_with_its_digest(bucket: Bucket, content: S3Content, size_bytes: int) -> None:
    """What lies in the bucket under a digest has that digest, whether it was sent at once or in parts."""
    info = put(content, os.urandom(size_bytes))
    found = blob(bucket, info.digest.hex)
    assert found is not None
    assert hashlib.sha256(found).hexdigest() == info.digest.hex
    assert info == content.info(info.digest)
    assert list(content.ingests()) == []
    assert uploads(bucket) == []


def test_staging_directory_is_empty_after_a_commit(bucket: Bucket, tmp_path: Path, content: S3Content) -> None:
    """The host keeps no second copy of what is in the bucket."""
    put(content, DATA)
    assert [path for path in (tmp_path / "staging").rglob("*") if path.is_file()] == []


def test_record_is_an_object_that_people_can_read(bucket: Bucket, tmp_path: Path) -> None:
    """Who sees a blob lies beside it as JSON, under a key made of namespace and digest."""
    records = S3Records(bucket.open(), tmp_path / "ledger.db")
    records.publish("k8s.io", [Publication(DIGEST, len(DATA), {"a": "1"})])
    answer = ask(bucket, "GET", f"records/k8s=2Eio/sha256/{DIGEST.hex}")
    record = json.loads(answer.body)
    assert (record["size_bytes"], record["labels"]) == (len(DATA), {"a": "1"})
    records.close()


def test_damaged_record_is_told(bucket: Bucket, tmp_path: Path) -> None:
    """What somebody else wrote over a record is not taken for one."""
    records = S3Records(bucket.open(), tmp_path / "ledger.db")
    records.publish("default", [Publication(DIGEST, len(DATA))])
    for body in (b"", b"[]", b'{"labels": {}}', b'{"size_bytes":-1,"created_ns":1,"updated_ns":1,"labels":{}}', b"["):
        ask(bucket, "PUT", f"records/default/sha256/{DIGEST.hex}", body=body)
        with pytest.raises(DataLoss):
            records.get("default", DIGEST)
    records.close()


def test_objects_of_others_among_the_records_are_passed_over(bucket: Bucket, tmp_path: Path) -> None:
    """Whatever else lies there neither shows up in a list nor keeps a blob alive."""
    records = S3Records(bucket.open(), tmp_path / "ledger.db")
    records.publish("default", [Publication(DIGEST, len(DATA))])
    for key in ("default/sha256/short", "default/else", "=zz/x", f".=2E./sha256/{DIGEST.hex}"):
        assert ask(bucket, "PUT", f"records/{key}", body=b"x").status == 200
    assert [record.digest for record in records.walk("default")] == [DIGEST]
    assert records.namespaces_of(DIGEST) == {"default"}
    records.close()


def test_hosts_share_the_blobs_of_a_bucket_and_no_ingests(bucket: Bucket, tmp_path: Path, content: S3Content) -> None:
    """What one host brought another reads, publishes and labels, but each goes on with its own transfers only."""
    other_content = S3Content(bucket.open(), tmp_path / "staging of another host")
    records = S3Records(bucket.open(), tmp_path / "ledger.db")
    other_records = S3Records(bucket.open(), tmp_path / "other ledger.db")
    here, there = Library(content, records).of("default"), Library(other_content, other_records).of("default")
    with here.open_ingest("ref") as ingest:
        ingest.write(DATA)
        assert list(there.ingests()) == []
        ingest.commit(DIGEST, len(DATA), {"a": "1"})
    assert b"".join(there.read(DIGEST)) == DATA
    assert dict(there.label(DIGEST, {"b": "2"}).labels) == {"a": "1", "b": "2"} == dict(here.info(DIGEST).labels)
    there.delete(DIGEST)
    with pytest.raises(NotFound):
        here.info(DIGEST)
    assert blob(bucket, DIGEST.hex) is None
    records.close()
    other_records.close()


def test_presigned_url_is_read_by_anybody_with_range(content: S3Content) -> None:
    """Who has the URL needs no keys, and may ask for a part."""
    put(content, DATA)
    url = content.presign(DIGEST, 60)
    assert url is not None
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    connection.request("GET", f"{parts.path}?{parts.query}", headers={"Range": "bytes=2-5"})
    response = connection.getresponse()
    assert (response.status, response.read()) == (206, DATA[2:6])
    connection.close()
    assert "X-Amz-Expires=60" in url


def test_list_of_blobs_passes_over_what_is_none(bucket: Bucket, content: S3Content) -> None:
    """Objects of others in the bucket are not taken for blobs."""
    put(content, DATA)
    for key in ("blobs/sha256/short", "blobs/sha512/" + "a" * 64, "blobs/sha256/" + "A" * 64, "else"):
        ask(bucket, "PUT", key, body=b"x")
    assert [info.digest for info in content.walk()] == [DIGEST]


def test_object_of_another_size_is_replaced_by_the_blob(bucket: Bucket, content: S3Content) -> None:
    """A commit mends what somebody else has broken under the digest."""
    ask(bucket, "PUT", f"blobs/sha256/{DIGEST.hex}", body=b"short")
    put(content, DATA)
    assert blob(bucket, DIGEST.hex) == DATA


def test_readers_that_stop_early_give_their_connections_back(content: S3Content) -> None:
    """Many who read only the beginning of a blob cost neither connections nor the rest of its bytes."""
    data = os.urandom(MAX_CHUNK_BYTES * 4)
    digest = put(content, data).digest
    assert b"".join(content.read(digest)) == data
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(30):
        chunks = iter(content.read(digest))
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    assert b"".join(content.read(digest)) == data


def test_abandoned_upload_is_dropped_by_its_age(bucket: Bucket, content: S3Content) -> None:
    """Parts that a killed process has sent go when they are old enough; those of others, and young ones, stay."""
    ours, other = f"blobs/sha256/{DIGEST.hex}", "something/else"
    for key in (ours, other):
        body = ask(bucket, "POST", key, {"uploads": ""}).body.decode()
        upload = re.search("<UploadId>(.*)</UploadId>", body)
        assert upload is not None
        ask(bucket, "PUT", key, {"partNumber": "1", "uploadId": upload[1]}, b"part")
    content.sweep()
    assert content.sweep_uploads(older_than_s=3600) == 0
    assert sorted(uploads(bucket)) == [ours, other]
    assert content.sweep_uploads(older_than_s=0) == 1
    assert uploads(bucket) == [other]


def test_missing_bucket_is_made_by_who_may(seaweed: SeaweedServer, tmp_path: Path) -> None:
    """The first start on an empty store needs no preparation."""
    bucket = seaweed.new_bucket()
    assert ask(bucket, "HEAD").status == 404
    _, records, _ = open_content(bucket.url, tmp_path, 0, bucket.access_key, bucket.secret_key)
    assert ask(bucket, "HEAD").status == 200
    records.close()


def test_missing_bucket_that_may_not_be_made_is_told(seaweed: SeaweedServer, tmp_path: Path) -> None:
    """Keys that may not make the bucket are named as the reason, at once."""
    bucket = seaweed.new_bucket()
    with pytest.raises(PermissionDenied, match=bucket.host) as raised:
        open_content(bucket.url, tmp_path, 0, seaweed.reader_access_key, seaweed.reader_secret_key)
    assert "HYTHE_S3_ACCESS_KEY" in raised.value.next_step


def test_commit_with_keys_that_may_only_read_is_denied(
    seaweed: SeaweedServer, bucket: Bucket, content: S3Content, tmp_path: Path
) -> None:
    """A denied upload leaves no blob and keeps the bytes."""
    put(content, b"something else")
    reader = replace(bucket, access_key=seaweed.reader_access_key, secret_key=seaweed.reader_secret_key)
    denied = S3Content(reader.open(), tmp_path / "other staging")
    with denied.open_ingest("ref") as ingest:
        ingest.write(DATA)
        with pytest.raises(PermissionDenied):
            ingest.commit(DIGEST, len(DATA))
    assert denied.status("ref").offset == len(DATA)
    assert blob(bucket, DIGEST.hex) is None


def test_wrong_secret_is_denied_and_told_nowhere(bucket: Bucket, tmp_path: Path) -> None:
    """Neither error nor representation of anything repeats a key."""
    secret = "not-the-secret-of-this-store"
    wrong = replace(bucket, secret_key=secret)
    with pytest.raises(HytheError) as raised:
        open_content(wrong.url, tmp_path, 0, wrong.access_key, secret)
    error = raised.value
    assert isinstance(error, PermissionDenied)
    content = S3Content(wrong.open(), tmp_path / "staging")
    for text in (error.whole, repr(error), error.next_step, repr(content), repr(wrong.open())):
        assert secret not in text
