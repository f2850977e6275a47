"""Bundles as directories and archives: made whole or not at all, exact copies, nothing believed of what strangers wrote."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import stat
import tarfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal

import pytest

from hythe.digest import Digest, digest_of
from hythe.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    HytheError,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from hythe.holding import Holder
from hythe.linux import mountinfo
from hythe.ports.snapshots import Mount
from hythe_bundle.adapters.carrying import CarryingWorker
from hythe_bundle.carrying import Compression, Packing, Sight
from hythe_bundle.wishes import Wishes
from hythe_bundle.worker.copying import GONE, Manner
from scripts.lab.images import Image, ImageBuilder, Layer
from tests.fakes.leases import MemoryLeases, a_hold
from tests.fixtures.bundles import ORIGIN, mounted
from tests.fixtures.carried import CONFIG, CarriedRig, foreign, tree
from tests.fixtures.waiting import until


@pytest.fixture
def image() -> Image:
    """An image of two layers with every kind of file."""
    lower = (
        Layer()
        .directory("tmp", mode=0o1777, mtime_s=11)
        .directory("gone")
        .file("gone/file", b"x")
        .file("bin/tool", b"program" * 9000, mode=0o4755, uid=5, gid=6, mtime_s=12, xattrs={"user.note": "kept"})
        .hardlink("bin/other-name", "bin/tool")
        .symlink("link", "/etc/passwd", uid=7)
        .fifo("pipe", mode=0o640)
        .device("null", "char", 1, 3, mode=0o666)
    )
    upper = (
        Layer().whiteout("gone").directory("tmp/deep/er", mode=0o711, gid=9, mtime_s=13).file("new", b"", mode=0o400)
    )
    return ImageBuilder().layer(lower).layer(upper).config(Cmd=["sh"], StopSignal="SIGQUIT").build()


async def test_created_bundle_has_the_whole_file_system_of_its_image(carried: CarriedRig, image: Image) -> None:
    """A created bundle's rootfs is what a container of the image would see: owners, modes, times, links, attributes."""
    directory = await carried.create(image, "made")
    unpacked = await carried.unpack(image)
    with mounted(await carried.snapshots.look(unpacked.image.chain_id), carried.root / "seen") as seen:
        assert tree(directory / "rootfs") == tree(seen)
    assert "gone" not in tree(directory / "rootfs")
    assert carried.left() == []


async def test_created_bundle_names_no_path_of_hythe(carried: CarriedRig, image: Image) -> None:
    """A created bundle can be carried elsewhere: no path of Hythe's own, no cgroup, the root file system beside it."""
    directory = await carried.create(image, "made", Wishes(args=("sh", "-c", "true"), env=("A=b",)))
    text = (directory / "config.json").read_text()
    config = json.loads(text)
    assert str(carried.root) not in text + (directory / "hythe.json").read_text()
    assert config["root"]["path"] == "rootfs" and "cgroupsPath" not in config["linux"]
    assert config["process"]["args"] == ["sh", "-c", "true"] and "A=b" in config["process"]["env"]
    assert config["annotations"]["org.opencontainers.image.stopSignal"] == "SIGQUIT"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in directory.iterdir()) == ["config.json", "hythe.json", "rootfs"]


async def test_image_without_layers_becomes_a_bundle_with_an_empty_root(carried: CarriedRig) -> None:
    """An image that has nothing in it still makes a bundle."""
    directory = await carried.create(ImageBuilder().build(), "bare")
    assert list((directory / "rootfs").iterdir()) == []


@pytest.mark.parametrize("kind", ["full directory", "file", "link"])
async def test_taken_place_is_refused_and_stays_as_it_is(carried: CarriedRig, image: Image, kind: str) -> None:
    """Nothing that is there is replaced by a bundle, and nothing is left of the attempt."""
    place = carried.ground / "taken"
    if kind == "full directory":
        place.mkdir()
        (place / "mine").write_text("mine")
    elif kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to("/nowhere")
    with pytest.raises(AlreadyExists):
        await carried.create(image, "taken")
    assert [path.name for path in carried.ground.iterdir()] == ["taken"] and carried.ledger.unfinished() == []


