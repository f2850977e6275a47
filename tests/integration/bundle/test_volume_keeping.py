"""Volumes of a host: begun with what the image has, shared, kept, refused, and gone with the container they belong to."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
from functools import partial
from pathlib import Path

import pytest

from hythe import tracing
from hythe.errors import FailedPrecondition, HytheError, InvalidArgument, NotFound, ResourceExhausted
from hythe.identifiers import new_id
from hythe.ports.snapshots import Mount
from hythe_bundle.adapters import host
from hythe_bundle.volume_names import Volume
from hythe_bundle.wishes import IdRange, MountWish, NamespaceWishes, Wishes
from scripts.lab.images import ImageBuilder, Layer
from tests.fakes.registry import FakeRegistry
from tests.fixtures.bundles import Rig, mounted
from tests.fixtures.secured_bus import SecuredBus
from tests.fixtures.waiting import eventually, eventually_async
from tests.integration.bundle.test_service import (
    bundle,
    distribution,
    has_ended,
    prepare,
    request,
    secured,
)
from tests.integration.distribution.processes import ServiceProcess, connect

__all__ = ["bundle", "distribution", "secured"]

DATA = MountWish("volume", "/data", "data")
PLAIN = NamespaceWishes()
OWN = MountWish("volume", "/own")


class Site:
    """A rig with an unpacked image, and shorter ways to ask it for containers."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    @property
    def root(self) -> Path:
        """Where the volumes of the namespace lie."""
        return self.rig.root / "volumes" / "default"

    async def container(
        self,
        image: ImageBuilder,
        *wishes: MountWish,
        container_id: str = "",
        namespaces: NamespaceWishes = PLAIN,
    ) -> str:
        """Prepare a bundle with mounts of an image, and return the container's id."""
        made = image.build()
        wanted = self.rig.request(
            self.rig.blobs.add(made), Wishes(args=("sh",), mounts=wishes, namespaces=namespaces), container_id
        )
        await self.rig.bundles.prepare(wanted, self.rig.reports.append)
        return wanted.id

    async def release(self, *containers: str) -> None:
        """Release bundles, and wait until what goes with them has gone."""
        for container in containers:
            await self.rig.bundles.release("default", container)
        await self.rig.volumes.close()

    async def names(self) -> list[str]:
        """Return the names of the volumes that are known, which are those on disk once removals have ended."""
        await self.rig.volumes.close()
        known = [volume.name for volume in self.rig.volumes.all_of("default")]
        on_disk = sorted(path.name for path in self.root.iterdir()) if self.root.is_dir() else []
        assert known == on_disk
        return known

    def data(self, name: str = "data") -> Path:
        """Return where the data of a volume lies."""
        return self.root / name / "_data"


@pytest.fixture
def site(rig: Rig) -> Site:
    """A bundle service on a fresh directory."""
    return Site(rig)


def image(*layers: Layer, **config: object) -> ImageBuilder:
    """Return an image of these layers."""
    builder = ImageBuilder().config(Cmd=["sh"], **config)
    for layer in layers or (Layer().file("bin/sh"),):
        builder = builder.layer(layer)
    return builder


