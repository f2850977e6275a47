"""Making the files of an archive: plainly, whole or not at all, and never outside of the directory."""

from __future__ import annotations

import ctypes
import io
import os
import stat
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hythe.archive import tar
from hythe.archive.beneath import Beneath
from hythe.archive.extract import Extraction
from hythe.archive.failures import ArchiveError, DamagedError
from hythe.archive.stream import Source
from hythe.errors import InvalidArgument

_libc = ctypes.CDLL(None, use_errno=True)
Item = tuple[str, bytes, dict[str, object]]


def archive(*items: Item) -> bytes:
    """Return an archive of (name, type, fields); the field ``data`` is what a file has."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name, kind, fields in items:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.mtime = kind, 0o644, 1_000_000_000
            data = fields.pop("data", b"")
            assert isinstance(data, bytes)
            entry.size = len(data)
            for key, value in fields.items():
                setattr(entry, key, value)
            file.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def file(name: str, data: bytes = b"new", **fields: object) -> Item:
    return name, tarfile.REGTYPE, {"data": data, **fields}


def directory(name: str, **fields: object) -> Item:
    return name, tarfile.DIRTYPE, {"mode": 0o755, **fields}


def symlink(name: str, target: str) -> Item:
    return name, tarfile.SYMTYPE, {"linkname": target}


def link(name: str, target: str) -> Item:
    return name, tarfile.LNKTYPE, {"linkname": target}


def extract(
    to: Path,
    data: bytes,
    *,
    keep_owner: bool = False,
    devices: bool = True,
    begins: tuple[list[bytes] | None, list[bytes]] = (None, []),
    step: int = 4096,
) -> Extraction:
    """Extract `data` into the directory `to`."""
    source = Source(data[at : at + step] for at in range(0, len(data), step))
    top = os.open(to, os.O_PATH | os.O_DIRECTORY)

    def owner(uid: int, gid: int) -> tuple[int, int, bool]:
        return (uid, gid, True) if keep_owner else (0, 0, (uid, gid) == (0, 0))

    try:
        extraction = Extraction(Beneath(top), source, owner=owner, devices=devices, old=begins[0], new=begins[1])
        extraction.run(tar.entries(source))
        return extraction
    finally:
        os.close(top)


@contextmanager
def canary(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a directory to extract into and one outside of it, of which nothing may change meanwhile."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "canary").write_text("sings")
    (outside / "canary").chmod(0o640)
    for path in (outside / "canary", outside):
        os.utime(path, ns=(10**18, 10**18))

    def state() -> list[tuple[object, ...]]:
        return [
            (p.name, s.st_mode, s.st_uid, s.st_gid, s.st_mtime_ns, s.st_nlink, s.st_size)
            for p in (outside, *sorted(outside.iterdir()))
            if (s := p.lstat())
        ]

    before = state()
    yield inside, outside
    assert state() == before
    assert (outside / "canary").read_text() == "sings"


def test_every_kind_of_entry_is_made_as_it_was(tmp_path: Path) -> None:
    """Files, links of both kinds, FIFOs, devices and directories get their mode and time, directories last of all."""
    data = archive(
        directory("d", mode=0o2750, mtime=900_000_000),
        file("d/f", b"text", mode=0o600),
        link("d/hard", "d/f"),
        symlink("d/soft", "../nowhere"),
        ("d/fifo", tarfile.FIFOTYPE, {"mode": 0o622}),
        ("d/null", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 3, "mode": 0o666}),
        file("implied/by/name"),
    )
    extraction = extract(tmp_path, data)
    made = tmp_path / "d"
    assert (stat.S_IMODE(made.stat().st_mode), made.stat().st_mtime) == (0o2750, 900_000_000)
    assert (made / "f").read_bytes() == b"text"
    assert (stat.S_IMODE((made / "f").stat().st_mode), (made / "f").stat().st_mtime) == (0o600, 1_000_000_000)
    assert (made / "hard").samefile(made / "f")
    assert str((made / "soft").readlink()) == "../nowhere"
    assert (made / "soft").lstat().st_mtime == 1_000_000_000
    assert stat.S_ISFIFO((made / "fifo").stat().st_mode)
    assert (made / "null").stat().st_rdev == os.makedev(1, 3)
    assert (tmp_path / "implied/by/name").read_bytes() == b"new"
    assert (extraction.entries, extraction.file_bytes, extraction.warnings) == (7, 7, [])


def test_whiteout_names_are_ordinary_names(tmp_path: Path) -> None:
    """A file called .wh.x is a file: what layers mean by it has no meaning in a copy."""
    (tmp_path / "x").write_text("stays")
    extract(tmp_path, archive(file(".wh.x"), file(".wh..wh..opq")))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".wh..wh..opq", ".wh.x", "x"]


def test_file_with_holes_is_made_with_its_holes(tmp_path: Path) -> None:
    """What GNU tar packed with `--sparse` comes out with the same bytes, and takes no room for its holes."""
    (tmp_path / "from").mkdir()
    with (tmp_path / "from" / "holes").open("wb") as holes:
        holes.write(b"begin")
        holes.seek(32 << 20)
        holes.write(b"end")
    command = ["tar", "--sparse", "--format=posix", "-cf", "-", "-C", str(tmp_path / "from"), "holes"]
    packed = subprocess.run(command, check=True, capture_output=True).stdout
    (tmp_path / "to").mkdir()
    extract(tmp_path / "to", packed)
    made = tmp_path / "to" / "holes"
    assert made.read_bytes() == (tmp_path / "from" / "holes").read_bytes()
    assert made.stat().st_blocks * 512 < 1 << 20


def test_file_and_link_are_replaced_not_written_through(tmp_path: Path) -> None:
    """A copy takes the place of the file or link that had the name; who has the old one open keeps it as it was."""
    (tmp_path / "old").write_text("old")
    (tmp_path / "other").hardlink_to(tmp_path / "old")
    (tmp_path / "soft").symlink_to("other")
    extract(tmp_path, archive(file("old"), file("soft"), symlink("other2", "x"), symlink("other2", "y")))
    assert (tmp_path / "old").read_bytes() == (tmp_path / "soft").read_bytes() == b"new"
    assert not (tmp_path / "soft").is_symlink()
    assert (tmp_path / "other").read_text() == "old"
    assert str((tmp_path / "other2").readlink()) == "y"


def test_directory_is_merged_and_its_own_other_files_stay(tmp_path: Path) -> None:
    """A directory that is there gets the mode of the copied one and keeps what else is in it."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/mine").write_text("mine")
    extract(tmp_path, archive(directory("d", mode=0o711), file("d/theirs")))
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["mine", "theirs"]
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o711


