"""What children of a snapshot show after all that can be done to files in them: the same as one plain directory would."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hythe.ports.snapshots import Snapshotter
from tests.fixtures.snapshots import commit, commit_active, described, shown, special_files, tree, write

Step = Callable[[Path], None]


def run(command: str) -> Step:
    """Return a step that runs shell commands in the directory."""

    def step(directory: Path) -> None:
        subprocess.run(["sh", "-ec", command], cwd=directory, check=True)

    return step


def set_xattrs(directory: Path) -> None:
    """Give files extended attributes."""
    os.setxattr(directory / "f", "user.a", b"1")
    os.setxattr(directory / "f", "user.b", b"\0\xff")
    os.setxattr(directory / "d", "user.d", b"")
    os.setxattr(directory / "f", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.setxattr(directory / "link", "trusted.note", b"x", follow_symlinks=False)


def change_xattrs(directory: Path) -> None:
    """Change one, take one away."""
    os.setxattr(directory / "f", "user.a", b"2")
    os.removexattr(directory / "f", "user.b")
    os.setxattr(directory / "d", "trusted.t", b"t")


def odd_names(directory: Path) -> None:
    """Make files with names that are hard to write down."""
    for name in (b"\xff\xfe", b"two words", b"line\nbreak", b"a:b", b"a,b", b"back\\slash", b"-", "ü".encode()):
        (directory / os.fsdecode(name)).write_bytes(name)


CHILDREN: dict[str, list[Step]] = {
    "nothing": [run(""), run("")],
    "deleted files": [run("echo foo >foo; echo bar >foobar"), run("rm foobar"), run("")],
    "file updated": [
        run("mkdir -m 700 etc; echo 1 >etc/hosts; echo PATH >etc/profile"),
        run("echo 2 >etc/hosts; chmod 666 etc/profile; mkdir -m 700 root; echo x >root/.bashrc"),
    ],
    "directory removed and made anew": [
        run("mkdir -m 700 lib; touch lib/hidden"),
        run("rm -r lib; mkdir -m 711 lib; touch lib/not-hidden"),
        run("touch lib/new"),
    ],
    "directory removed below another": [
        run("mkdir -p a/b/c a/d; touch a/b/c/f a/d/f"),
        run("rm -r a/b"),
        run("mkdir -p a/b/e"),
        run("rm -r a"),
    ],
    "owners": [
        run("mkdir -p opt/a/b; echo hello >opt/a/b/file"),
        run("chown -R 1:1 opt"),
        run("chown 4294967294:7 opt/a/b/file"),
    ],
    "permissions of directories": [
        run("mkdir -m 700 d1 d2 d3 d4 d5; touch d4/f d5/f; chown 1:1 d1 d2 d3 d5 d5/f"),
        run("chown 0:0 d2; rmdir d3; chown 1:1 d4 d4/f"),
        run("mkdir -m 700 d3; chown 1:1 d3; rm -r d5; mkdir -m 3770 d5; chown 1:1 d5"),
        run("chmod 1777 d1; chmod 2755 d2; mkdir d2/in"),
    ],
    "files moved": [
        run("mkdir -m 700 dir1 dir2; echo Hello >dir1/f1; echo . >dir2/f2"),
        run("mkdir -m 700 dir3; mv dir1/f1 dir3/f1; rm -r dir1; ln dir2/f2 dir3/f2; rm dir2/f2"),
    ],
    "renames": [
        run("mkdir -m 700 dir1 some; echo first >some/f1; echo dull >some/f2; mkdir -p deep/er; touch deep/er/f"),
        run("mv dir1 dir2; echo new >some/over; mv some/over some/f1; mv some/f2 some/f3; mv deep/er moved"),
        run("mv some other; mv other/f3 other/f2"),
    ],
    "file and directory change places": [
        run("echo f >a; mkdir -p b/c; echo g >b/c/f"),
        run("rm a; mkdir a; echo in >a/in; rm -r b; echo b >b"),
        run("rm -r a; echo again >a; rm b; mkdir b"),
    ],
    "links": [
        run("ln -s one l; ln -s /absolute a; mkdir d; ln -s d ld; echo x >t"),
        run("ln -sfn two l; rm a; echo file >a; rm ld; mkdir ld; rmdir d; ln -s ld d"),
        run("rm l; mkdir l; touch d/f; chown -h 3:4 d; rm a; ln -s t a"),
    ],
    "modes": [
        run("touch f g; chmod 4755 f; chmod 2750 g; mkdir d; chmod 1777 d"),
        run("chmod 600 f; chmod 6711 g; chmod 0 d"),
    ],
    "attributes": [run("touch f; mkdir d; ln -s f link"), set_xattrs, change_xattrs],
    "names of one file": [
        run("echo x >a; ln a b; mkdir d; ln a d/c; ln -s a l; ln l l2"),
        run("touch e; ln e d/e; rm b"),
        run("rm a d/c; echo y >e2; ln e2 d/e2"),
    ],
    "devices, pipes and sockets": [
        special_files,
        run("rm pipe; mkdir pipe; chown 5:6 device; chmod 600 socket"),
        run("rm disk"),
    ],
    "odd names": [odd_names, run("rm -- - 'a:b'; mv 'two words' three"), run("")],
    "the root directory": [run("chmod 711 .; chown 5:6 ."), run("touch f"), run("chmod 1750 .")],
}


@pytest.mark.parametrize("steps", CHILDREN.values(), ids=CHILDREN)
async def test_child_shows_what_a_plain_directory_would(
    snapshots: Snapshotter, tmp_path: Path, steps: list[Step]
) -> None:
    """Each child begins with what its parent showed, and is committed with all that was done to it."""
    plain, parent = tmp_path / "plain", ""
    plain.mkdir()
    plain.chmod(0o755)
    for number, step in enumerate(steps):
        key, name = f"active-{number}", f"layer-{number}"
        with shown(await snapshots.prepare(key, parent), tmp_path / "m") as point:
            assert described(point) == described(plain)
            step(plain)
            step(point)
            assert described(point) == described(plain)
        await snapshots.commit(name, key)
        parent = name
    with shown(await snapshots.view("view", parent), tmp_path / "m") as point:
        assert described(point) == described(plain)
    with shown(await snapshots.look(parent), tmp_path / "m") as point:
        assert described(point) == described(plain)


LAYERS = 128


def below_all(directory: Path) -> None:
    """Make the lowest of many layers."""
    write(bottom="way at the bottom", overwrite="FIRST!", onlyme__bottom="bye!")(directory)
    (directory / "addhere").mkdir()


def one_of_many(number: int) -> Step:
    """Return what a layer in the middle changes."""

    def step(directory: Path) -> None:
        shutil.rmtree(directory / "onlyme")
        names = {"overwrite": f"{number}\n", f"addhere__file-{number}": "same", f"onlyme__{number}": "x"}
        write(**names)(directory)

    return step


@pytest.mark.time_limit(60)
async def test_128_layers_are_stacked(snapshots: Snapshotter, tmp_path: Path) -> None:
    """128 layers, more than one page of mount options holds, show as one tree."""
    plain, parent = tmp_path / "plain", ""
    plain.mkdir()
    for number in range(LAYERS):
        step = one_of_many(number) if number else below_all
        step(plain)
        await commit_active(snapshots, f"layer-{number}", parent, step, tmp_path / "m")
        parent = f"layer-{number}"
    with shown(await snapshots.view("view", parent), tmp_path / "m") as point:
        assert tree(point) == tree(plain)
    with shown(await snapshots.prepare("active", parent), tmp_path / "m") as point:
        assert tree(point) == tree(plain)
        run("rm -r onlyme bottom")(point)
        assert not (point / "onlyme").exists()
    assert await snapshots.read_file("layer-127", "/overwrite", 10) == b"127\n"


async def test_root_directory_of_a_layer_is_the_container_s(snapshots: Snapshotter, tmp_path: Path) -> None:
    """No archive describes the root directory, so a layer leaves it as it was; only who mounts a snapshot changes it."""
    await commit(snapshots, "base", "", write(a="1"))
    await commit_active(snapshots, "changed", "base", run("chmod 710 .; chown 5:6 ."), tmp_path / "m")
    await commit(snapshots, "layer", "changed", write(b="2"))
    await snapshots.commit_stage(await snapshots.stage(), "hiding", "changed", opaque=True)
    found = {}
    for name in ("base", "changed", "layer", "hiding"):
        with shown(await snapshots.prepare(f"on-{name}", name), tmp_path / "m") as point:
            status = point.stat()
            found[name] = (oct(stat.S_IMODE(status.st_mode)), status.st_uid, status.st_gid)
    root, own = ("0o755", 0, 0), ("0o710", 5, 6)
    assert found == {"base": root, "changed": own, "layer": own, "hiding": root}