def facts(top: Path) -> dict[str, tuple[object, ...]]:
    """Return what is known of everything below `top`, and of itself."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (top, *sorted(top.rglob("*"))):
        known = path.lstat()
        kind = stat.S_IFMT(known.st_mode)
        content: object = None
        if kind == stat.S_IFREG:
            content = path.read_bytes()
        elif kind == stat.S_IFLNK:
            content = str(path.readlink())
        xattrs = {name: os.getxattr(path, name) for name in os.listxattr(path)} if kind != stat.S_IFLNK else {}
        mode = stat.filemode(known.st_mode)
        found[str(path.relative_to(top))] = (mode, known.st_uid, known.st_gid, int(known.st_mtime), content, xattrs)
    return found


async def test_new_volume_begins_with_what_the_image_has(site: Site) -> None:
    """Owner, mode, time, links, devices, pipes and attributes are the image's, across its layers, the directory's own too."""
    lower = (
        Layer()
        .directory("srv/data", mode=0o1770, uid=7, gid=8, mtime_s=1000, xattrs={"user.place": "top"})
        .file("srv/data/a", b"text", mode=0o4755, uid=1, gid=2, mtime_s=2000, xattrs={"user.kind": "x"})
        .file("srv/data/one", b"1")
        .hardlink("srv/data/two", "srv/data/one")
        .file("srv/data/gone")
        .directory("srv/data/deep", mode=0o700, mtime_s=3000)
        .file("srv/data/deep/c", os.urandom(1 << 20), mtime_s=4000)
        .directory("srv/data/hidden")
        .file("srv/data/hidden/old")
        .file("srv/data/big", b"x" + bytes(1 << 20) + b"y")
        .fifo("srv/data/pipe")
        .device("srv/data/null", "char", 1, 3, mode=0o666)
    )
    upper = (
        Layer()
        .whiteout("srv/data/gone")
        .symlink("srv/data/up", "../../../etc/shadow", uid=5, gid=6)
        .directory("srv/data/hidden", mtime_s=5000)
        .opaque("srv/data/hidden")
        .file("srv/data/hidden/new", mtime_s=6000)
        .directory("srv/data", mode=0o1770, uid=7, gid=8, mtime_s=7000, xattrs={"user.place": "top"})
    )
    await site.container(image(lower, upper), MountWish("volume", "/srv/data", "data"))
    found = facts(site.data())
    assert set(found) == {
        *(".", "a", "one", "two", "deep", "deep/c", "hidden", "hidden/new", "big", "pipe", "null", "up"),
    }
    assert found["."] == ("drwxrwx--T", 7, 8, 7000, None, {"user.place": b"top"})
    assert found["a"] == ("-rwsr-xr-x", 1, 2, 2000, b"text", {"user.kind": b"x"})
    assert (site.data() / "one").stat().st_ino == (site.data() / "two").stat().st_ino
    assert found["deep"][:4] == ("drwx------", 0, 0, 3000) and found["deep/c"][3] == 4000
    assert found["up"][:3] == ("lrwxrwxrwx", 5, 6) and found["up"][4] == "../../../etc/shadow"
    assert found["pipe"][0] == "prw-------" and found["null"][0] == "crw-rw-rw-"
    assert found["big"][4] == b"x" + bytes(1 << 20) + b"y"
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (site.root.parent, site.root, site.data().parent)]
    assert modes == [0o700, 0o711, 0o711]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/outside", set()),
        ("/up", set()),
        ("/way/etc", {"inside"}),
        ("/link", {"inside"}),
        ("/nothing/here", set()),
        ("/dangling", set()),
    ],
)
async def test_links_of_an_image_never_lead_out_of_it(
    site: Site, tmp_path: Path, layers: int, target: str, expected: set[str]
) -> None:
    """A target that is or passes a link means what it means in a container; nothing of the host is ever copied."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("x")
    hostile = (
        Layer()
        .symlink("outside", str(tmp_path / "secret"))
        .symlink("up", "../../../../../../.." + str(tmp_path / "secret"))
        .symlink("dangling", "nowhere")
        .symlink("link", "/../../real/etc")
        .symlink("way", "real")
        .directory("real/etc")
        .file("real/etc/inside", b"1")
    )
    more = [Layer().file(f"more{number}") for number in range(layers - 1)]
    await site.container(image(hostile, *more), MountWish("volume", target, "data"))
    assert {path.name for path in site.data().iterdir()} == expected


@pytest.mark.parametrize("target", ["/file", "/file/below", "/pipe", "/loop"])
async def test_volume_over_no_directory_is_refused(site: Site, target: str) -> None:
    """A volume can't begin with a file, a pipe or a link to itself; nothing is left of it."""
    odd = Layer().file("file").fifo("pipe").symlink("loop", "loop")
    with pytest.raises(InvalidArgument, match=target):
        await site.container(image(odd), MountWish("volume", target, "data"))
    assert await site.names() == []