@pytest.mark.parametrize("item", [file("d"), symlink("d", "x"), ("d", tarfile.FIFOTYPE, {})])
def test_directory_is_never_replaced_by_something_else(tmp_path: Path, item: Item) -> None:
    """A file or link does not take the place of a directory, and says so."""
    (tmp_path / "d").mkdir()
    with pytest.raises(InvalidArgument, match="cannot overwrite directory"):
        extract(tmp_path, archive(item))
    assert (tmp_path / "d").is_dir()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_file_is_never_replaced_by_a_directory(tmp_path: Path, kind: str) -> None:
    """A directory takes the place of nothing that is none, a link to a directory included."""
    (tmp_path / "real").mkdir()
    if kind == "file":
        (tmp_path / "d").write_text("")
    else:
        (tmp_path / "d").symlink_to("real")
    with pytest.raises(InvalidArgument, match="cannot overwrite"):
        extract(tmp_path, archive(directory("d"), file("d/f")))
    assert list((tmp_path / "real").iterdir()) == []


def test_set_id_bits_stay_only_with_their_owner(tmp_path: Path) -> None:
    """A file that runs as its owner keeps that only where the owner stays the same; it never begins to run as another."""
    items = [file("root", mode=0o4755), file("user", mode=0o6755, uid=1000, gid=1000)]
    extract(tmp_path, archive(*items))
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert modes == {"root": 0o4755, "user": 0o755}
    extract(tmp_path, archive(file("user", mode=0o6755, uid=1000, gid=1000)), keep_owner=True)
    found = (tmp_path / "user").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1000, 1000, 0o6755)


def test_devices_are_left_out_with_a_warning_where_none_may_be_made(tmp_path: Path) -> None:
    """Who may make no device gets everything else, and is told."""
    data = archive(("null", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 3}), file("f"))
    extraction = extract(tmp_path, data, devices=False)
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert len(extraction.warnings) == 1
    assert "null" in extraction.warnings[0]


def test_names_are_made_to_begin_as_asked(tmp_path: Path) -> None:
    """With a new beginning, files and the targets of hard links move together."""
    data = archive(directory("src"), file("src/f"), link("src/g", "src/f"), symlink("src/s", "src/f"))
    extract(tmp_path, data, begins=([b"src"], [b"dst"]))
    assert (tmp_path / "dst/f").samefile(tmp_path / "dst/g")
    assert str((tmp_path / "dst/s").readlink()) == "src/f"


