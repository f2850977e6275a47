"""Archives of files as they stand: read back by others, complete, and never through a link."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from pathlib import Path

from hythe.archive.pack import Form, Packer
from hythe.linux.nodes import is_virtual


def pack(parent: Path, base: str, name: str = "", packer: Packer | None = None) -> dict[str, tarfile.TarInfo]:
    """Return the entries of an archive of `base` in `parent`, by name, as Python's own reader sees them."""
    directory, packer = os.open(parent, os.O_PATH | os.O_DIRECTORY), packer or Packer()
    try:
        data = b"".join(packer.chunks(directory, base.encode(), (name or base).encode()))
    finally:
        os.close(directory)
        packer.close()
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        return {entry.name: entry for entry in file}


def test_tree_is_packed_whole_with_links_as_links(tmp_path: Path) -> None:
    """Directories, files, links of both kinds, FIFOs and devices are in the archive once each, parents first."""
    top = tmp_path / "top"
    (top / "sub/deep").mkdir(parents=True)
    (top / "f").write_text("text")
    (top / "sub/hard").hardlink_to(top / "f")
    (top / "sub/out").symlink_to("/etc")
    os.mkfifo(top / "fifo")
    os.mknod(top / "null", 0o20666, os.makedev(1, 3))
    found = pack(tmp_path, "top", "name")
    assert set(found) == {
        f"name{n}" for n in ("", "/f", "/fifo", "/null", "/sub", "/sub/deep", "/sub/hard", "/sub/out")
    }
    assert found["name/sub/hard"].islnk()
    assert found["name/sub/hard"].linkname == "name/f"
    assert found["name/sub/out"].issym()
    assert found["name/null"].ischr()
    assert list(found).index("name/sub") < list(found).index("name/sub/deep")


def test_contents_of_a_directory_begin_with_a_dot(tmp_path: Path) -> None:
    """For DIR/. the archive's names are relative to the directory, as Docker's are."""
    (tmp_path / "f").write_text("")
    assert set(pack(tmp_path, ".")) == {".", "./f"}


def test_sockets_are_left_out(tmp_path: Path) -> None:
    """A socket cannot be copied and is no reason to copy nothing."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        (tmp_path / "f").write_text("")
        assert set(pack(tmp_path, ".")) == {".", "./f"}


def test_file_systems_that_the_kernel_makes_up_are_told_from_others(tmp_path: Path) -> None:
    """/proc and /sys are known for what they are; a directory on a disk is not mistaken for one."""
    for path, expected in (("/proc", True), ("/sys", True), (str(tmp_path), False)):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            assert is_virtual(fd) is expected
        finally:
            os.close(fd)


def test_file_that_shrinks_meanwhile_is_filled_up_with_a_warning(tmp_path: Path) -> None:
    """A file cut short while it is read keeps the size that its header says, and the user is told."""
    big = tmp_path / "big"
    big.write_bytes(b"x" * 1_000_000)
    directory = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    packer = Packer()
    try:
        chunks = packer.chunks(directory, b"big", b"big")
        data = [next(chunks)]
        os.truncate(big, 300_000)
        data += chunks
    finally:
        os.close(directory)
        packer.close()
    with tarfile.open(fileobj=io.BytesIO(b"".join(data))) as file:
        assert file.getmember("big").size == 1_000_000
    assert packer.warnings
    assert "changed" in packer.warnings[0]


def test_directory_that_becomes_a_link_meanwhile_is_passed_over(tmp_path: Path) -> None:
    """A container that puts a link where a directory was neither leads the copy elsewhere nor ends it."""
    for name in ("elsewhere", "top/a", "top/b", "top/c"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "elsewhere/secret").write_text("")
    (tmp_path / "top/a/big").write_bytes(bytes(1_000_000))
    directory, packer = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY), Packer()
    try:
        chunks = packer.chunks(directory, b"top", b"top")
        data = [next(chunks)]
        (tmp_path / "top/b").rmdir()
        (tmp_path / "top/b").symlink_to("../elsewhere")
        data += chunks
    finally:
        os.close(directory)
        packer.close()
    with tarfile.open(fileobj=io.BytesIO(b"".join(data))) as file:
        assert file.getnames() == ["top", "top/a", "top/a/big", "top/c"]


def test_very_deep_tree_takes_one_descriptor_at_a_time(tmp_path: Path) -> None:
    """However deep directories lie, one is open at a time."""
    deep = tmp_path / "top"
    for _ in range(300):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "big").write_bytes(bytes(1_000_000))
    before = len(list(Path("/proc/self/fd").iterdir()))
    directory, packer = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY), Packer()
    try:
        chunks = packer.chunks(directory, b"top", b"top")
        most = max(len(list(Path("/proc/self/fd").iterdir())) for _ in chunks)
    finally:
        os.close(directory)
        packer.close()
    assert most - before <= 7


class Moved(Form):
    """Seven users and eight groups further on."""

    def owner(self, uid: int, gid: int) -> tuple[int, int]:
        """See `Form.owner`."""
        return uid + 7, gid + 8


def test_owner_in_the_archive_is_what_the_caller_says(tmp_path: Path) -> None:
    """A container with ids of its own sees files with those ids."""
    (tmp_path / "f").write_text("")
    found = pack(tmp_path, "f", packer=Packer(Moved()))
    assert (found["f"].uid, found["f"].gid) == (7, 8)