async def test_empty_directory_becomes_the_bundle(carried: CarriedRig, image: Image) -> None:
    """A directory that was made for the bundle beforehand is taken."""
    (carried.ground / "made").mkdir()
    assert (await carried.create(image, "made") / "config.json").exists()


async def test_place_within_hythes_own_directory_is_refused(carried: CarriedRig, image: Image) -> None:
    """Nobody makes a bundle among Hythe's own files."""
    with pytest.raises(InvalidArgument, match="own directory"):
        target = carried.blobs.add(image)
        place = str(carried.root / "snapshots/mine")
        await carried.directories.create(ORIGIN, target, Wishes(), place, carried.reports.append, carried.told)


@pytest.mark.parametrize("work", ["create", "unpack", "pack", "store"])
async def test_cancelled_work_leaves_nothing(carried: CarriedRig, image: Image, work: str) -> None:
    """Work that is given up in the middle leaves neither a directory nor an archive nor a process."""
    directory = await carried.create(image, "made")
    archive = await carried.pack(directory, "made.tar.gz")
    before = sorted(carried.ground.iterdir())
    begun = asyncio.Event()

    def told(done: int, total: int) -> None:
        begun.set()

    carried.told = told  # type: ignore[method-assign]  # what the rig hands on
    works: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "create": lambda: carried.create(image, "other"),
        "unpack": lambda: carried.unpack_archive(archive, "other"),
        "pack": lambda: carried.pack(directory, "other.tar"),
        "store": lambda: carried.packer.store("default", "", str(directory), "registry.test/a:1", None, a_hold(), told),
    }
    task = asyncio.create_task(works[work]())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(carried.ground.iterdir()) == before and carried.left() == []


async def test_what_a_crash_left_unfinished_goes_at_the_next_start(carried: CarriedRig, image: Image) -> None:
    """What was being made when the service was killed is removed by the next start, and nothing else."""
    directory = await carried.create(image, "made")
    partial = carried.ground / ".other.hythe-unfinished-0123"
    await carried.ledger.begin(str(partial), str(carried.ground / "other"))
    (partial / "rootfs/a").mkdir(parents=True)
    await carried.making.recover()
    assert list(carried.ground.iterdir()) == [directory] and carried.left() == []


# archives


def points_below(directory: Path) -> list[str]:
    """Return the mount points below a directory; other directories are other people's."""
    return [mount.point for mount in mountinfo.mounts() if mount.point.startswith(f"{directory}/")]


def odd(directory: Path) -> Path:
    """Put what archives have trouble with into a bundle's root file system."""
    root = directory / "rootfs"
    (root / ".wh.not-a-whiteout").write_text("kept")
    (root / "sub").mkdir(mode=0o2750)
    (root / "sub/.wh..wh..opq").write_text("kept, too")
    (root / "sub/a").write_bytes(os.urandom(3000))
    os.link(root / "sub/a", root / "sub/b")
    os.setxattr(root / "sub/a", "user.long", b"v" * 900)
    (root / os.fsdecode(b"latin-\xe9")).write_text("bytes")
    (root / ("long" * 60)).mkdir()
    (root / ("long" * 60) / ("name" * 60)).symlink_to("/" + "target" * 30)
    os.mknod(root / "device", 0o20600, os.makedev(1, 3))
    os.chown(root / "sub", 70000, 3_000_000_000)
    with (root / "holes").open("wb") as file:
        file.truncate(3 << 20)
    os.utime(root / "holes", ns=(0, 1_234_567_890_123_456_789))
    os.utime(root, ns=(0, 99_000_000_001))
    root.chmod(0o1751)
    return directory


async def test_packed_bundle_comes_back_the_same(carried: CarriedRig) -> None:
    """pack and unpack give the same tree, whatever its names mean elsewhere, and the same config.json byte for byte."""
    directory = odd(foreign(carried.ground / "one"))
    archive = await carried.pack(directory, "one.tar.gz")
    made = await carried.unpack_archive(archive, "two")
    assert tree(carried.ground / "two/rootfs") == tree(directory / "rootfs")
    assert (carried.ground / "two/config.json").read_bytes() == (directory / "config.json").read_bytes()
    assert not (carried.ground / "two/hythe.json").exists()
    assert made.args == ("sh",) and carried.left() == []


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
async def test_same_bundle_gives_the_same_archive(carried: CarriedRig, compression: Compression) -> None:
    """Packing twice gives the same bytes, in each kind of compression, and the digest that was told is theirs."""
    directory = odd(foreign(carried.ground / "one"))
    files = [carried.ground / "a", carried.ground / "b"]
    for file in files:
        packed = await carried.packer.pack("default", "", str(directory), str(file), compression, None, carried.told)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert packed.size_bytes == files[0].stat().st_size and packed.digest == digest_of(files[0].read_bytes())
    assert files[0].stat().st_mode & 0o777 == 0o600


