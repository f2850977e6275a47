"""Bundles on disk: made in one commit, the same when asked again, gone when released, back after a crash."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from hythe import tracing
from hythe.digest import Digest
from hythe.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from hythe.identifiers import new_id
from hythe_bundle.adapters import host
from hythe_bundle.adapters.database import Database
from hythe_bundle.wishes import Wishes
from scripts.lab.images import ImageBuilder, Layer
from tests.fixtures.bundles import Rig, mounted

ACCOUNTS = b"root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n"
LAYER = Layer().directory("etc").file("etc/passwd", ACCOUNTS).file("bin/sh", b"#!", mode=0o755)


@pytest.fixture
async def image(rig: Rig) -> Digest:
    """An unpacked image."""
    made = ImageBuilder().layer(LAYER).config(Cmd=["sh"], User="app", StopSignal="SIGINT").build()
    await rig.unpack(made)
    return rig.blobs.add(made)


def files(path: Path) -> dict[str, str]:
    """Return mode and type of everything in a bundle."""
    return {entry.name: stat.filemode(entry.lstat().st_mode) for entry in path.iterdir()}


async def test_bundle_has_all_that_a_runtime_needs(rig: Rig, image: Digest) -> None:
    """Config, mounts and record lie in a directory for root alone, beside the mount point."""
    wanted = rig.request(image, Wishes(args=("echo", "hi"), env=("A=1",)))
    bundle = await rig.bundles.prepare(wanted, rig.reports.append)
    assert bundle.path == rig.root / "bundles" / "default" / wanted.id
    assert files(bundle.path) == {
        "rootfs": "drwx------",
        "config.json": "-rw-------",
        "mounts.json": "-rw-------",
        "record.json": "-rw-------",
        "hosts": "-rw-r--r--",
        "hostname": "-rw-r--r--",
    }
    assert stat.filemode(bundle.path.stat().st_mode) == "drwx------"
    config, record, mounts = (
        json.loads((bundle.path / f"{name}.json").read_text()) for name in ("config", "record", "mounts")
    )
    assert config["process"]["args"] == ["echo", "hi"] == list(bundle.args)
    assert config["process"]["user"] == {"uid": 1000, "gid": 1001, "additionalGids": [1001]}
    assert config["linux"]["cgroupsPath"] == f"/hythe-test/{wanted.id}"
    assert (record["id"], record["namespace"], record["stop_signal"]) == (wanted.id, "default", "SIGINT")
    assert record["image"]["digest"] == str(image) and record["request"]["wishes"]
    assert [mount["type"] for mount in mounts] == ["overlay"] == [mount.type for mount in bundle.mounts]


class Spans(tracing._NoBackend):
    """Notes names and attributes of spans as they end."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, dict[str, tracing.Value]]] = []

    @contextmanager
    def span(
        self, name: str, kind: tracing.Kind, attributes: Mapping[str, tracing.Value], parent: Mapping[str, str] | None
    ) -> Iterator[tracing.Span]:
        """See `tracing.Backend.span`."""
        found = dict(attributes)

        class Noted(tracing._NoSpan):
            def set(self, key: str, value: tracing.Value) -> None:
                found[key] = value

        yield Noted()
        self.ended.append((name, found))


@pytest.fixture
def spans() -> Iterator[Spans]:
    """The spans of this test."""
    noted = Spans()
    before = tracing._backend
    tracing.install(noted)
    yield noted
    tracing.install(before)


async def test_warm_prepare_costs_one_fsync(rig: Rig, image: Digest, spans: Spans) -> None:
    """With the image unpacked, snapshot, record and bundle become durable in one commit; release needs none."""
    bundle = await rig.bundles.prepare(rig.request(image), rig.reports.append)
    assert [(name, found.get("hythe.fsyncs", 0)) for name, found in spans.ended] == [
        ("make spec", 0),
        ("prepare snapshot", 1),
        ("write bundle", 0),
    ]
    spans.ended.clear()
    with tracing.span("release"):
        await rig.bundles.release("default", bundle.path.name)
    assert spans.ended == [("release", {})]


