"""S3 that is away, goes away in the middle, or isn't S3; and processes that die while they bring a blob there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from hythe.digest import digest_of
from hythe.errors import (
    FailedPrecondition,
    HytheError,
    Internal,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from hythe_distribution.adapters.content_url import open_content
from hythe_distribution.adapters.records_s3 import S3Records
from hythe_distribution.adapters.s3_bucket import PART_BYTES
from hythe_distribution.adapters.s3_store import S3Content
from hythe_distribution.namespace_store import Library
from tests.fakes.relay import Relay
from tests.fixtures.s3 import Bucket, SeaweedServer
from tests.fixtures.s3_client import blob, uploads

DATA = os.urandom(PART_BYTES * 2 + 5)
DIGEST = digest_of(DATA)
SMALL = b"a blob of some bytes"
SMALL_DIGEST = digest_of(SMALL)


@pytest.fixture
def content(bucket: Bucket, relay: Relay, tmp_path: Path) -> S3Content:
    """An empty store behind `relay`."""
    content = S3Content(bucket.open(relay.host), tmp_path / "staging")
    assert list(content.walk()) == []
    return content


def test_commit_while_the_store_is_away_is_unavailable_and_keeps_the_bytes(
    bucket: Bucket, relay: Relay, content: S3Content
) -> None:
    """The user is told where the store should be; when it is back, a commit is all that is left to do."""
    relay.cut()
    with content.open_ingest("ref", total_bytes=len(SMALL)) as ingest:
        ingest.write(SMALL)
        with pytest.raises(Unavailable, match=relay.host) as raised:
            ingest.commit(SMALL_DIGEST, len(SMALL))
    assert raised.value.cause
    assert relay.host in raised.value.next_step
    assert blob(bucket, SMALL_DIGEST.hex) is None
    assert content.status("ref").offset == len(SMALL)
    relay.mend()
    with content.open_ingest("ref", total_bytes=len(SMALL), resume=True) as ingest:
        assert ingest.offset == len(SMALL)
        ingest.commit(SMALL_DIGEST, len(SMALL))
    assert blob(bucket, SMALL_DIGEST.hex) == SMALL
    assert list(content.ingests()) == []


def test_upload_cut_in_the_middle_leaves_no_blob(bucket: Bucket, relay: Relay, content: S3Content) -> None:
    """A store that goes away after some parts has no blob; the next try brings it whole."""
    relay.after_sending(PART_BYTES + 1000, relay.cut)
    with content.open_ingest("ref", total_bytes=len(DATA)) as ingest:
        ingest.write(DATA)
        with pytest.raises(Unavailable):
            ingest.commit(DIGEST, len(DATA))
    assert blob(bucket, DIGEST.hex) is None
    relay.mend()
    with content.open_ingest("ref", total_bytes=len(DATA), resume=True) as ingest:
        assert ingest.offset == len(DATA)
        ingest.commit(DIGEST, len(DATA))
    assert blob(bucket, DIGEST.hex) == DATA
    content.sweep_uploads(older_than_s=0)
    assert uploads(bucket) == []


def test_store_killed_during_an_upload_has_no_blob_when_it_is_back(
    start_seaweed: Callable[[], SeaweedServer], tmp_path: Path
) -> None:
    """After ``kill -9`` of the store in the middle of a blob it has none, and takes it at the next try."""
    server = start_seaweed()
    bucket = server.new_bucket()
    with Relay(bucket.host) as relay:
        content = S3Content(bucket.open(relay.host), tmp_path / "staging")
        relay.after_sending(PART_BYTES + 1000, server.kill)
        with content.open_ingest("ref", total_bytes=len(DATA)) as ingest:
            ingest.write(DATA)
            with pytest.raises(Unavailable):
                ingest.commit(DIGEST, len(DATA))
        server.start()
        assert blob(bucket, DIGEST.hex) is None
        with content.open_ingest("ref", total_bytes=len(DATA), resume=True) as ingest:
            ingest.commit(DIGEST, len(DATA))
        assert blob(bucket, DIGEST.hex) == DATA


def test_read_cut_in_the_middle_is_an_error_and_no_end(relay: Relay, content: S3Content) -> None:
    """A reader is never given the beginning of a blob for the whole."""
    with content.open_ingest("ref") as ingest:
        ingest.write(DATA)
        ingest.commit()
    relay.after_receiving(PART_BYTES, relay.cut)
    with pytest.raises(Unavailable):
        for _ in content.read(DIGEST):
            pass
    relay.mend()
    assert b"".join(content.read(DIGEST)) == DATA


def test_everything_is_unavailable_at_once_while_the_store_is_away(
    bucket: Bucket, relay: Relay, content: S3Content, tmp_path: Path
) -> None:
    """Whatever is asked, the answer comes within seconds, and says which store is away."""
    records = S3Records(bucket.open(relay.host), tmp_path / "ledger.db")
    default = Library(content, records).of("default")
    with default.open_ingest("put") as ingest:
        ingest.write(SMALL)
        ingest.commit()
    relay.cut()
    started = time.monotonic()
    asks: list[Callable[[], object]] = [
        lambda: content.info(SMALL_DIGEST),
        lambda: list(content.walk()),
        lambda: content.delete(SMALL_DIGEST),
        lambda: content.presign(SMALL_DIGEST, 60),
        lambda: default.info(SMALL_DIGEST),
        lambda: list(default.walk()),
        lambda: default.label(SMALL_DIGEST, {"a": "1"}),
        lambda: default.delete(SMALL_DIGEST),
        lambda: default.open_ingest("again", expected=SMALL_DIGEST),
        lambda: records.namespaces_of(SMALL_DIGEST),
    ]
    for ask in asks:
        with pytest.raises(Unavailable, match=relay.host):
            ask()
    assert time.monotonic() - started < 2 * len(asks)
    relay.mend()
    assert b"".join(default.read(SMALL_DIGEST)) == SMALL
    records.close()


def test_commit_whose_record_cannot_be_written_shows_no_blob(
    bucket: Bucket, relay: Relay, content: S3Content, tmp_path: Path
) -> None:
    """Where the bytes arrive and the record doesn't, the namespace has no blob, and can bring it again."""
    direct = S3Content(bucket.open(), tmp_path / "direct")
    records = S3Records(bucket.open(relay.host), tmp_path / "ledger.db")
    default = Library(direct, records).of("default")
    with default.open_ingest("ref") as ingest:
        ingest.write(SMALL)
        relay.cut()
        with pytest.raises(Unavailable):
            ingest.commit()
    relay.mend()
    assert list(default.walk()) == []
    with default.open_ingest("ref") as ingest:
        ingest.write(SMALL)
        ingest.commit()
    assert [found.digest for found in default.walk()] == [SMALL_DIGEST]
    assert b"".join(default.read(SMALL_DIGEST)) == SMALL
    records.close()


