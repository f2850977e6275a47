"""containerd's set of archives that try to get out, and others, each applied by the real worker beside canaries.

What the images come to is compared with containerd's result in `test_like_containerd`.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hythe.errors import InvalidArgument
from hythe_bundle.adapters.inheritance import inherit
from hythe_bundle.adapters.removal import remove_tree
from scripts.lab.images import Layer
from scripts.lab.raw_tars import Tar
from scripts.lab.unpack_cases import breakouts
from tests.fixtures.targets import Canary, Target

ATTACKS = {name: case[0] for name, case in breakouts.cases().items() if len(case) == 1}
MACHINES_OWN = Path("/etc/passwd")
"""What the set aims at."""

_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)


def machines_own() -> tuple[int, ...]:
    """Return what must not change of this machine's own file."""
    found = MACHINES_OWN.lstat()
    return (found.st_ino, found.st_mode, found.st_uid, found.st_nlink, found.st_mtime_ns, found.st_ctime_ns)


@pytest.mark.parametrize("name", ATTACKS)
async def test_archive_of_containerds_breakout_set_stays_inside(target: Target, name: str) -> None:
    """Whatever the archive names and links to, no file outside is made, removed or touched, and none of the machine's own."""
    before = machines_own()
    try:
        await target.apply(ATTACKS[name])
    except InvalidArgument:
        assert "Whiteout" in name  # of the directory itself or of its parent
    assert machines_own() == before


def aimed_at(path: Path) -> dict[str, Tar]:
    """Return archives that aim at an absolute path, by what they do to it."""
    there, up = str(path), "../" * 12 + str(path).lstrip("/")
    return {
        "device": Tar().device(up, b"3", 1, 1).device(there, b"4", 7, 0),
        "pipe": Tar().device(up, b"6", 0, 0),
        "directory with other mode": Tar().symlink("l", there).directory("l/inner", 0o777, uid=1, mtime_s=5),
        "attribute": Tar().symlink("l", there).xattrs(user__note="theirs").directory("l/inner", 0o777),
        "attribute of a hard link": Tar().symlink("l", f"{there}/canary").xattrs(security__x="1").hardlink("h", "l"),
        "capability through a link": Tar().symlink("l", there).xattrs(security__capability="x" * 20).file("l/new"),
        "setuid": Tar().symlink("l", there).hardlink("l/canary", "l/canary", 0o4777).file("l/canary", mode=0o4755),
        "hard link out": Tar().symlink("l", there).hardlink("mine", "l/canary").file("mine", b"dead"),
        "long names": Tar().pax(("path", up + "/canary")).file("x", b"dead").long(b"L", up + "/inner").file("x"),
        "long link": Tar().pax(("linkpath", there)).symlink("l", "x").file("l/canary", b"dead"),
        "whiteouts": Tar().symlink("l", there).file("l/.wh.canary").file("l/.wh..wh..opq").file("l/inner/.wh.kept"),
        "removal of a tree with a link": Tar().symlink("d/l", there).file("d/l/canary").file("d", b"file"),
        "link over a directory": Tar().directory("d/inner").symlink("d", there).file("d/inner/kept", b"dead"),
        "time of a link": Tar().symlink("l", f"{there}/canary", mtime_s=5, uid=9, gid=9).symlink("l", there, mtime_s=6),
        "link swapped under a directory's time": Tar().directory("d", 0o777, mtime_s=9).symlink("d", there),
        "chain": Tar()
        .symlink("a", "/b")
        .symlink("b", "/c")
        .symlink("c", up)
        .file("a/canary", b"dead")
        .directory("a/inner"),
    }


