"""Which store a URL names."""

from __future__ import annotations

from pathlib import Path

import pytest

from hythe.digest import digest_of
from hythe.errors import FailedPrecondition, InvalidArgument
from hythe_distribution.adapters.content_url import open_content
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.namespace_store import Library


def test_file_url_names_a_directory_with_blobs_and_records(tmp_path: Path) -> None:
    """``file:///DIR`` keeps all in that directory, and another process finds it there."""
    directory = tmp_path / "a b"
    url = f"file://{tmp_path}/a%20b"
    content, records, _ = open_content(url, tmp_path / "root", 0)
    with Library(content, records).of("default").open_ingest("ref") as ingest:
        ingest.write(b"data")
        ingest.commit()
    records.close()
    assert isinstance(content, DirectoryContent)
    assert (directory / "blobs" / "sha256" / digest_of(b"data").hex).read_bytes() == b"data"
    content, records, _ = open_content(url, tmp_path / "root", 0)
    assert [blob.digest for blob in Library(content, records).of("default").walk()] == [digest_of(b"data")]
    records.close()


def test_reserve_of_the_disk_counts(tmp_path: Path) -> None:
    """The bytes that stay free are those of the settings."""
    content, records, _ = open_content(f"file://{tmp_path}/content", tmp_path, 1 << 60)
    with pytest.raises(Exception, match=f"{1 << 60} stay in reserve"):
        content.check_room(1)
    records.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/var/lib/content",
        "content",
        "http://127.0.0.1:9000/bucket",
        "file://host/dir",
        "file:dir",
        "file:///dir?x=1",
        "s3://",
        "s3:///bucket",
        "s3://host",
        "s3://host/",
        "s3://host:99999/bucket",
        "s3://host:x/bucket",
        "s3://host:/bucket",
        "s3://-host/bucket",
        "s3://host name/bucket",
        "s3://host/ab",
        "s3://host/Bucket",
        "s3://host/bucket/prefix",
        "s3://host/buc..ket",
        "s3://host/bucket?secure=2",
        "s3://host/bucket?secure",
        "s3://host/bucket?secure=0&secure=1",
        "s3://host/bucket?else=1",
        "s3://host/bucket?region=",
        "s3://host/bucket#x",
        "s3://key:se-cr-et@host/bucket",
        "s3://[::1/bucket",
    ],
)
def test_url_of_another_form_is_invalid(url: str, tmp_path: Path) -> None:
    """A mistake in the setting is told with the forms that there are, and without what stands in it."""
    with pytest.raises(InvalidArgument) as raised:
        open_content(url, tmp_path, 0, "access", "se-cr-et")
    assert "file:///" in raised.value.next_step
    assert "s3://" in raised.value.next_step
    assert "se-cr-et" not in raised.value.whole
    assert list(tmp_path.iterdir()) == []


def test_s3_without_keys_is_told(tmp_path: Path) -> None:
    """Missing keys are named by the settings that have them."""
    with pytest.raises(FailedPrecondition) as raised:
        open_content("s3://127.0.0.1:1/bucket", tmp_path, 0, "access", "")
    assert "HYTHE_S3_SECRET_KEY" in raised.value.next_step
