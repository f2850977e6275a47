"""The directory body of the content port: its layout on disk, its durability, and disks that refuse."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hythe.digest import digest_of
from hythe.durable import SyncCount, current_syncs
from hythe.errors import DataLoss, FailedPrecondition, NotFound, ResourceExhausted
from hythe_distribution.adapters.directory_store import DirectoryContent

DATA = b"layer bytes" * 1000
DIGEST = digest_of(DATA)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB of its own, mounted on a directory."""
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], check=True)
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_blob_lies_where_containerd_puts_it(tmp_path: Path) -> None:
    """A committed blob is ``blobs/sha256/<hex>``, readable by all and writable by none; its ingest is gone."""
    content = DirectoryContent(tmp_path)
    with content.open_ingest("layer", total_bytes=len(DATA)) as ingest:
        ingest.write(DATA)
        ingest.commit(DIGEST, len(DATA))
    path = tmp_path / "blobs" / "sha256" / DIGEST.hex
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o7777 == 0o444
    assert content.locate(DIGEST) == path
    assert list((tmp_path / "ingest").iterdir()) == []


def test_ingest_lies_where_containerd_puts_it(tmp_path: Path) -> None:
    """An ingest is a directory named by the hash of its reference, with containerd's five files."""
    content = DirectoryContent(tmp_path)
    with content.open_ingest("layer-x", total_bytes=5) as ingest:
        ingest.write(b"abc")
    directory = tmp_path / "ingest" / hashlib.sha256(b"layer-x").hexdigest()
    assert {path.name for path in directory.iterdir()} == {"data", "ref", "startedat", "updatedat", "total"}
    assert (directory / "data").read_bytes() == b"abc"
    assert (directory / "ref").read_text() == "layer-x"
    assert (directory / "total").read_text() == "5"


def test_ingest_survives_its_process(tmp_path: Path) -> None:
    """Another process that opens the store finds what the first one left."""
    with DirectoryContent(tmp_path).open_ingest("left", total_bytes=9) as ingest:
        ingest.write(b"abc")
    assert DirectoryContent(tmp_path).status("left").offset == 3


def test_ingest_whose_maker_died_at_birth_is_passed_over(tmp_path: Path) -> None:
    """A directory without the files of an ingest is not listed, and does not hinder the next writer."""
    content = DirectoryContent(tmp_path)
    (tmp_path / "ingest" / hashlib.sha256(b"born").hexdigest()).mkdir()
    assert list(content.ingests()) == []
    with content.open_ingest("born", resume=True) as ingest:
        ingest.write(DATA)
        ingest.commit(DIGEST, len(DATA))
    assert content.info(DIGEST).size_bytes == len(DATA)


def test_sweep_removes_what_nobody_can_go_on_with(tmp_path: Path) -> None:
    """Ingests that a killed process had not made, or not removed, to the end go; what can be resumed stays."""
    content = DirectoryContent(tmp_path)
    with content.open_ingest("left", total_bytes=9) as ingest:
        ingest.write(b"abc")
    ingests = tmp_path / "ingest"
    (ingests / "made").mkdir()
    (ingests / "made" / "data").touch()
    (ingests / "removed").mkdir()
    (ingests / "removed" / "ref").write_text("gone")
    content.sweep()
    assert [path.name for path in ingests.iterdir()] == [hashlib.sha256(b"left").hexdigest()]
    assert content.status("left").offset == 3


def test_ingest_taken_up_again_needs_room_only_for_the_rest(tiny_disk: Path) -> None:
    """What is on the disk already doesn't have to fit a second time."""
    content = DirectoryContent(tiny_disk)
    with content.open_ingest("large", total_bytes=800_000) as ingest:
        ingest.write(bytes(500_000))
    with pytest.raises(ResourceExhausted):
        content.open_ingest("other", total_bytes=800_000, resume=True)
    with content.open_ingest("large", total_bytes=800_000, resume=True) as ingest:
        assert ingest.offset == 500_000