@pytest.mark.parametrize("name", aimed_at(Path("/")))
async def test_archive_aimed_at_a_file_outside_does_not_reach_it(target: Target, name: str) -> None:
    """Devices, attributes, modes, times, links and removals end inside, whichever way they are led out."""
    try:
        await target.apply(aimed_at(target.outside)[name].end())
    except InvalidArgument:
        assert name in ("hard link out", "setuid", "attribute of a hard link", "capability through a link")


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Exchange two names all the time while the block runs."""
    ended = threading.Event()
    names = os.fsencode(one), os.fsencode(other)

    def swap() -> None:
        while not ended.is_set():
            _libc.renameat2(-100, names[0], -100, names[1], _EXCHANGE)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def links_out(outside: Path) -> dict[str, str]:
    """Return targets for a link that is swapped in from outside."""
    return {"absolute": str(outside), "relative": "../../../../outside"}


@pytest.mark.parametrize("kind", links_out(Path("/")))
async def test_directory_swapped_for_a_link_while_applying_leads_nowhere(target: Target, kind: str) -> None:
    """Who can swap a directory of the target for a link out of it while the worker writes gains nothing by that."""
    for decoy in (target.path / str(target.outside).lstrip("/"), target.path / "outside", target.path / "d"):
        (decoy / "inner").mkdir(parents=True)  # where the link leads inside, so that the worker goes on
    (target.path / "l").symlink_to(links_out(target.outside)[kind])
    tar = Tar()
    for number in range(150):
        tar.file(f"d/canary{number % 7}", b"dead", mode=0o777, uid=9).directory(f"d/inner/n{number}", 0o777, mtime_s=9)
        tar.file("d/canary", b"dead", mode=0o4777).file("d/inner/.wh.kept").directory("d/inner", 0o777, uid=9)
        tar.symlink("d/link", "x").hardlink("d/h", "d/canary", 0o777).file("d/.wh..wh..opq").file("d/inner/a/b/c")
        tar.file("d/inner/a", b"dead")
    with swapping(target.path / "d", target.path / "l"):
        for _ in range(12):
            try:
                await target.apply(tar.end(), "none")
            except InvalidArgument as error:
                assert "tar entry" in error.message  # what was a directory is a link at that moment
    target.canary.check()


def test_directory_swapped_for_a_link_while_it_takes_over_a_mode_leads_nowhere(target: Target, tmp_path: Path) -> None:
    """Modes and owners of unnamed directories are set on the very directory, and never through a link put in its place."""
    lower = tmp_path / "lower"
    (lower / "d/inner").mkdir(mode=0o1777, parents=True)
    os.chown(lower / "d/inner", 77, 77)
    (target.path / "d/inner").mkdir(parents=True)
    (target.path / "l").symlink_to(target.outside)
    with swapping(target.path / "d", target.path / "l"):
        for _ in range(500):
            try:
                inherit(target.path, [b"d", b"d/inner"], [lower])
            except OSError:
                continue
    target.canary.check()


def test_directory_swapped_for_a_link_while_it_is_removed_leads_nowhere(tmp_path: Path) -> None:
    """A tree that goes away takes nothing outside with it."""
    canary = Canary(tmp_path / "outside")
    for attempt in itertools.count():
        tree = tmp_path / f"tree{attempt}"
        for number in range(20):
            (tree / "d" / f"n{number}" / "m").mkdir(parents=True)
        (tree / "l").symlink_to(canary.path)
        with swapping(tree / "d", tree / "l"):
            try:
                remove_tree(tree)
            except OSError:
                pass  # the tree changes while it is removed; the next start of the service tries again
        canary.check()
        remove_tree(tree)
        if attempt == 20:
            break


async def test_special_bits_and_devices_are_as_the_archive_says(target: Target) -> None:
    """Setuid, setgid and sticky bits come on files and directories alike; devices are made and stay what they are."""
    layer = Layer().file("su", b"x", mode=0o4755, uid=5).directory("sg", mode=0o2775, gid=6).directory("t", mode=0o1777)
    layer.file("sg/all", b"x", mode=0o7777, uid=7, gid=8).device("sg/mem", "char", 1, 1, mode=0o640).fifo(
        "sg/p", mode=0o602
    )
    await target.apply(layer)
    modes = {name: oct((target.path / name).lstat().st_mode & 0o7777) for name in target.names()}
    assert modes == {
        "su": "0o4755",
        "sg": "0o2775",
        "t": "0o1777",
        "sg/all": "0o7777",
        "sg/mem": "0o640",
        "sg/p": "0o602",
    }
    assert (target.path / "sg/mem").lstat().st_rdev == os.makedev(1, 1)
    assert (target.path / "sg/p").lstat().st_gid == 0  # of the archive, not of the directory it lies in