async def test_source_date_epoch_bounds_all_times(carried: CarriedRig) -> None:
    """With SOURCE_DATE_EPOCH no time in the archive is later, and earlier ones stay."""
    directory = foreign(carried.ground / "one")
    (directory / "rootfs/new").write_text("")
    (directory / "rootfs/old").write_text("")
    os.utime(directory / "rootfs/old", (5, 5))
    with tarfile.open(await carried.pack(directory, "one.tar.gz", epoch_s=1000)) as archive:
        times = {member.name: member.mtime for member in archive}
    assert times["rootfs/new"] == 1000 and times["rootfs/old"] == 5 and max(times.values()) == 1000


async def test_socket_is_left_out_with_a_warning(carried: CarriedRig) -> None:
    """An archive holds no sockets; the user is told."""
    directory = foreign(carried.ground / "one")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(directory / "rootfs/s"))
        packed = await carried.packer.pack(
            "default", "", str(directory), str(carried.ground / "a"), "none", None, carried.told
        )
    assert packed.warnings == ("1 sockets were left out: an archive holds none",)


@pytest.mark.parametrize("work", ["pack", "copy"])
async def test_link_put_in_the_place_of_a_root_meanwhile_is_not_followed(carried: CarriedRig, work: str) -> None:
    """A directory's owner who puts a link where its root was looked at gets none of what root may read or write."""
    directory = foreign(carried.ground / "one")
    (carried.ground / "secret").mkdir()
    (carried.ground / "secret/file").write_text("root's")
    (directory / "rootfs").rename(carried.ground / "away")
    (directory / "rootfs").symlink_to(carried.ground / "secret")
    carrier = CarryingWorker(carried.root, 0)
    with (carried.ground / "archive").open("wb") as archive, pytest.raises(HytheError):
        if work == "pack":
            sight = Sight("one", directory=str(directory / "rootfs"))
            await carrier.pack(sight, {}, Packing("none"), archive.fileno(), lambda done: None)
        else:
            sight = Sight("one", directory=str(carried.ground / "away"))
            await carrier.copy(sight, directory / "rootfs", lambda done: None)
    assert (carried.ground / "archive").stat().st_size == 0


async def test_root_outside_of_a_bundle_is_not_packed(carried: CarriedRig) -> None:
    """Whoever packs a stranger's bundle, and perhaps sends it away, gives no directory of his own host away."""
    (carried.ground / "secret").mkdir()
    directory = foreign(carried.ground / "one", root={"path": str(carried.ground / "secret")})
    with pytest.raises(FailedPrecondition, match="outside"):
        await carried.pack(directory, "one.tar.gz")
    assert not (carried.ground / "one.tar.gz").exists() and carried.left() == []


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFLNK])
def test_what_stands_in_a_files_place_is_not_opened(tmp_path: Path, kind: int) -> None:
    """A device, a pipe or a link that a container put where a file was is told as gone, for to open one may do something."""
    if kind == stat.S_IFLNK:
        (tmp_path / "f").symlink_to("/dev/ptmx")
    else:
        os.mknod(
            tmp_path / "f", kind | 0o600, os.makedev(99, 99)
        )  # a device without driver: opening it fails otherwise
    directory = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match="another kind of file") as raised:
            Manner().open(directory, b"f")
    finally:
        os.close(directory)
    assert raised.value.errno in GONE