async def test_same_request_gives_the_same_bundle(rig: Rig, image: Digest) -> None:
    """A repeated request, at the same time or later, is answered by the bundle that there is."""
    wanted = rig.request(image)
    several = await asyncio.gather(*(rig.bundles.prepare(wanted, rig.reports.append) for _ in range(4)))
    assert len(set(several)) == 1 and await rig.bundles.prepare(wanted, rig.reports.append) == several[0]
    assert len(rig.layer_directories()) == 2


async def test_other_request_of_one_id_is_refused(rig: Rig, image: Digest) -> None:
    """An id means one container: other wishes, or another namespace, are a conflict."""
    wanted = rig.request(image)
    await rig.bundles.prepare(wanted, rig.reports.append)
    for other in (rig.request(image, Wishes(args=("x",)), wanted.id), replace(wanted, namespace="other")):
        with pytest.raises(Conflict):
            await rig.bundles.prepare(other, rig.reports.append)
    await rig.bundles.release("other", wanted.id)
    assert await rig.snapshots.stat(wanted.id)


@pytest.mark.parametrize(
    "wishes",
    [Wishes(user="nobody"), Wishes(user="4294967296"), Wishes(cwd="/proc/self/fd/7"), Wishes(stop_signal="SIGX")],
)
async def test_wish_that_cannot_be_fulfilled_leaves_nothing(rig: Rig, image: Digest, wishes: Wishes) -> None:
    """A bad wish is refused before anything is recorded or written."""
    wanted = rig.request(image, wishes)
    with pytest.raises(InvalidArgument):
        await rig.bundles.prepare(wanted, rig.reports.append)
    with pytest.raises(NotFound):
        await rig.snapshots.stat(wanted.id)
    assert not (rig.root / "bundles" / "default").exists() and len(rig.layer_directories()) == 1


@pytest.mark.parametrize(("namespace", "container_id"), [("../x", new_id()), ("a/b", new_id()), ("ok", "../../x")])
async def test_name_that_is_no_directory_is_refused(rig: Rig, image: Digest, namespace: str, container_id: str) -> None:
    """Neither namespace nor id can lead out of the bundles' directory."""
    wanted = rig.request(image, container_id=container_id, namespace=namespace)
    for call in (rig.bundles.prepare(wanted, rig.reports.append), rig.bundles.release(namespace, container_id)):
        with pytest.raises(InvalidArgument):
            await call


async def test_released_bundle_is_gone(rig: Rig, image: Digest) -> None:
    """Bundle, snapshot and record go; releasing again changes nothing."""
    bundle = await rig.bundles.prepare(rig.request(image), rig.reports.append)
    for _ in range(2):
        await rig.bundles.release("default", bundle.path.name)
    await rig.snapshots.close()
    assert not bundle.path.exists() and len(rig.layer_directories()) == 1
    with pytest.raises(NotFound):
        await rig.snapshots.stat(bundle.path.name)


async def test_mounted_bundle_is_not_released(rig: Rig, image: Digest, tmp_path: Path) -> None:
    """While its root file system is mounted, in the bundle or elsewhere, nothing of a bundle is removed."""
    bundle = await rig.bundles.prepare(rig.request(image), rig.reports.append)
    for point in (bundle.rootfs, tmp_path / "elsewhere"):
        with mounted(bundle.mounts, point):
            with pytest.raises(FailedPrecondition, match="mounted"):
                await rig.bundles.release("default", bundle.path.name)
            assert (bundle.path / "config.json").exists()
    await rig.bundles.release("default", bundle.path.name)


async def restarted(rig: Rig) -> Rig:
    """Stop the service and start it anew on the same directory."""
    await rig.close()
    again = Rig(rig.root, rig.blobs)
    await again.bundles.recover()
    rig.database, rig.snapshots = again.database, again.snapshots
    return again