async def test_volume_with_files_is_left_as_it_is(site: Site) -> None:
    """What a container wrote stays, whatever the image has; an empty volume is filled, unless that is not wanted."""
    full = image(Layer().file("data/a", b"1"))
    first = await site.container(full, MountWish("volume", "/data", "data", no_copy=True))
    assert facts(site.data()).keys() == {"."}
    await site.release(first)
    second = await site.container(full, DATA)
    assert facts(site.data()).keys() == {".", "a"}
    await site.release(second)
    (site.data() / "a").write_text("mine")
    await site.container(image(Layer().file("data/b")), DATA)
    assert facts(site.data()).keys() == {".", "a"} and (site.data() / "a").read_text() == "mine"


async def test_empty_volume_keeps_its_owner_where_the_image_has_nothing(site: Site) -> None:
    """A directory that somebody was given stays his, though nothing is in it yet."""
    await site.release(await site.container(image(), DATA))
    os.chown(site.data(), 7, 8)
    await site.container(image(), DATA)
    assert facts(site.data())["."][:3] == ("drwxr-xr-x", 7, 8)


async def test_volume_of_a_container_with_users_of_its_own_belongs_to_them(site: Site) -> None:
    """The host's ids of what is copied are those that the image's are mapped to; an empty volume is the container's root's."""
    full = image(
        Layer().directory("data", uid=7, gid=8).file("data/a", uid=0, gid=9).symlink("data/b", "a", uid=70_000)
    )
    shared = NamespaceWishes(user_ids=(IdRange(0, 100_000, 65_536),), group_ids=(IdRange(0, 200_000, 65_536),))
    await site.container(full, DATA, MountWish("volume", "/none", "empty"), namespaces=shared)
    found = facts(site.data())
    assert [found[name][1:3] for name in (".", "a", "b")] == [(100_007, 200_008), (100_000, 200_009), (70_000, 200_000)]
    assert facts(site.data("empty"))["."][1:3] == (100_000, 200_000)


async def test_empty_volume_that_another_container_uses_is_left_alone(site: Site) -> None:
    """Nothing is put under the hands of a container that has the volume already."""
    await site.container(image(), DATA)
    await site.container(image(Layer().file("data/a")), DATA)
    assert facts(site.data()).keys() == {"."}


async def test_volume_wanted_by_many_at_once_is_made_once(site: Site) -> None:
    """Eight containers that start together share one volume with one copy of the image's files."""
    full = image(Layer().directory("data", mtime_s=1).file("data/a", os.urandom(1 << 20)))
    await site.container(full)
    containers = await asyncio.gather(*(site.container(full, DATA) for _ in range(8)))
    assert await site.names() == ["data"] and facts(site.data()).keys() == {".", "a"}
    (volume,) = site.rig.volumes.all_of("default")
    assert site.rig.volumes.users(volume) == sorted(containers)


async def test_request_that_comes_several_times_has_its_volumes_once(site: Site) -> None:
    """A repeated request, at the same time or later, finds the volumes that it made."""
    declared = image(Layer().file("own/x"), Volumes={"/own": {}})
    await site.container(declared)
    container, before = new_id(), await site.names()
    again = [site.container(declared, DATA, container_id=container) for _ in range(4)]
    assert set(await asyncio.gather(*again)) == {container}
    assert await site.container(declared, DATA, container_id=container) == container
    assert len(await site.names()) == len(before) + 2
    await site.release(container)
    assert await site.names() == sorted([*before, "data"])


