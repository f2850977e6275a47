"""Applying one layer in the worker process: what each entry becomes, and what a hostile archive cannot do."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hythe.errors import DataLoss, HytheError, Internal, InvalidArgument, ResourceExhausted
from hythe.ports.snapshots import Mount
from hythe_bundle.adapters.worker import WorkerApplier
from hythe_bundle.applier import Limits
from scripts.lab.images import Compression, Layer, compress
from tests.fixtures.targets import OPAQUE, Target
from tests.fixtures.waiting import eventually_async


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_files_come_out_as_they_went_in(target: Target, compression: Compression) -> None:
    """Content, mode, owner and time of files and directories are those of the archive."""
    big = os.urandom(3_000_000)
    layer = Layer().directory("d", mode=0o750, uid=5, gid=6, mtime_s=1000).file("d/big", big, mtime_s=2000)
    layer.file("d/s", b"x", mode=0o6755, uid=7, gid=8, mtime_s=3000).directory("d/t", mode=0o1777, mtime_s=4000)
    applied = await target.apply(layer, compression)
    assert (target.path / "d/big").read_bytes() == big
    found = {name: (target.path / name).stat() for name in ("d", "d/s", "d/t", "d/big")}
    assert {
        name: (oct(s.st_mode & 0o7777), s.st_uid, s.st_gid, s.st_mtime_ns // 10**9) for name, s in found.items()
    } == {
        "d": ("0o750", 5, 6, 1000),
        "d/s": ("0o6755", 7, 8, 3000),
        "d/t": ("0o1777", 0, 0, 4000),
        "d/big": ("0o644", 0, 0, 2000),
    }
    assert (applied.entries, applied.file_bytes, applied.implied) == (4, len(big) + 1, ())


async def test_links_devices_and_pipes_are_made(target: Target) -> None:
    """Every kind of entry that a layer may have is made, with its owner, and links never change what they lead to."""
    layer = Layer().file("f", b"data", mode=0o600).hardlink("h", "f").symlink("s", "../../outside/canary", uid=9, gid=9)
    layer.device("c", "char", 1, 3, mode=0o666).device("b", "block", 7, 200).fifo("p", mode=0o622).hardlink("hs", "s")
    await target.apply(layer)
    at = target.path
    assert (at / "h").stat().st_ino == (at / "f").stat().st_ino
    assert (at / "s").readlink() == Path("../../outside/canary") and (at / "s").lstat().st_ino == (
        at / "hs"
    ).lstat().st_ino
    assert (at / "c").stat().st_rdev == os.makedev(1, 3) and stat.S_ISCHR((at / "c").stat().st_mode)
    assert (at / "b").stat().st_rdev == os.makedev(7, 200) and stat.S_ISBLK((at / "b").stat().st_mode)
    assert stat.S_ISFIFO((at / "p").stat().st_mode) and (at / "p").stat().st_mode & 0o777 == 0o622


async def test_extended_attributes_are_kept_but_for_overlays_own(target: Target) -> None:
    """User attributes and file capabilities are kept; ``trusted.*`` from an image would forge overlayfs's marks."""
    capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    layer = Layer().file("f", b"x", uid=3, xattrs={"user.a": "1", "security.capability": capability})
    layer.directory("d", xattrs={"user.b": "2", OPAQUE: "y", "trusted.overlay.redirect": "/etc"})
    applied = await target.apply(layer)
    assert os.getxattr(target.path / "f", "user.a") == b"1"
    assert os.getxattr(target.path / "f", "security.capability") == capability.encode()
    assert os.listxattr(target.path / "d") == ["user.b"]
    assert applied.ignored_xattrs == 2


async def test_whiteouts_become_overlays_marks(target: Target) -> None:
    """A removed name becomes a 0:0 device, a replaced directory an opaque one, and no ``.wh.`` file is left."""
    layer = Layer().whiteout("gone").directory("d").opaque("d").file("d/new").whiteout("deep/er/gone")
    applied = await target.apply(layer)
    assert target.is_whiteout("gone") and target.is_whiteout("deep/er/gone")
    assert target.is_opaque("d") and not target.is_opaque("deep")
    assert applied.implied == (b"deep", b"deep/er")
    assert target.names() == {"gone", "d", "d/new", "deep", "deep/er", "deep/er/gone"}