def test_ingest_is_listed_rightly_at_every_moment(tmp_path: Path) -> None:
    """Whoever lists ingests while one is opened, written and closed again and again never sees a wrong one."""
    content = DirectoryContent(tmp_path)
    with content.open_ingest("busy", total_bytes=1 << 20) as ingest:
        ingest.write(b"x")
    ended = threading.Event()

    def write() -> None:
        for _ in range(100):
            with content.open_ingest("busy", total_bytes=1 << 20, resume=True) as ingest:
                ingest.write(b"x")
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    offsets = []
    while not ended.is_set():
        [status] = content.ingests()
        assert (status.reference, status.total_bytes) == ("busy", 1 << 20)
        offsets.append(status.offset)
    writer.join()
    assert offsets == sorted(offsets)
    assert content.status("busy").offset == 101


def test_foreign_files_among_the_blobs_are_passed_over(tmp_path: Path) -> None:
    """Only regular files with the name of a digest are blobs."""
    content = DirectoryContent(tmp_path)
    blobs = tmp_path / "blobs" / "sha256"
    (blobs / "README").write_text("not a blob")
    (blobs / ("0" * 64)).symlink_to("/etc/passwd")
    (blobs / ("1" * 64)).mkdir()
    assert list(content.walk()) == []
    for name in ("0", "1"):
        with pytest.raises(NotFound):
            content.info(digest_of(b"").__class__(name * 64))


def test_commit_costs_two_fsyncs(tmp_path: Path) -> None:
    """Bytes and name are made durable, by one fsync each, and both are counted."""
    content = DirectoryContent(tmp_path)
    syncs = SyncCount()
    token = current_syncs.set(syncs)
    try:
        with content.open_ingest("counted") as ingest:
            ingest.write(DATA)
            ingest.commit(DIGEST, len(DATA))
    finally:
        current_syncs.reset(token)
    assert syncs.count == 2


def test_full_disk_is_resource_exhausted_and_gives_its_room_back(tiny_disk: Path) -> None:
    """When the disk is full in mid-write, the error says so and the half-written bytes are gone."""
    content = DirectoryContent(tiny_disk)
    with content.open_ingest("big") as ingest, pytest.raises(ResourceExhausted) as raised:
        for _ in range(64):
            ingest.write(b"x" * 65536)
    assert "No space left" in raised.value.cause
    assert str(tiny_disk / "ingest") in raised.value.message
    assert list(content.ingests()) == []
    with content.open_ingest("small") as ingest:
        ingest.write(DATA)
        ingest.commit(DIGEST, len(DATA))


def test_blob_that_would_touch_the_reserve_is_refused_before_its_first_byte(tiny_disk: Path) -> None:
    """The reserve of the file system stays free."""
    content = DirectoryContent(tiny_disk, reserve_bytes=512 * 1024)
    with pytest.raises(ResourceExhausted) as raised:
        content.open_ingest("too big", total_bytes=600 * 1024)
    assert "reserve" in raised.value.message
    assert list(content.ingests()) == []
    content.open_ingest("fits", total_bytes=100 * 1024).close()


def test_read_only_disk_is_failed_precondition(tiny_disk: Path) -> None:
    """A store on a read-only file system says which directory cannot be written, and still reads."""
    content = DirectoryContent(tiny_disk)
    with content.open_ingest("before") as ingest:
        ingest.write(DATA)
        ingest.commit(DIGEST, len(DATA))
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(FailedPrecondition) as raised:
        content.open_ingest("after")
    assert "Read-only" in raised.value.cause
    assert b"".join(DirectoryContent(tiny_disk).read(DIGEST)) == DATA


def test_leftover_changed_on_disk_never_becomes_a_blob(tmp_path: Path) -> None:
    """Bytes changed behind our back between two processes are found at commit."""
    with DirectoryContent(tmp_path).open_ingest("left") as ingest:
        ingest.write(DATA[:100])
    data = tmp_path / "ingest" / hashlib.sha256(b"left").hexdigest() / "data"
    data.write_bytes(b"y" * 100)
    with DirectoryContent(tmp_path).open_ingest("left", resume=True) as ingest:
        ingest.write(DATA[100:])
        with pytest.raises(DataLoss):
            ingest.commit(DIGEST, len(DATA))


def test_store_is_private(tmp_path: Path) -> None:
    """Nobody but its owner can list or enter the store."""
    old = os.umask(0)
    try:
        DirectoryContent(tmp_path / "content")
    finally:
        os.umask(old)
    for path in ("", "blobs", "blobs/sha256", "ingest"):
        assert (tmp_path / "content" / path).stat().st_mode & 0o777 == 0o700