async def test_used_volume_is_not_removed(site: Site) -> None:
    """A volume goes when no container uses it, stopped ones included; removing it twice is not found."""
    containers = [await site.container(image(), DATA) for _ in range(2)]
    for container, words in ((containers[0], "2 containers use it"), (containers[1], f"{containers[1][:12]} uses it")):
        with pytest.raises(FailedPrecondition, match=words):
            await site.rig.volumes.remove("default", "data")
        await site.release(container)
    assert await site.names() == ["data"]
    with pytest.raises(NotFound):
        await site.rig.volumes.remove("other", "data")
    await site.rig.volumes.remove("default", "data")
    assert await site.names() == []
    with pytest.raises(NotFound):
        await site.rig.volumes.remove("default", "data")


async def test_removal_waits_a_moment_for_a_container_that_goes(site: Site) -> None:
    """`hythe run --rm` is answered before all is cleared away; `hythe volume rm` right after it succeeds."""
    site.rig.volumes._grace_s = 10
    container = await site.container(image(), DATA)
    waiting = asyncio.create_task(site.rig.volumes.remove("default", "data"))
    await asyncio.sleep(0)
    await site.release(container)
    await waiting
    assert await site.names() == []


async def test_volumes_of_a_container_go_with_it(site: Site) -> None:
    """`-v /dst` and the image's VOLUME make volumes of the container's own; a named one at the same place wins and stays."""
    declared = image(Layer().file("var/lib/db/x"), Volumes={"/var/lib/db/": {}, "/data": {}, "//cache/./a": {}})
    wishes = (DATA, OWN, MountWish("tmpfs", "/cache/a"))
    containers = [await site.container(declared, *wishes) for _ in range(2)]
    names = await site.names()
    assert len(names) == 5 and "data" in names
    anonymous = [volume for volume in site.rig.volumes.all_of("default") if volume.anonymous]
    assert sorted({volume.container for volume in anonymous}) == sorted(containers)
    assert sum((volume.data / "x").exists() for volume in anonymous) == 2
    await site.release(containers[0])
    assert len(await site.names()) == 3
    await site.release(containers[1], containers[1])
    assert await site.names() == ["data"]


async def test_own_volume_that_another_uses_goes_with_the_last(site: Site) -> None:
    """A second container may mount an anonymous volume by its name; then that one keeps it alive."""
    first = await site.container(image(), OWN)
    (name,) = await site.names()
    second = await site.container(image(), MountWish("volume", "/theirs", name))
    await site.release(first)
    assert await site.names() == [name]
    await site.release(second)
    assert await site.names() == []


@pytest.mark.parametrize("path", ["/../../etc", "/", "relative", "/proc/x", "/a\0b", "/" + "x" * 5000])
async def test_hostile_volume_of_an_image_is_refused(site: Site, path: str) -> None:
    """What an image declares as a volume is a place in its own root and nothing else (CVE-2022-23648)."""
    with pytest.raises(InvalidArgument):
        await site.container(image(Layer().file("etc/a"), Volumes={path: {}}))
    assert await site.names() == []


async def test_image_with_very_many_volumes_is_refused(site: Site) -> None:
    """An image can't make a host create directories without end."""
    with pytest.raises(ResourceExhausted, match="512"):
        await site.container(image(Volumes={f"/v{number}": {} for number in range(600)}))
    assert await site.names() == []


@pytest.mark.parametrize("name", ["../x", "a/b", ".new-1", "-x", "x" * 201, "a b", "ä", "a\n"])
async def test_name_that_is_no_directory_is_refused(site: Site, name: str) -> None:
    """A volume's name can't lead out of the directory of volumes, nor be taken for one in the making."""
    for call in (
        site.container(image(), MountWish("volume", "/d", name)),
        site.rig.volumes.create("default", name, {}),
    ):
        with pytest.raises(InvalidArgument, match="name a volume"):
            await call
    assert await site.names() == []