async def test_file_of_the_same_layer_beats_its_whiteout(target: Target) -> None:
    """A whiteout speaks of lower layers alone, wherever it stands in the archive."""
    layer = Layer().whiteout("a").file("a", b"new").file("b", b"new").whiteout("b").directory("c").whiteout("c")
    layer.whiteout("e").directory("e").whiteout("i").file("i/below")
    applied = await target.apply(layer)
    assert (target.path / "a").read_bytes() == (target.path / "b").read_bytes() == b"new"
    assert target.is_opaque("c") and target.is_opaque("e") and target.is_opaque("i")
    assert applied.implied == ()  # "i" was removed and made anew: it takes nothing from what it replaces


async def test_opaque_root_is_told_to_the_snapshotter(target: Target) -> None:
    """overlayfs has no mark for a root that hides everything below it, so the layer's record has to say so."""
    applied = await target.apply(Layer().opaque("").file("f"))
    assert applied.opaque and target.names() == {"f"}


async def test_directories_that_are_not_named_are_listed(target: Target) -> None:
    """What lies in an unnamed directory makes it, and the list says which are to take over what lies below."""
    layer = Layer().file("tmp/a").file("home/u/f").directory("home/u", mode=0o700).directory("x/y/z")
    applied = await target.apply(layer)
    assert applied.implied == (b"home", b"tmp", b"x", b"x/y")
    assert (target.path / "home/u").stat().st_mode & 0o777 == 0o700


async def test_later_entry_of_one_name_wins(target: Target) -> None:
    """A file, link or directory that comes again replaces the earlier one, with all that lay in it."""
    layer = Layer().directory("d").file("d/x/f").file("d", b"file").symlink("l", "nowhere").directory("l").file("l/in")
    layer.file("f", b"1").file("f", b"2").file("g").symlink("g", "f")
    applied = await target.apply(layer)
    assert (target.path / "d").read_bytes() == b"file"
    assert target.names() == {"d", "l", "l/in", "f", "g"} and applied.implied == ()
    assert (target.path / "f").read_bytes() == b"2" and (target.path / "g").is_symlink()


async def test_directory_named_twice_keeps_its_files(target: Target) -> None:
    """A directory that comes again changes its mode and owner and keeps what is in it."""
    layer = Layer().directory("d", mode=0o700).file("d/f").directory("d", mode=0o2711, uid=4, mtime_s=77)
    await target.apply(layer.file("d/g", uid=1, gid=2).directory("d/s"))
    found = (target.path / "d").stat()
    assert (found.st_mode & 0o7777, found.st_uid, int(found.st_mtime)) == (0o2711, 4, 77)
    assert (target.path / "d/f").exists() and (target.path / "d/g").stat().st_gid == 2
    assert (target.path / "d/s").stat().st_mode & 0o7777 == 0o755


async def test_file_through_a_link_of_the_layer_lands_inside(target: Target) -> None:
    """A link of the same layer is followed as in a container: its absolute target is below the root."""
    layer = Layer().directory("usr/bin").symlink("bin", "/usr/bin").file("bin/sh", b"x").symlink("new", "/made/up")
    applied = await target.apply(layer.file("new/f"))
    assert (target.path / "usr/bin/sh").read_bytes() == b"x" and (target.path / "made/up/f").exists()
    assert applied.implied == (b"made", b"made/up", b"usr")


async def test_32_bit_programs_are_noticed(target: Target) -> None:
    """A program for a 32-bit processor is noticed by its header, so that the system call filter lets it through."""
    assert not (await target.apply(Layer().file("a", b"\x7fELF\x02" + bytes(60)))).elf_32
    assert (await target.apply(Layer().file("b", b"\x7fELF\x01" + bytes(60)))).elf_32