@pytest.mark.parametrize("name", ["other", "src2", "../src", ".bashrc"])
def test_entry_that_was_not_asked_for_is_refused(tmp_path: Path, name: str) -> None:
    """A host that sends more than was asked for puts nothing beside it."""
    with pytest.raises(ArchiveError):
        extract(tmp_path, archive(file("src"), file(name)), begins=([b"src"], [b"src"]))
    assert [p.name for p in tmp_path.iterdir()] == ["src"]


ATTACKS: dict[str, list[Item]] = {
    "dots": [file("../outside/canary")],
    "dots in the middle": [directory("a"), file("a/../../outside/canary")],
    "dots as directory": [directory("..", mode=0o777)],
    "new name outside": [file("../outside/egg")],
    "link to a directory, then through it": [symlink("l", "../outside"), file("l/canary")],
    "absolute link, then through it": [symlink("l", "{outside}"), file("l/canary")],
    "link to a link": [symlink("a", "{outside}"), symlink("b", "a"), file("b/egg")],
    "link below a directory": [directory("a"), symlink("a/l", "../../outside"), directory("a/l/x")],
    "directory over a link": [symlink("l", "{outside}"), directory("l", mode=0o777)],
    "file over a link": [symlink("l", "{outside}/canary"), file("l", mode=0o777)],
    "hard link with dots": [link("h", "../outside/canary"), file("h", mode=0o777)],
    "hard link through a link": [symlink("l", "{outside}"), link("h", "l/canary")],
    "hard link to a link, then over it": [symlink("l", "{outside}/canary"), link("h", "l"), file("h", mode=0o777)],
    "device through a link": [symlink("l", "{outside}"), ("l/null", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 3})],
    "fifo over a link": [symlink("l", "{outside}/canary"), ("l", tarfile.FIFOTYPE, {"mode": 0o777})],
    "link that was there": [file("there/canary")],
    "link that was there, as a directory": [directory("there", mode=0o777)],
    "link that was there, deeper": [file("there/made/by/name")],
    "hard link through a link that was there": [link("h", "there/canary")],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_archive_changes_nothing_outside(tmp_path: Path, attack: str) -> None:
    """Whatever names and links an archive has, a canary beside the directory keeps its content, mode, owner and time."""
    with canary(tmp_path) as (inside, outside):
        (inside / "there").symlink_to(outside)
        items = [
            (name, kind, {k: v.format(outside=outside) if isinstance(v, str) else v for k, v in fields.items()})
            for name, kind, fields in ATTACKS[attack]
        ]
        try:
            extract(inside, archive(*items))
        except (ArchiveError, InvalidArgument, OSError):
            pass


def test_absolute_name_stays_in_the_directory(tmp_path: Path) -> None:
    """An absolute name is taken from the directory, as tar does it."""
    with canary(tmp_path) as (inside, outside):
        extract(inside, archive(file(f"{outside}/canary")))
        assert (inside / str(outside).lstrip("/") / "canary").read_bytes() == b"new"


def test_directory_swapped_for_a_link_meanwhile_leads_nowhere(tmp_path: Path) -> None:
    """Somebody who swaps a directory for a link while a copy runs reaches nothing outside."""
    with canary(tmp_path) as (inside, outside):
        (inside / "link").symlink_to(outside)
        (inside / "d").mkdir()
        over = threading.Event()

        def swap() -> None:
            while not over.is_set():
                exchange(inside / "d", inside / "link")

        thread = threading.Thread(target=swap)
        thread.start()
        try:
            data = archive(
                file("d/canary", mode=0o777), file("x/y"), link("d/h", "d/canary"), directory("d", mode=0o777)
            )
            for _ in range(3000):
                try:
                    extract(inside, data)
                except (ArchiveError, InvalidArgument, OSError):
                    pass
        finally:
            over.set()
            thread.join()


def exchange(one: Path, other: Path) -> None:
    """Let two names change places, in one step."""
    assert _libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2) == 0


@pytest.mark.parametrize("there", [True, False])
def test_archive_that_ends_too_early_leaves_no_half_file(tmp_path: Path, there: bool) -> None:
    """A file that did not come whole is not there; what had its name still is, and no other file remains."""
    if there:
        (tmp_path / "f").write_text("old")
    data = archive(file("whole"), file("f", b"x" * 100_000))
    with pytest.raises(DamagedError):
        extract(tmp_path, data[:60_000])
    assert sorted(p.name for p in tmp_path.iterdir()) == (["f", "whole"] if there else ["whole"])
    assert not there or (tmp_path / "f").read_text() == "old"