async def test_running_containers_bundle_is_packed_from_its_snapshot(carried: CarriedRig, image: Image) -> None:
    """A container's bundle is packed as its file system is now, without what belongs to this host, nothing mounted twice."""
    wanted = carried.request(carried.blobs.add(image), Wishes(args=("sh",)))
    bundle = await carried.bundles.prepare(wanted, carried.reports.append)
    with mounted(bundle.mounts, bundle.rootfs) as rootfs:
        (rootfs / "written").write_text("by the container")
        points = points_below(carried.root)
        packed = await carried.packer.pack(
            "default", wanted.id, "", str(carried.ground / "a.tar"), "none", None, carried.told
        )
        assert points_below(carried.root) == points
    await carried.unpack_archive(carried.ground / "a.tar", "b")
    assert (carried.ground / "b/rootfs/written").read_text() == "by the container"
    assert (carried.ground / "b/rootfs/bin/tool").stat().st_nlink == 2
    text = (carried.ground / "b/config.json").read_text()
    assert str(carried.root) not in text and "/etc/hosts" not in text and packed.warnings == ()
    assert json.loads((carried.ground / "b/hythe.json").read_text())["image"]["digest"] == str(wanted.image)
    await carried.bundles.release("default", wanted.id)


async def test_container_that_is_removed_while_it_is_packed_makes_no_archive(carried: CarriedRig, image: Image) -> None:
    """An archive of a container is whole, or there is none: its files may go while they are read."""
    wanted = carried.request(carried.blobs.add(image), Wishes(args=("sh",)))
    await carried.bundles.prepare(wanted, carried.reports.append)
    removing: list[asyncio.Task[None]] = []

    def told(done: int, total: int) -> None:
        removing.append(asyncio.get_running_loop().create_task(carried.bundles.release("default", wanted.id)))

    with pytest.raises(HytheError):
        await carried.packer.pack("default", wanted.id, "", str(carried.ground / "a.tar"), "none", None, told)
    await asyncio.gather(*removing)
    assert list(carried.ground.iterdir()) == [] and carried.ledger.unfinished() == []


def archive_of(*entries: tuple[str, bytes | str | None], mode: Literal["w", "w:gz"] = "w") -> bytes:
    """Return an archive: bytes make a file, text a symbolic link or, to one of the entries, a hard link, None a directory."""
    out, entry_names = io.BytesIO(), [name for name, _ in entries]
    with tarfile.open(fileobj=out, mode=mode, format=tarfile.PAX_FORMAT) as archive:
        for name, what in entries:
            entry = tarfile.TarInfo(name)
            if isinstance(what, bytes):
                entry.size = len(what)
                archive.addfile(entry, io.BytesIO(what))
                continue
            entry.type = (
                tarfile.DIRTYPE if what is None else tarfile.LNKTYPE if what in entry_names else tarfile.SYMTYPE
            )
            entry.linkname = what or ""
            archive.addfile(entry)
    return out.getvalue()