async def test_lost_bundle_is_made_again(rig: Rig, image: Digest) -> None:
    """What a crash of the machine took from the disk is made again from the record: files, directories, snapshot."""
    wanted = rig.request(image)
    bundle = await rig.bundles.prepare(wanted, rig.reports.append)
    before = {path.name: path.read_bytes() for path in bundle.path.iterdir() if path.is_file()}
    shutil.rmtree(bundle.path)
    shutil.rmtree(Path(next(o for o in bundle.mounts[0].options if o.startswith("upperdir="))[9:]).parent)
    again = await restarted(rig)
    assert {path.name: path.read_bytes() for path in bundle.path.iterdir() if path.is_file()} == before
    with mounted(bundle.mounts, bundle.rootfs):
        assert (bundle.rootfs / "bin/sh").exists()
    (bundle.path / "config.json").write_bytes(b"")
    (bundle.path / "hosts").write_text("the container's own")
    assert await again.bundles.prepare(wanted, rig.reports.append) == bundle
    assert (bundle.path / "config.json").read_bytes() == before["config.json"]
    assert (bundle.path / "hosts").read_text() == "the container's own"


async def test_bundle_without_a_record_is_removed_at_start(rig: Rig, image: Digest) -> None:
    """A directory that no record speaks of goes at the next start, unless something is mounted in it."""
    bundle = await rig.bundles.prepare(rig.request(image), rig.reports.append)
    stray, used = (rig.root / "bundles" / "default" / new_id() for _ in range(2))
    for path in (stray, used):
        shutil.copytree(bundle.path, path)
    with mounted(bundle.mounts, used / "rootfs"):
        await restarted(rig)
        assert bundle.path.exists() and used.exists() and not stray.exists()
    await restarted(rig)
    assert not used.exists()


async def test_lost_records_delete_nothing(rig: Rig, image: Digest) -> None:
    """When the database itself is gone, the absence of a record means nothing: all files stay."""
    bundle = await rig.bundles.prepare(rig.request(image), rig.reports.append)
    before = rig.layer_directories()
    await rig.close()
    for path in rig.root.glob("snapshots.db*"):
        path.unlink()
    again = Rig(rig.root, rig.blobs)
    rig.database, rig.snapshots = again.database, again.snapshots
    assert again.layer_directories() == before and bundle.path.exists()
    assert (await again.snapshots.stage()).key not in before


async def test_full_disk_leaves_no_bundle(rig: Rig, image: Digest) -> None:
    """Below the reserve nothing is prepared."""
    rig.bundles._room = host.DiskRoom(rig.root, 1 << 60)
    with pytest.raises(ResourceExhausted, match="prepare bundle"):
        await rig.bundles.prepare(rig.request(image), rig.reports.append)
    assert len(rig.layer_directories()) == 1 and not list((rig.root / "bundles").glob("*/*"))


async def test_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """Records that this version can't understand are not touched."""
    made = Database(tmp_path / "db")
    await made.write(lambda connection: connection.execute("CREATE TABLE later (x)"))
    made.close()
    data = bytearray((tmp_path / "db").read_bytes())
    data[60:64] = (99).to_bytes(4, "big")
    (tmp_path / "db").write_bytes(data)
    with pytest.raises(FailedPrecondition, match="format 99"):
        Database(tmp_path / "db")


def insert(name: str, connection: sqlite3.Connection) -> None:
    """Add a row; some names can't be added."""
    connection.execute("INSERT INTO images VALUES (?, '', '', '', x'')", (name,))
    if name == "bad":
        raise InvalidArgument("no")


async def test_failed_change_takes_nothing_from_those_beside_it(tmp_path: Path) -> None:
    """Changes asked for at the same time are committed together; one that fails undoes itself alone."""
    database = Database(tmp_path / "db")
    names = [f"n{i}" for i in range(7)] + ["bad", "n1"] + [f"n{i}" for i in range(8, 20)]
    done = await asyncio.gather(*(database.write(partial(insert, name)) for name in names), return_exceptions=True)
    assert [(i, type(found)) for i, found in enumerate(done) if found is not None] == [
        (7, InvalidArgument),
        (8, sqlite3.IntegrityError),
    ]
    assert len(database.read("SELECT target FROM images")) == 19
    database.close()


async def test_directories_are_for_root_alone(rig: Rig, image: Digest) -> None:
    """Another user of the host reaches neither bundles nor layers, where setuid programs may lie (CVE-2021-41103)."""
    await rig.bundles.prepare(rig.request(image), rig.reports.append)
    for path in (rig.root / "bundles", rig.root / "snapshots", *(rig.root / "snapshots").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