@pytest.mark.parametrize(
    "wishes",
    [
        (MountWish("bind", "/b", "/nonexistent/source"),),
        (MountWish("volume", "/data/../../x", "more"),),
        (MountWish("volume", "/file", "more"),),
    ],
)
async def test_failed_prepare_leaves_no_volume(site: Site, wishes: tuple[MountWish, ...]) -> None:
    """What was made for a container that comes to nothing goes again; what was there stays."""
    await site.rig.volumes.create("default", "there", {})
    there = MountWish("volume", "/there", "there")
    with pytest.raises(HytheError):
        await site.container(image(Layer().file("file")), DATA, OWN, there, *wishes)
    assert await site.names() == ["there"]
    await site.rig.volumes.remove("default", "there")


async def test_cancelled_prepare_leaves_no_volume(site: Site) -> None:
    """A command that is given up while the image is copied ends the copying and leaves nothing."""
    full = image(Layer().file("data/a", os.urandom(8 << 20)))
    await site.container(full)
    for turns in (1, 4, 16, 64):
        waiting = asyncio.create_task(site.container(full, DATA, OWN))
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await site.names() == []


async def restarted(site: Site, *, lose_records: bool = False) -> Site:
    """Stop the service and start it anew on the same directory."""
    await site.rig.close()
    if lose_records:
        for path in site.rig.root.glob("snapshots.db*"):
            path.unlink()
    again = Rig(site.rig.root, site.rig.blobs)
    await again.bundles.recover()
    await again.volumes.close()
    site.rig.database, site.rig.snapshots, site.rig.volumes = again.database, again.snapshots, again.volumes
    return Site(again)


async def test_volumes_are_the_same_after_a_restart(site: Site) -> None:
    """Names, labels, data and users are known again; what was half made or half removed is gone."""
    container = await site.container(image(), DATA, OWN)
    made = await site.rig.volumes.create("default", "labelled", {"a": "1", "b": ""})
    before = site.rig.volumes.all_of("default")
    for left in (".new-0123", ".removed-4567"):
        shutil.copytree(site.root / "data", site.root / left)
    again = await restarted(site)
    assert again.rig.volumes.all_of("default") == before and again.rig.volumes.find("default", "labelled") == made
    assert len(await again.names()) == 3
    with pytest.raises(FailedPrecondition):
        await again.rig.volumes.remove("default", "data")
    await again.release(container)
    assert await again.names() == ["data", "labelled"]


async def test_own_volume_without_its_bundle_is_removed_at_start(site: Site) -> None:
    """A kill between volume and bundle leaves no volume; one that was named stays."""
    await site.rig.volumes.resolve("default", new_id(), "", (DATA, OWN), (), PLAIN)
    assert len(await site.names()) == 2
    assert await (await restarted(site)).names() == ["data"]


async def test_lost_records_remove_no_volume(site: Site) -> None:
    """When the database is gone, a container that isn't in it means nothing: its volumes become ones that stay."""
    await site.container(image(), OWN)
    (name,) = await site.names()
    again = await restarted(site, lose_records=True)
    assert await again.names() == [name]
    assert await (await restarted(again)).names() == [name]


async def test_volume_whose_record_is_broken_stays(site: Site) -> None:
    """Data is never removed because of what stands beside it."""
    await site.rig.volumes.create("default", "data", {"a": "1"})
    (site.root / "data" / "volume.json").write_text("{")
    (site.root / "data" / "_data" / "x").touch()
    again = await restarted(site)
    (volume,) = again.rig.volumes.all_of("default")
    assert (volume.name, volume.labels, volume.container) == ("data", {}, "")
    assert (again.data() / "x").exists()


async def test_volume_with_a_mount_in_it_is_not_removed(site: Site) -> None:
    """What somebody mounted on the host inside a volume is never emptied with it."""
    container = await site.container(image(), OWN)
    (name,) = await site.names()
    (site.data(name) / "disk").mkdir()
    with mounted([Mount("tmpfs", "tmpfs", "", ("size=64k",))], site.data(name) / "disk"):
        await site.release(container)
        with pytest.raises(FailedPrecondition, match="is mounted in it"):
            await site.rig.volumes.remove("default", name)
    await site.rig.volumes.remove("default", name)
    assert await site.names() == []