GOOD = json.dumps(CONFIG).encode()
HOSTILE = {
    "no config": archive_of(("rootfs", None)),
    "no root": archive_of(("config.json", GOOD)),
    "config is a link": archive_of(("config.json", "/etc/passwd"), ("rootfs", None)),
    "config is a directory": archive_of(("config.json", None), ("rootfs", None)),
    "config is no JSON": archive_of(("config.json", b"{"), ("rootfs", None)),
    "config is huge": archive_of(("config.json", b" " * (2 << 20)), ("rootfs", None)),
    "config has a second name": archive_of(("rootfs", None), ("rootfs/c", GOOD), ("config.json", "rootfs/c")),
    "record has a second name": archive_of(
        ("config.json", GOOD), ("rootfs", None), ("rootfs/r", b'{"format": 1}'), ("hythe.json", "rootfs/r")
    ),
    "root is a link": archive_of(("config.json", GOOD), ("rootfs", "/")),
    "root is a file": archive_of(("config.json", GOOD), ("rootfs", b"")),
    "root lies elsewhere": archive_of(
        ("config.json", json.dumps({**CONFIG, "root": {"path": "/"}}).encode()), ("rootfs", None)
    ),
    "more beside": archive_of(("config.json", GOOD), ("rootfs", None), ("etc", None)),
    "names lead out": archive_of(("config.json", GOOD), ("rootfs", None), ("../../canary", b"changed")),
    "link leads out": archive_of(
        ("config.json", GOOD), ("rootfs", None), ("rootfs/out", "../.."), ("rootfs/out/canary", b"changed")
    ),
    "record is no record": archive_of(("config.json", GOOD), ("rootfs", None), ("hythe.json", b"[]")),
    "record is of another format": archive_of(
        ("config.json", GOOD), ("rootfs", None), ("hythe.json", b'{"format": 99}')
    ),
    "nothing": b"",
    "no archive": b"this is no archive at all" * 100,
    "cut off": archive_of(("config.json", GOOD), ("rootfs/big", b"x" * 9000))[:6000],
    "damaged": archive_of(("config.json", GOOD), ("rootfs", None), mode="w:gz")[:-9],
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_hostile_archive_is_refused_and_nothing_is_left(carried: CarriedRig, case: str) -> None:
    """An archive that is no packed bundle, or tries to get out, makes no directory and changes nothing elsewhere."""
    canary = carried.ground / "canary"
    canary.write_text("untouched")
    os.utime(canary, (1, 1))
    archive = carried.ground / "archive"
    archive.write_bytes(HOSTILE[case])
    with pytest.raises((InvalidArgument, DataLoss, ResourceExhausted)):
        await carried.unpack_archive(archive, "out")
    assert canary.read_text() == "untouched" and canary.stat().st_mtime == 1
    assert sorted(path.name for path in carried.ground.iterdir()) == ["archive", "canary"]
    assert carried.ledger.unfinished() == []


async def test_archive_that_is_a_pipe_is_refused(carried: CarriedRig) -> None:
    """A pipe in place of the archive holds nobody up."""
    os.mkfifo(carried.ground / "pipe")
    with pytest.raises(InvalidArgument, match="no regular file"):
        await carried.unpack_archive(carried.ground / "pipe", "out")


# artifacts


async def test_stored_bundle_comes_back_the_same(carried: CarriedRig, image: Image) -> None:
    """A bundle put into content as an artifact makes the same directory again, and the same digest when stored again."""
    directory = await carried.create(image, "one")
    (directory / "rootfs").chmod(0o751)
    first = await carried.packer.store("default", "", str(directory), "registry.test/a:1", None, a_hold(), carried.told)
    again = await carried.packer.store("default", "", str(directory), "registry.test/b", None, a_hold(), carried.told)
    assert first.target == again.target and again.reference == "registry.test/b:latest"
    assert carried.store.names["default", first.reference] == first.target
    await carried.directories.fetch(
        ORIGIN, first.target.digest, str(carried.ground / "two"), carried.reports.append, carried.told
    )
    assert tree(carried.ground / "two/rootfs") == tree(directory / "rootfs")
    for name in ("config.json", "hythe.json"):
        assert (carried.ground / "two" / name).read_bytes() == (directory / name).read_bytes()


async def test_name_that_would_hide_another_in_a_layer_is_not_stored(carried: CarriedRig) -> None:
    """What other tools would read as a whiteout is refused in a registry's form, with a word on what holds it."""
    directory = odd(foreign(carried.ground / "one"))
    with pytest.raises(FailedPrecondition, match="packed file can hold it"):
        await carried.packer.store("default", "", str(directory), "registry.test/a:1", None, a_hold(), carried.told)
    assert carried.store.names == {} and carried.store.blobs == {} and carried.store.open == 0


async def test_failure_to_store_ends_the_packing(carried: CarriedRig, image: Image) -> None:
    """When content takes no more, the packer ends too, its error is content's, and nothing stays there."""
    directory = await carried.create(image, "one")
    carried.store.failures["write"] = ResourceExhausted("store bundle: full")
    with pytest.raises(ResourceExhausted, match="full"):
        await carried.packer.store("default", "", str(directory), "registry.test/a:1", None, a_hold(), carried.told)
    assert carried.store.blobs == {} and carried.store.open == 0


async def test_stored_bundle_is_held_until_it_has_its_name(carried: CarriedRig, image: Image) -> None:
    """Layer, config and manifest are each referred to before they are put into content; without metadata nothing is."""
    directory, leases = await carried.create(image, "one"), MemoryLeases()
    here: list[set[Digest]] = []
    leases.on_refer = lambda contents: here.append(
        {each.digest for each in contents} & carried.store.digests("default")
    )
    async with Holder(leases).hold("default", "store") as held:
        stored = await carried.packer.store("default", "", str(directory), "registry.test/a", None, held, carried.told)
        assert set(leases.held["default", "store"]) == carried.store.digests("default")
        assert stored.target.digest in leases.held["default", "store"]
    assert here == [set(), set(), set()]
    await until(lambda: not leases.held, what="no lease is left")
    carried.store.blobs.clear()
    leases.away = True
    with pytest.raises(Unavailable):
        async with Holder(leases).hold("default", "store") as held:
            await carried.packer.store("default", "", str(directory), "registry.test/b", None, held, carried.told)
    assert (carried.store.blobs, carried.store.open) == ({}, 0)


async def test_image_is_no_packed_bundle(carried: CarriedRig, image: Image) -> None:
    """Fetching an image as a bundle is refused with the command that makes a bundle of it."""
    with pytest.raises(InvalidArgument, match="no packed bundle") as caught:
        await carried.directories.fetch(
            ORIGIN, carried.blobs.add(image), str(carried.ground / "a"), carried.reports.append, carried.told
        )
    assert "bundle create" in caught.value.next_step and carried.left() == []


# directories that containers are run from


async def test_container_from_a_directory_is_run_as_its_config_says(carried: CarriedRig) -> None:
    """All that DIR's config.json says stays, but for cgroup, terminal and what is relative to DIR."""
    hook = {"path": "hook", "args": ["hook"]}
    mounts = [{"destination": "/data", "type": "none", "source": "data", "options": ["rbind", "ro"]}]
    process = {
        **CONFIG["process"],
        "terminal": True,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 2**64 - 1}],
    }
    directory = foreign(
        carried.ground / "one", mounts=mounts, hooks={"poststop": [hook]}, process=process, hostname="h"
    )
    wanted = carried.from_directory(directory)
    bundle = await carried.bundles.prepare(wanted, carried.reports.append)
    config = json.loads((bundle.path / "config.json").read_text())
    assert bundle.mounts == () and bundle.args == ("sh",) and bundle.stop_signal == "SIGTERM"
    assert config["root"]["path"] == str(directory / "rootfs") and config["hostname"] == "h"
    assert config["mounts"] == [{**mounts[0], "source": str(directory / "data")}]
    assert config["hooks"] == {"poststop": [{**hook, "path": str(directory / "hook")}]}
    assert config["process"] == {**process, "terminal": False}
    assert config["linux"] == {**CONFIG["linux"], "cgroupsPath": f"/{wanted.cgroup_path}"}
    assert config["annotations"]["io.hythe.container"] == wanted.id
    assert await carried.bundles.prepare(wanted, carried.reports.append) == bundle
    await carried.bundles.recover()
    before = tree(directory)
    await carried.bundles.release("default", wanted.id)
    assert not bundle.path.exists() and tree(directory) == before


