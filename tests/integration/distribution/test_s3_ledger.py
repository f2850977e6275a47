"""Records in S3 and the events of them: what a process tells that was killed, or lost its store, in the middle."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hythe.digest import digest_of
from hythe.errors import Unavailable
from hythe.ports.events import OutgoingEvent
from hythe_distribution.adapters.content_url import open_content
from hythe_distribution.adapters.records_s3 import S3Records
from hythe_distribution.records import Publication, Records
from tests.fakes.relay import Relay
from tests.fixtures.s3 import Bucket

SMALL = b"a blob of some bytes"
SMALL_DIGEST = digest_of(SMALL)


_TELL = """
import sys
from pathlib import Path
from hythe.digest import digest_of
from hythe_distribution.adapters.content_url import open_content
from hythe_distribution.records import Publication
url, root, step, *keys = sys.argv[1:]
_, records, _ = open_content(url, Path(root), 0, *keys)
blobs = [digest_of(str(number).encode()) for number in range(3)]
if step == "publish":
    records.publish("default", [Publication(digest, 1) for digest in blobs])
else:
    records.withdraw_all("default", blobs)
"""


@pytest.mark.parametrize("killed_after", [0, 1, 2])
def test_process_killed_while_it_changes_records_tells_of_exactly_what_changed(
    bucket: Bucket, tmp_path: Path, killed_after: int
) -> None:
    """After ``kill -9`` between a record and its event the next process tells of each change once, and of no other."""
    blobs = [digest_of(str(number).encode()) for number in range(3)]

    def run(step: str, failpoint: str) -> int:
        keys = (bucket.access_key, bucket.secret_key)
        command = [sys.executable, "-c", _TELL, bucket.url, str(tmp_path), step, *keys]
        return subprocess.run(command, env={"HYTHE_FAILPOINTS": failpoint}, timeout=60).returncode

    kill = f"{killed_after}*off->kill" if killed_after else "kill"
    assert run("publish", f"distribution.s3.published={kill}") == -signal.SIGKILL
    told = _told(bucket, tmp_path)
    assert told == [(str(digest), "created", 1) for digest in blobs[: killed_after + 1]]
    assert run("publish", "") == 0
    assert run("withdraw", f"distribution.s3.withdrawn={kill}") == -signal.SIGKILL
    told = _told(bucket, tmp_path)
    assert sorted(told[3:]) == sorted((str(digest), "deleted", 2) for digest in blobs[: killed_after + 1])
    assert len(told) == len(set(told))


def _told(bucket: Bucket, root: Path) -> list[tuple[str, str, int]]:
    """Return what waits in the outbox of a host: blob, what was done, number."""
    _, records, _ = open_content(bucket.url, root, 0, bucket.access_key, bucket.secret_key)
    try:
        events = asyncio.run(_outgoing(records))
        return [(event.object_id, event.past, event.number) for event in events]
    finally:
        records.close()


async def _outgoing(records: Records) -> list[OutgoingEvent]:
    return list(await records.ledger.outgoing(0, 100))


def test_record_that_may_have_been_written_is_looked_for_before_it_is_told(
    bucket: Bucket, relay: Relay, tmp_path: Path
) -> None:
    """Where the store goes away in the middle of a publication no event is told until it is known what happened."""
    records = S3Records(bucket.open(relay.host), tmp_path / "ledger.db")
    records.publish("default", [Publication(SMALL_DIGEST, len(SMALL))])
    relay.cut()
    with pytest.raises(Unavailable):
        records.withdraw("default", SMALL_DIGEST)
    relay.mend()
    assert [event.past for event in asyncio.run(_outgoing(records))] == ["created"]
    assert records.get("default", SMALL_DIGEST)
    records.close()


def test_bucket_says_whose_it_is_before_it_has_a_blob(bucket: Bucket, tmp_path: Path) -> None:
    """A bucket that was empty belongs to the store that is heard first, on all hosts; one with old blobs to nobody yet."""
    content, records, trust = open_content(bucket.url, tmp_path / "one", 0, bucket.access_key, bucket.secret_key)
    with content.open_ingest("put") as ingest:
        ingest.write(SMALL)
        ingest.commit(SMALL_DIGEST)
    records.close()
    _, records, other = open_content(bucket.url, tmp_path / "two", 0, bucket.access_key, bucket.secret_key)
    assert trust.virgin()
    assert other.virgin()
    assert trust.shared() == other.shared() != ""
    trust.save("known")
    assert other.load() == "known"
    records.close()
    bucket.open().remove("collection/origin.json")
    _, records, late = open_content(bucket.url, tmp_path / "three", 0, bucket.access_key, bucket.secret_key)
    assert not late.virgin()
    records.close()