async def test_create_is_answered_by_what_is_there(site: Site) -> None:
    """Making a volume twice changes nothing; without a name it gets a random one."""
    first = await site.rig.volumes.create("default", "data", {"a": "1"})
    assert await site.rig.volumes.create("default", "data", {"a": "2"}) == first
    unnamed = await site.rig.volumes.create("default", "", {})
    assert len(unnamed.name) == 64 and unnamed.anonymous and not unnamed.container


def is_anonymous(volume: Volume) -> bool:
    """Tell whether nobody named a volume."""
    return volume.anonymous


async def test_prune_takes_what_nobody_uses(site: Site) -> None:
    """Volumes without a name go, with the number of bytes they took; used and named ones stay; a dry run removes nothing."""
    await site.container(image(), OWN)
    await site.rig.volumes.create("default", "data", {})
    unused = await site.rig.volumes.create("default", "", {})
    (unused.data / "deep").mkdir()
    (unused.data / "deep" / "x").write_bytes(bytes(100_000))
    os.link(unused.data / "deep" / "x", unused.data / "y")
    for dry_run, left in ((True, 3), (False, 2)):
        names, size = await site.rig.volumes.prune("default", is_anonymous, dry_run=dry_run)
        assert names == [unused.name] and 100_000 < size < 150_000
        await site.rig.volumes.close()
        assert len(await site.names()) == left
    assert await site.rig.volumes.prune("default", lambda volume: True, dry_run=False) == (["data"], 0)


async def test_full_disk_leaves_no_volume(site: Site) -> None:
    """Below the reserve no volume is made."""
    site.rig.volumes._room = host.DiskRoom(site.rig.root, 1 << 60)
    with pytest.raises(ResourceExhausted, match="make volume"):
        await site.container(image(), DATA)
    assert await site.names() == []


@pytest.mark.parametrize(
    "failpoint", ["bundle.volume.staged=kill", "bundle.volume.made=kill", "bundle.volume.made=1*off->kill",
                  "bundle.prepare.recorded=kill"]
)  # fmt: skip
async def test_kill_in_the_middle_leaves_nothing_half_made(
    tmp_path: Path, secured: SecuredBus, distribution: ServiceProcess, fake_registry: FakeRegistry, failpoint: str
) -> None:
    """kill -9 of the service at any step of making volumes: nothing half made is left, and the same request then succeeds."""
    made = image(Layer().file("data/a", b"1").file("own/b", b"2")).build()
    mounts = [{"type": "volume", "target": "/data", "source": "data"}, {"type": "volume", "target": "/own"}]
    wanted = request(made, fake_registry.serve(made, "killed:1"), mounts=mounts)
    doomed = ServiceProcess("bundle", tmp_path, secured, HYTHE_FAILPOINTS=failpoint)
    doomed.start()
    connected = await connect(doomed, secured, "agent")
    waiting = asyncio.create_task(prepare(connected, wanted))
    await eventually_async(partial(has_ended, doomed.pid))
    assert doomed.end() == -signal.SIGKILL
    waiting.cancel()
    healed = ServiceProcess("bundle", tmp_path, secured)
    healed.start()
    volumes = healed.root / "bundle" / "volumes" / "default"
    try:
        eventually(lambda: not [path for path in volumes.iterdir() if path.name.startswith(".")])
        if "recorded" not in failpoint:
            assert {path.name for path in volumes.iterdir()} <= {"data"}
        await prepare(connected, wanted)
        assert {path.name for directory in volumes.iterdir() for path in (directory / "_data").iterdir()} == {"a", "b"}
    finally:
        await connected.close()
        healed.end()


async def test_container_without_volumes_costs_nothing(site: Site) -> None:
    """Neither a directory nor a span is made where no volume is asked for."""
    container = await site.container(image())
    assert not site.root.exists()
    with tracing.span("release"):
        await site.release(container)