async def test_second_container_that_may_write_is_refused(carried: CarriedRig) -> None:
    """Two containers share a directory's root file system only if neither may write to it."""
    writable = foreign(carried.ground / "writable")
    first = carried.from_directory(writable)
    await carried.bundles.prepare(first, carried.reports.append)
    with pytest.raises(FailedPrecondition, match=first.id[:12]):
        await carried.bundles.prepare(carried.from_directory(writable), carried.reports.append)
    await carried.bundles.release("default", first.id)
    await carried.bundles.prepare(carried.from_directory(writable), carried.reports.append)
    shared = foreign(carried.ground / "shared", root={"path": "rootfs", "readonly": True})
    for _ in range(2):
        await carried.bundles.prepare(carried.from_directory(shared), carried.reports.append)


def _pipe(directory: Path) -> None:
    (directory / "config.json").unlink()
    os.mkfifo(directory / "config.json")


def _device(directory: Path) -> None:
    (directory / "config.json").unlink()
    os.mknod(directory / "config.json", 0o20600, os.makedev(1, 5))


def _sparse(directory: Path) -> None:
    os.truncate(directory / "config.json", 10_000_000_000)


def _link(directory: Path) -> None:
    (directory / "config.json").rename(directory / "real.json")
    (directory / "config.json").symlink_to("real.json")


def _root_link(directory: Path) -> None:
    (directory / "rootfs").rename(directory / "real")
    (directory / "rootfs").symlink_to("real")