def link(name: str, target: str) -> tarfile.TarInfo:
    """Return the header of a hard link."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.LNKTYPE, target
    return entry


def escapes() -> dict[str, Callable[[Path], Layer]]:
    """Return archives that try to get out; each is given the path of the canary's directory."""
    return {
        "parent directories": lambda out: Layer().file("../" * 30 + f"{out}/canary", b"dead"),
        "absolute path": lambda out: Layer().file(f"{out}/canary", b"dead", mtime_s=9),
        "parents in the middle": lambda out: Layer().directory("a").file("a/../../../outside/canary", b"dead"),
        "absolute link, then file": lambda out: Layer().symlink("l", str(out)).file("l/canary", b"dead"),
        "relative link up, then file": lambda out: (
            Layer().symlink("l", "../../../../outside").file("l/canary", b"dead")
        ),
        "chain of links": lambda out: (
            Layer().symlink("a", "..").symlink("b", "a/../..").file("b/outside/canary", b"dead")
        ),
        "link replaced": lambda out: Layer().symlink("l", f"{out}/canary").file("l", b"dead"),
        "link as directory": lambda out: (
            Layer().symlink("l", str(out)).directory("l", mode=0o777).file("l/canary", b"dead")
        ),
        "link with a slash": lambda out: Layer().symlink("l", f"{out}/").file("l/new", b"dead"),
        "link to itself and up": lambda out: (
            Layer().symlink("d", ".").symlink("d/d/l", "../../..").file("l/x", b"dead")
        ),
        "whiteout outside": lambda out: Layer().file("../../../outside/.wh.canary"),
        "whiteout through a link": lambda out: Layer().symlink("l", str(out)).whiteout("l/canary"),
        "opaque through a link": lambda out: Layer().symlink("l", str(out)).opaque("l"),
        "mode through a hard link to a link": lambda out: Layer().symlink("l", f"{out}/canary").raw(link("h", "l")),
        "long name": lambda out: Layer().file("../" * 300 + "outside/canary", b"dead"),
    }


@pytest.mark.parametrize("case", escapes())
async def test_nothing_outside_the_target_changes(target: Target, case: str) -> None:
    """Whatever an archive names or links to, it ends inside; the file outside keeps content, mode, times and links."""
    await target.apply(escapes()[case](target.outside))


@pytest.mark.parametrize(
    "target_name", ["../../../outside/canary", "/etc/passwd", "missing", "d", "", "s/../../canary", "h"]
)
async def test_hard_link_to_nothing_in_the_layer_is_refused(target: Target, target_name: str) -> None:
    """A second name for something that isn't in the layer, or for a directory, is refused."""
    layer = Layer().directory("d").symlink("s", str(target.outside)).raw(link("h", target_name))
    with pytest.raises(InvalidArgument, match="tar entry 'h'"):
        await target.apply(layer)


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh.."])
async def test_whiteout_of_no_name_is_refused(target: Target, name: str) -> None:
    """A whiteout of the directory itself or of its parent is refused."""
    with pytest.raises(InvalidArgument, match="whiteout name"):
        await target.apply(Layer().file(name))


@pytest.mark.parametrize("layer", [Layer().file("f").file("f/x"), Layer().symlink("l", "l").file("l/x")])
async def test_non_directory_used_as_directory_is_refused(target: Target, layer: Layer) -> None:
    """What is no directory is never replaced by one because something claims to lie in it."""
    with pytest.raises(InvalidArgument, match=r"not a directory|symbolic links"):
        await target.apply(layer)


async def test_name_longer_than_the_file_system_takes_is_refused(target: Target) -> None:
    """The kernel's refusal is the archive's fault and said to be so."""
    with pytest.raises(InvalidArgument, match="File name too long"):
        await target.apply(Layer().file("n" * 300))


async def test_cut_blob_is_data_loss(target: Target) -> None:
    """A layer whose compressed stream ends early is damaged, not hostile."""
    whole = compress(Layer().file("f", os.urandom(100_000)).tar(), "gzip")
    with pytest.raises(DataLoss, match="ends early"):
        await target.apply_blob(whole[:-2000])