def test_store_that_is_away_at_the_start_is_used_when_it_comes(bucket: Bucket, relay: Relay, tmp_path: Path) -> None:
    """The service starts without its store, says what is missing, and needs no restart."""
    relay.cut()
    url = bucket.url.replace(bucket.host, relay.host)
    content, records, _ = open_content(url, tmp_path, 0, bucket.access_key, bucket.secret_key)
    with pytest.raises(Unavailable, match=relay.host):
        content.info(SMALL_DIGEST)
    relay.mend()
    with Library(content, records).of("default").open_ingest("ref") as ingest:
        ingest.write(SMALL)
        ingest.commit()
    assert blob(bucket, SMALL_DIGEST.hex) == SMALL
    records.close()


@pytest.mark.parametrize(
    ("failpoint", "outcome"),
    [
        ("distribution.s3.uploading=kill", "no blob"),
        ("distribution.s3.part=1*off->kill", "no blob"),
        ("distribution.s3.uploaded=kill", "whole"),
        ("distribution.s3.verified=kill", "whole"),
    ],
)
def test_process_killed_while_it_brings_a_blob_leaves_none_or_a_whole_one(
    bucket: Bucket, tmp_path: Path, failpoint: str, outcome: str
) -> None:
    """After ``kill -9`` at each step the bucket has no blob or a whole one, and the staged bytes can be gone on with."""
    source = tmp_path / "source"
    source.write_bytes(DATA)
    program = (
        "import sys; from pathlib import Path; from hythe_distribution.adapters.content_url import open_content\n"
        "url, root, source, *keys = sys.argv[1:]\n"
        "content, _, _ = open_content(url, Path(root), 0, *keys)\n"
        "with content.open_ingest('ref') as ingest:\n"
        "    ingest.write(Path(source).read_bytes())\n"
        "    ingest.commit()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, bucket.url, str(tmp_path), str(source), bucket.access_key, bucket.secret_key],
        env={"HYTHE_FAILPOINTS": failpoint},
        timeout=60,
    )
    assert ended.returncode == -signal.SIGKILL
    assert blob(bucket, DIGEST.hex) == (DATA if outcome == "whole" else None)
    content, records, _ = open_content(bucket.url, tmp_path, 0, bucket.access_key, bucket.secret_key)
    with content.open_ingest("ref", total_bytes=len(DATA), resume=True) as ingest:
        assert ingest.offset == len(DATA)
        ingest.commit(DIGEST, len(DATA))
    assert blob(bucket, DIGEST.hex) == DATA
    assert list(content.ingests()) == []
    records.close()