def _root_of_a_process(directory: Path) -> None:
    config = {**CONFIG, "root": {"path": "/proc/1/root/etc"}}
    (directory / "config.json").write_text(json.dumps(config))


def _without_args(directory: Path) -> None:
    process = {key: value for key, value in CONFIG["process"].items() if key != "args"}
    (directory / "config.json").write_text(json.dumps({**CONFIG, "process": process}))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), "no config.json"),
    "pipe": (_pipe, "no regular file"),
    "sparse": (_sparse, "larger than"),
    "link": (_link, "symbolic link"),
    "device": (_device, "no regular"),
    "no root": (lambda d: (d / "rootfs").rmdir(), "is no directory"),
    "root is a link": (_root_link, "links lead"),
    "root of a process": (_root_of_a_process, "root file system"),
    "no args": (_without_args, "nothing to run"),
    "empty": (lambda d: (d / "config.json").write_text(""), "not JSON"),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_directory_is_refused_and_nothing_is_left(carried: CarriedRig, case: str) -> None:
    """A directory that can't be run is refused at once with the reason, and leaves no bundle and no snapshot."""
    directory = foreign(carried.ground / "bad")
    spoil, reason = BAD[case]
    spoil(directory)
    wanted = carried.from_directory(directory)
    async with asyncio.timeout(5):
        with pytest.raises(HytheError, match=reason):
            await carried.bundles.prepare(wanted, carried.reports.append)
    assert list((carried.root / "bundles").glob("*/*")) == [] and carried.layer_directories() == set()


async def test_only_what_hythe_made_is_removed(carried: CarriedRig, image: Image) -> None:
    """`bundle rm` removes what Hythe made, once no container is made from it; never what others made."""
    made, others = await carried.create(image, "made"), foreign(carried.ground / "others")
    wanted = carried.from_directory(made)
    await carried.bundles.prepare(wanted, carried.reports.append)
    with pytest.raises(FailedPrecondition, match="is made from it"):
        await carried.known.remove("default", str(made))
    await carried.bundles.release("default", wanted.id)
    (made / "mounted").mkdir()
    with (
        mounted((Mount("tmpfs", "tmpfs", "", ("rw",)),), made / "mounted"),
        pytest.raises(FailedPrecondition, match="mounted"),
    ):
        await carried.known.remove("default", str(made))
    with pytest.raises(NotFound):
        await carried.known.remove("other", str(carried.ground / "nothing"))
    with pytest.raises(FailedPrecondition, match="did not make it"):
        await carried.known.remove("default", str(others))
    await carried.known.remove("default", str(made))
    assert list(carried.ground.iterdir()) == [others] and carried.left() == []


async def test_directory_in_place_of_the_one_that_was_made_is_not_removed(carried: CarriedRig, image: Image) -> None:
    """A directory that somebody put where Hythe's was is not Hythe's."""
    made = await carried.create(image, "made")
    made.rename(carried.ground / "moved")
    (listed,) = await carried.known.list("default")
    assert listed.missing
    made.mkdir()
    with pytest.raises(FailedPrecondition, match="another directory"):
        await carried.known.remove("default", str(made))
    made.rmdir()
    await carried.known.remove("default", str(made))
    assert await carried.known.list("default") == []


async def test_list_shows_bundles_of_containers_and_created_ones(carried: CarriedRig, image: Image) -> None:
    """`bundle ls` tells each bundle's kind, image and containers."""
    made = await carried.create(image, "made")
    wanted = carried.from_directory(made)
    await carried.bundles.prepare(wanted, carried.reports.append)
    rows = {row.kind: row for row in await carried.known.list("default")}
    assert rows["created"].path == str(made) and rows["created"].containers == (wanted.id[:12],)
    assert rows["created"].image == ORIGIN.reference and Digest(rows["created"].digest.removeprefix("sha256:"))
    assert rows["container"].image == f"bundle:{made}"
    assert await carried.known.list("other") == []
    shown = await carried.known.inspect("default", wanted.id, "")
    assert shown.kind == "container" and shown.root == str(made / "rootfs") and shown.mounts == ()
    assert (await carried.known.inspect("default", "", str(made))).kind == "created"