@pytest.mark.parametrize("limits", [{"most_entries": 3}, {"most_bytes": 5000}])
async def test_layer_beyond_a_limit_is_refused(target: Target, limits: dict[str, int]) -> None:
    """Too many entries or bytes end the work."""
    layer = Layer()
    for i in range(10):
        layer.file(f"f{i}", b"x" * 1000)
    with pytest.raises(ResourceExhausted) as raised:
        await target.apply(layer, limits=Limits(**limits))
    assert raised.value.phase == "unpack layer" and raised.value.next_step


async def test_reserve_of_free_space_is_kept(target: Target) -> None:
    """Unpacking stops while there is still the reserve left."""
    with pytest.raises(ResourceExhausted, match="stay free") as raised:
        await target.apply(Layer().file("f", bytes(20 << 20)), limits=Limits(reserve_bytes=1 << 60))
    assert "make room" in raised.value.next_step


async def test_full_disk_is_said_to_be_full(tmp_path: Path, small_disk: Callable[[int], Path]) -> None:
    """A disk that fills up while unpacking is named, with what to do."""
    target = Target(small_disk(8))
    layer = Layer().file("f", os.urandom(16 << 20))
    (tmp_path / "root").mkdir()
    blob = tmp_path / "blob"
    blob.write_bytes(layer.tar())
    fd = os.open(blob, os.O_RDONLY)
    try:
        with pytest.raises(ResourceExhausted, match="no space left on the file system") as raised:
            mounts = (Mount("bind", str(target.path), "", ("rw",)),)
            await WorkerApplier(target.path).apply("layer", fd, mounts, Limits(), lambda done: None)
    finally:
        os.close(fd)
    assert raised.value.phase == "unpack layer" and raised.value.cause == "No space left on device"


def workers() -> list[int]:
    """Return the process ids of this process's unpack workers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if (
                b"hythe_bundle.worker" in path.read_bytes()
                and f"PPid:\t{os.getpid()}\n" in (path.parent / "status").read_text()
            ):
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


class Stalled:
    """A worker that waits for the rest of its blob."""

    def __init__(self, target: Target) -> None:
        self._read, self._write = os.pipe()
        os.write(self._write, Layer().file("first").tar()[:1024])
        mounts = (Mount("bind", str(target.path), "", ("rw",)),)
        apply = WorkerApplier(target.path).apply("layer", self._read, mounts, Limits(), lambda done: None)
        self.task = asyncio.create_task(apply)

    async def worker(self) -> int:
        """Return its process id once it runs."""

        async def find() -> list[int]:
            return workers()

        return (await eventually_async(find))[0]

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._read)
        os.close(self._write)


async def test_killed_worker_is_told_from_a_bad_layer(target: Target) -> None:
    """Who kills the worker, the kernel say, gets an error that says so and what to do."""
    stalled = Stalled(target)
    os.kill(await stalled.worker(), signal.SIGKILL)
    with pytest.raises(Internal, match="killed by SIGKILL") as raised:
        await stalled.task
    stalled.close()
    assert raised.value.next_step


async def test_cancelled_unpacking_leaves_no_process(target: Target) -> None:
    """Nobody waiting means nobody working."""
    stalled = Stalled(target)
    await stalled.worker()
    stalled.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stalled.task
    stalled.close()
    assert workers() == []


def status_of(pid: int) -> dict[str, str]:
    """Return what the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


async def test_worker_gives_up_what_it_does_not_need(target: Target) -> None:
    """While it reads a stranger's bytes, the worker is chrooted and has seven capabilities, none to be gained."""
    kept = sum(1 << number for number in (0, 1, 3, 4, 21, 27, 31))
    stalled = Stalled(target)
    pid = await stalled.worker()

    async def confined() -> bool:
        return int(status_of(pid)["CapEff"], 16) == kept

    await eventually_async(confined)
    status = status_of(pid)
    assert os.readlink(f"/proc/{pid}/root") == str(target.path)  # noqa: PTH115 (a link of the kernel's own)
    assert int(status["CapPrm"], 16) == kept and int(status["CapBnd"], 16) == int(status["CapInh"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]  # noqa: PTH208 (names alone)
    stalled.task.cancel()
    with pytest.raises((asyncio.CancelledError, HytheError)):
        await stalled.task
    stalled.close()