class _Refusing(HTTPServer):
    """A server that answers everything alike."""

    def __init__(self, status: int, content_type: str, body: bytes) -> None:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body if self.command != "HEAD" else b"")

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def refuse() -> Iterator[Callable[[int, str, bytes], Bucket]]:
    """A function that starts a store which answers everything alike, and returns a bucket there."""
    servers: list[tuple[_Refusing, threading.Thread]] = []

    def start(status: int, content_type: str, body: bytes) -> Bucket:
        server = _Refusing(status, content_type, body)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return Bucket(f"127.0.0.1:{server.server_port}", "bucket", "key", "not-to-be-told")

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("AccessDenied", 403, PermissionDenied),
        ("InvalidAccessKeyId", 403, PermissionDenied),
        ("NoSuchBucket", 404, FailedPrecondition),
        ("RequestTimeTooSkewed", 403, FailedPrecondition),
        ("XMinioStorageFull", 507, ResourceExhausted),
        ("SlowDown", 429, Unavailable),
        ("NotImplemented", 501, Internal),
    ],
)
def test_refusal_of_the_store_is_one_of_our_errors(
    refuse: Callable[[int, str, bytes], Bucket], code: str, status: int, expected: type[HytheError]
) -> None:
    """The store's own code is shown as the cause, under an error that says whether trying again may help."""
    body = f"<Error><Code>{code}</Code><Message>for a reason</Message></Error>".encode()
    bucket = refuse(status, "application/xml", body).open()
    with pytest.raises(HytheError) as raised:
        list(bucket.walk("blobs/"))
    assert type(raised.value) is expected
    assert (code in raised.value.cause) or status == 507
    assert bucket.endpoint in raised.value.message
    assert "not-to-be-told" not in raised.value.whole


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [(403, "text/html", b"<html>"), (418, "application/xml", b""), (404, "application/xml", b"<html>")],
)
def test_server_that_is_no_store_is_told(
    refuse: Callable[[int, str, bytes], Bucket], status: int, content_type: str, body: bytes
) -> None:
    """An address where something else listens is named, whatever it says."""
    bucket = refuse(status, content_type, body).open()
    with pytest.raises(Unavailable, match=bucket.endpoint):
        bucket.get("records/x", 100)


def test_store_without_tls_is_told(bucket: Bucket, tmp_path: Path) -> None:
    """TLS is the default, and the user is told how to do without it."""
    url = bucket.url.removesuffix("?secure=0")
    with pytest.raises(FailedPrecondition) as raised:
        open_content(url, tmp_path, 0, bucket.access_key, bucket.secret_key)
    assert "secure=0" in raised.value.next_step


def test_full_staging_disk_is_told_before_anything_is_fetched(bucket: Bucket, tmp_path: Path) -> None:
    """A blob on its way to S3 needs room on this host, and is refused where there is none."""
    content = S3Content(bucket.open(), tmp_path / "staging", reserve_bytes=1 << 60)
    for ask in (lambda: content.check_room(1), lambda: content.open_ingest("ref", total_bytes=1)):
        with pytest.raises(ResourceExhausted):
            ask()
