"""What a snapshot changes of another: layers that, applied again, give the same file system, in both ways of comparing."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import os
import socket
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hythe.digest import digest_of
from hythe.errors import FailedPrecondition, Internal
from hythe.identifiers import new_id
from hythe_bundle.adapters.differ_worker import WorkerDiffer
from hythe_bundle.adapters.native import NativeSnapshotter
from hythe_bundle.adapters.overlay import OverlaySnapshotter
from hythe_bundle.differ import SHRANK, Change, Comparison, LayerForm, WrittenLayer
from scripts.lab.images import Blob, Image
from tests.fakes.blobs import LocalBlobs
from tests.fakes.trees import Act, act_on, describe
from tests.fixtures.bundles import Rig, mounted

PLAIN = LayerForm(compression="none")
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def image_of(*layers: bytes) -> Image:
    """Return an image of uncompressed layers."""
    blobs = tuple(Blob(layer, LAYER_TYPE) for layer in layers)
    config = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [str(digest_of(layer)) for layer in layers]},
        "nonce": new_id(),
    }
    config_blob = Blob(json.dumps(config).encode(), CONFIG_TYPE)
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config_blob.descriptor(),
        "layers": [blob.descriptor() for blob in blobs],
    }
    manifest = Blob(json.dumps(document).encode(), MANIFEST_TYPE)
    return Image(manifest, (config_blob, *blobs), "linux", str(config["architecture"]))


BODIES = (OverlaySnapshotter, NativeSnapshotter)


class Lab:
    """Snapshots on a real snapshotter, changed by hand and compared by real workers."""

    def __init__(self, directory: Path, snapshotter: type[OverlaySnapshotter | NativeSnapshotter]) -> None:
        self.rig = Rig(directory / "bundle", LocalBlobs(directory / "blobs"), snapshotter=snapshotter)
        self.differ = WorkerDiffer(self.rig.root)
        self._point = directory / "mnt"

    async def active(self, parent: str, change: Callable[[Path], object]) -> str:
        """Return an active snapshot on `parent` that `change`, given its mounted root, has changed."""
        key = new_id()
        mounts = await self.rig.snapshots.prepare(key, parent)
        with mounted(mounts, self._point) as root:
            await asyncio.to_thread(change, root)
        return key

    async def base(self, change: Callable[[Path], object]) -> str:
        """Return a committed snapshot that `change` has made out of nothing, by way of a layer."""
        layer, _ = await self.layer(await self.active("", change))
        return await self.unpacked(layer)

    async def unpacked(self, *layers: bytes) -> str:
        """Return the top snapshot of an image of `layers`, applied by the real applier."""
        return (await self.rig.unpack(image_of(*layers))).image.chain_id

    async def comparison(self, name: str, *, by_walk: bool = False, other: str | None = None) -> Comparison:
        """Return the comparison of a snapshot with its parent, or another."""
        snapshots = self.rig.snapshots
        base = (await snapshots.stat(name)).parent if other is None else other
        changes = None if by_walk or other is not None else await snapshots.changes_in(name)
        return Comparison(
            name,
            await snapshots.look(base) if base else (),
            await snapshots.look(name),
            changes,
            skip_runtime_made=False,
        )

    async def layer(
        self, name: str, form: LayerForm = PLAIN, *, by_walk: bool = False, other: str | None = None
    ) -> tuple[bytes, WrittenLayer]:
        """Return the layer of a snapshot's changes."""
        pieces: list[bytes] = []

        async def sink(piece: bytes) -> None:
            pieces.append(piece)

        comparison = await self.comparison(name, by_walk=by_walk, other=other)
        written = await self.differ.write(comparison, form, sink, lambda done: None)
        data = b"".join(pieces)
        assert (written.digest, written.size_bytes) == (digest_of(data), len(data))
        return data, written

    async def changes(self, name: str, *, by_walk: bool = False, other: str | None = None) -> list[str]:
        """Return a snapshot's changes as lines."""
        comparison = await self.comparison(name, by_walk=by_walk, other=other)
        return [line(change) async for some in self.differ.changes(comparison) for change in some]

    async def tree(self, name: str, **options: bool) -> dict[bytes, tuple[object, ...]]:
        """Return everything that a snapshot shows."""
        with mounted(await self.rig.snapshots.look(name), self._point) as root:
            return await asyncio.to_thread(describe, os.fsencode(root), **options)


def line(change: Change) -> str:
    """Return a change as Docker prints it."""
    return f"{change.kind[0].upper()} /{os.fsdecode(change.path)}"


def members(layer: bytes) -> dict[str, tarfile.TarInfo]:
    """Return the entries of a layer by name, read by somebody else."""
    with tarfile.open(fileobj=io.BytesIO(layer)) as file:
        return {member.name: member for member in file}


def is_unmounted(place: Path) -> bool:
    """Tell whether nothing is mounted at a place."""
    return str(place) not in Path("/proc/self/mountinfo").read_text()


def workers() -> list[int]:
    """Return the processes that compare for this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"diff_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has just ended
    return found


def unpack_with_tar(layer: bytes, directory: Path) -> None:
    """Have GNU tar unpack a layer."""
    directory.mkdir()
    command = ["tar", "-x", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C", str(directory)]
    subprocess.run(command, input=layer, check=True)


@pytest.fixture(params=BODIES)
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    """A snapshotter of each body and a differ on a fresh directory."""
    made = Lab(tmp_path, request.param)
    yield made
    await made.rig.close()


def small_tree(root: Path) -> None:
    """Make a tree with a little of everything."""
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root")
    (root / "etc/group").write_text("root")
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(b"tool" * 1000)
    (root / "usr/bin/alias").hardlink_to(root / "usr/bin/tool")
    (root / "var/cache/a").mkdir(parents=True)
    for name in ("one", "two", "three"):
        (root / "var/cache" / name).write_text(name)
    (root / "var/old").mkdir()
    (root / "var/old/file").write_text("x")
    (root / "link").symlink_to("etc/passwd")


async def test_changes_are_told_as_docker_tells_them(lab: Lab) -> None:
    """What is new, changed or gone is told with the directories that hold it, what is the same is not."""

    def change(root: Path) -> None:
        (root / "etc/passwd").write_text("root2")
        (root / "etc/new").write_text("")
        (root / "usr/bin/alias").unlink()
        (root / "var/old/file").unlink()
        (root / "var/old").rmdir()
        (root / "var/old").write_text("now a file")
        (root / "opt/deep").mkdir(parents=True)
        (root / "etc/group").chmod(0o644)  # copied up and the same
        os.utime(root / "usr")  # so is a directory that only has another time

    key = await lab.active(await lab.base(small_tree), change)
    expected = [
        *("C /etc", "A /etc/new", "C /etc/passwd", "A /opt", "A /opt/deep", "C /usr", "C /usr/bin"),
        *("D /usr/bin/alias", "C /var", "C /var/old"),
    ]
    assert await lab.changes(key) == expected
    assert await lab.changes(key, by_walk=True) == expected


async def test_layer_has_what_an_image_layer_should_have(lab: Lab) -> None:
    """Whiteouts stand first, everything that is gone of a directory is one mark, parents are named, sockets left out."""

    def change(root: Path) -> None:
        for name in ("one", "two", "three", "a"):
            path = root / "var/cache" / name
            path.rmdir() if path.is_dir() else path.unlink()
        (root / "etc/group").unlink()
        (root / "etc/a").write_text("x")
        os.mknod(root / "etc/null", 0o20666, os.makedev(1, 3))
        os.mkfifo(root / "etc/pipe")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(root / "etc/sock"))
        os.setxattr(root / "etc/a", "user.k", b"\0v\xff")
        capability = b"\x01\x00\x00\x02\x00\x20" + bytes(14)
        os.setxattr(root / "etc/a", "security.capability", capability)
        (root / "etc/a").chmod(0o4755)

    key = await lab.active(await lab.base(small_tree), change)
    layer, written = await lab.layer(key)
    names = list(members(layer))
    assert names == [
        *("etc", "etc/.wh.group", "etc/a", "etc/null", "etc/pipe", "var", "var/cache", "var/cache/.wh..wh..opq"),
    ]
    assert written.entries == len(names) and written.diff_id == digest_of(layer) and written.archive_bytes == len(layer)
    found = members(layer)["etc/a"]
    assert set(found.pax_headers) >= {"SCHILY.xattr.user.k", "SCHILY.xattr.security.capability", "mtime"}
    assert found.mode == 0o4755
    assert (await lab.layer(key, by_walk=True))[0] == layer


async def test_hard_links_are_kept_also_to_unchanged_files(lab: Lab) -> None:
    """A new name of an unchanged file makes both names of the layer one file; two new names are one file."""

    def change(root: Path) -> None:
        (root / "zzz").hardlink_to(root / "etc/passwd")
        (root / "etc/0").hardlink_to(root / "etc/group")
        (root / "new").write_text("n")
        (root / "also").hardlink_to(root / "new")

    base = await lab.base(small_tree)
    key = await lab.active(base, change)
    layer, _ = await lab.layer(key)
    assert (await lab.layer(key, by_walk=True))[0] == layer
    found = members(layer)
    assert (found["etc/group"].linkname, found["etc/passwd"].linkname, found["new"].linkname) == (
        "etc/0",
        "zzz",
        "also",
    )
    again = await lab.unpacked((await lab.layer(await lab.active("", small_tree)))[0], layer)
    tree = await lab.tree(again)
    assert tree[b"zzz"][-1] == tree[b"etc/passwd"][-1] == b"etc/passwd"


async def test_replaced_directory_hides_what_was_in_it(lab: Lab) -> None:
    """A directory that was removed and made anew has nothing of the old one, whichever way it is compared."""

    def change(root: Path) -> None:
        for name in ("one", "two", "three"):
            (root / "var/cache" / name).unlink()
        (root / "var/cache/a").rmdir()
        (root / "var/cache").rmdir()
        (root / "var/cache").mkdir()
        (root / "var/cache/two").write_text("again")

    key = await lab.active(await lab.base(small_tree), change)
    expected = [
        "C /var",
        "C /var/cache",
        "D /var/cache/a",
        "D /var/cache/one",
        "D /var/cache/three",
        "C /var/cache/two",
    ]
    assert await lab.changes(key) == await lab.changes(key, by_walk=True) == expected
    assert (await lab.layer(key))[0] == (await lab.layer(key, by_walk=True))[0]


async def test_any_two_snapshots_can_be_compared(lab: Lab) -> None:
    """A snapshot is compared with nothing, with itself, with one beside it, and a committed one with its parent."""
    base = await lab.base(small_tree)
    one = await lab.active(base, lambda root: (root / "one").write_text("1"))
    two = await lab.active(base, lambda root: (root / "two").write_text("2"))
    assert await lab.changes(two, other=one) == ["D /one", "A /two"]
    assert await lab.changes(two, other=two) == []
    assert await lab.changes(base, other="") == await lab.changes(base)
    assert "A /etc/passwd" in await lab.changes(base)
    view = new_id()
    await lab.rig.snapshots.view(view, base)
    assert await lab.changes(view) == []


async def test_content_decides_where_times_have_no_fractions(lab: Lab) -> None:
    """Times as archives have them don't prove that a file is the same, so its bytes are compared."""

    def make(root: Path) -> None:
        for name in ("same", "other", "fraction"):
            (root / name).write_text("abc")
            os.utime(root / name, ns=(0, 10**18 + (5 if name == "fraction" else 0)))

    def change(root: Path) -> None:
        for name, text in (("same", "abc"), ("other", "abd"), ("fraction", "abd")):
            (root / name).write_text(text)
            os.utime(root / name, ns=(0, 10**18 + (5 if name == "fraction" else 0)))

    key = await lab.active(await lab.base(make), change)
    assert await lab.changes(key) == await lab.changes(key, by_walk=True) == ["C /other"]


async def test_source_date_epoch_makes_layers_equal(lab: Lab) -> None:
    """Later times become the given one, earlier ones stay, and the same files made at another time give the same bytes."""

    def change(root: Path) -> None:
        (root / "a").write_text("a")
        (root / "old").write_text("old")
        os.utime(root / "old", ns=(0, 5 * 10**9 + 7))
        (root / "before").symlink_to("1970")
        os.utime(root / "before", ns=(0, -1_500_000_000), follow_symlinks=False)
        (root / "etc/group").unlink()

    base = await lab.base(small_tree)
    form = replace(PLAIN, latest_s=1000)
    layers = [(await lab.layer(await lab.active(base, change), form))[0] for _ in range(2)]
    assert layers[0] == layers[1]
    found = members(layers[0])
    times = {name: entry.mtime for name, entry in found.items()}
    assert times == {"before": -1.5, "a": 1000, "etc": 1000, "etc/.wh.group": 0, "old": 5 + 7e-9}
    assert (await lab.layer(await lab.active(base, change)))[0] != layers[0]


async def test_compressed_layers_are_equal_and_read_by_anybody(lab: Lab) -> None:
    """Compressed twice, a layer has the same bytes; they decompress to the archive whose digest is the diff id."""
    key = await lab.active("", lambda root: (root / "f").write_bytes(os.urandom(3_000_001) + bytes(9_000_000)))
    one, facts = await lab.layer(key, LayerForm())
    two, _ = await lab.layer(key, LayerForm())
    plain, _ = await lab.layer(key)
    packed, _ = await lab.layer(key, LayerForm("zstd"))
    assert zstd.decompress(packed) == plain and len(packed) < len(plain)
    assert one == two and one[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    assert gzip.decompress(one) == plain and facts.diff_id == digest_of(plain)


async def test_strange_names_and_long_paths_survive(lab: Lab) -> None:
    """Names that are no text, very long ones and deep ones come back as they were."""
    deep = Path(*[f"{number:03}{'d' * 90}" for number in range(35)])

    def make(root: Path) -> None:
        (root / deep).mkdir(parents=True)
        (root / deep / "file").write_text("deep")
        top = os.fsencode(root)
        for name in (b"\xff\xfe", b"n" * 255, b"new\nline", b"\xe4" * 200, b" ", b"-rf", b"a=b"):
            Path(os.fsdecode(top + b"/" + name)).write_text("x")
        Path(os.fsdecode(top + b"/long-link")).symlink_to(os.fsdecode(b"\xe4" * 300))

    key = await lab.active("", make)
    layer, _ = await lab.layer(key)
    assert await lab.tree(await lab.unpacked(layer)) == await lab.tree(key)


async def test_deepest_tree_is_walked_with_few_descriptors(lab: Lab) -> None:
    """Directories hundreds deep, of which only the last one has changed, are compared and come back."""

    def go_down(root: Path, end: str, depth: int = 600) -> None:
        at = os.open(root, os.O_RDONLY)
        for _ in range(depth):
            with contextlib.suppress(FileExistsError):
                os.mkdir("d", dir_fd=at)
            below = os.open("d", os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        os.close(os.open(end, os.O_WRONLY | os.O_CREAT, dir_fd=at))
        os.close(at)

    key = await lab.active(await lab.base(lambda root: go_down(root, "one")), lambda root: go_down(root, "two"))
    layer, written = await lab.layer(key)
    assert written.entries == 601
    assert (await lab.layer(key, by_walk=True))[0] == layer
    assert (await lab.changes(key))[-1] == "A /" + "d/" * 600 + "two"


async def test_what_cannot_be_in_a_layer_is_named(lab: Lab) -> None:
    """A file whose name would take another away is refused by its name."""

    def make(root: Path) -> None:
        (root / "d").mkdir()
        (root / "d/.wh.x").write_text("")

    key = await lab.active("", make)
    with pytest.raises(FailedPrecondition, match=r"d/\.wh\.x"):
        await lab.layer(key)


@pytest.mark.parametrize("lab", [OverlaySnapshotter], indirect=True)
async def test_directory_whose_data_lies_elsewhere_is_named(lab: Lab) -> None:
    """A mark of overlayfs that a layer has no word for is refused by the name of its directory."""
    key = await lab.active("", lambda root: (root / "moved").mkdir())
    upper = await lab.rig.snapshots.changes_in(key)
    assert upper is not None
    os.setxattr(upper / "moved", "trusted.overlay.redirect", b"/etc")
    with pytest.raises(FailedPrecondition, match="redirect"):
        await lab.layer(key)


async def test_tree_that_changes_meanwhile_never_gives_a_broken_layer(lab: Lab) -> None:
    """Files grow, shrink, vanish and change their kind while they are read: the layer is whole, or the error names the file."""
    key = await lab.active("", lambda root: (root / "d").mkdir())
    directory = Path((await lab.rig.snapshots.mounts(key))[0].source)
    stop = asyncio.Event()

    def disturb(turn: int) -> None:
        for number in range(8):
            path = directory / "d" / str((turn + number) % 8)
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
            match turn % 5:
                case 0:
                    path.write_bytes(b"x" * 3_000_000)
                case 1:
                    path.mkdir()
                case 2:
                    os.mkfifo(path)
                case 3:
                    path.symlink_to("/etc/passwd")
                case 4:
                    path.write_bytes(b"")

    async def run() -> None:
        turn = 0
        while not stop.is_set():
            await asyncio.to_thread(disturb, turn)
            turn += 1

    running = asyncio.create_task(run())
    whole = 0
    try:
        for _ in range(12):
            try:
                layer, _ = await lab.layer(key)
            except FailedPrecondition as error:
                assert error.details["kind"] == SHRANK and "d/" in error.message
                continue
            whole += 1
            members(layer)
    finally:
        stop.set()
        await running
    assert whole


async def test_big_directory_needs_no_memory_for_its_files(lab: Lab) -> None:
    """Thousands of files and a large one pass through a worker that may have little memory."""

    def make(root: Path) -> None:
        (root / "many").mkdir()
        for number in range(6_000):
            (root / "many" / f"file-{number}").touch()
        with (root / "big").open("wb") as file:
            file.truncate(40_000_000)

    key = await lab.active("", make)
    _, written = await lab.layer(key, LayerForm())
    assert written.entries == 6_002 and written.archive_bytes > 40_000_000 > written.size_bytes


async def test_cancelled_comparison_leaves_no_worker_and_no_mount(lab: Lab) -> None:
    """Who gives up ends the worker; its mounts were its own."""
    key = await lab.active("", lambda root: (root / "f").write_bytes(os.urandom(20_000_000)))
    comparison = await lab.comparison(key)
    begun = asyncio.Event()

    async def sink(piece: bytes) -> None:
        begun.set()
        await asyncio.Event().wait()

    work = asyncio.create_task(lab.differ.write(comparison, PLAIN, sink, lambda done: None))
    await asyncio.wait_for(begun.wait(), 20)
    assert workers()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert is_unmounted(lab.rig.root / "compare") and not workers()


async def test_failing_sink_ends_the_comparison(lab: Lab) -> None:
    """The error of who takes the layer is the one that is told."""
    key = await lab.active("", lambda root: (root / "f").write_bytes(os.urandom(20_000_000)))

    async def sink(piece: bytes) -> None:
        raise Internal("the disk is full")

    with pytest.raises(Internal, match="the disk is full"):
        await lab.differ.write(await lab.comparison(key), PLAIN, sink, lambda done: None)


async def test_layer_can_be_unpacked_by_others(lab: Lab, tmp_path: Path) -> None:
    """GNU tar reads a layer and makes the same files of it, with their attributes."""

    def make(root: Path) -> None:
        small_tree(root)
        os.setxattr(root / "etc/passwd", "user.note", b"hello")

    key = await lab.active("", make)
    layer, _ = await lab.layer(key)
    unpack_with_tar(layer, tmp_path / "out")
    assert describe(os.fsencode(tmp_path / "out")) == await lab.tree(key)


NAMES = st.sampled_from([b"a", b"b", b"c", b"\xff", b"l" * 120])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
KINDS = st.sampled_from(
    [
        *("file", "file", "file", "directory", "directory", "symlink", "link", "fifo", "device", "remove", "remove"),
        *("rename", "mode", "owner", "xattr", "touch", "copy up"),
    ]
)
ACTS = st.lists(st.builds(Act, KINDS, PATHS, PATHS, st.integers(0, 5000)), max_size=25)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.sampled_from(BODIES), made=ACTS, changed=ACTS)
def test_applied_layer_gives_the_file_system_that_it_was_made_of(
    tmp_path_factory: pytest.TempPathFactory,
    body: type[OverlaySnapshotter | NativeSnapshotter],
    made: Sequence[Act],
    changed: Sequence[Act],
) -> None:
    """Whatever was done to a file system: its layer, applied on what lay below, gives it again, byte for byte and link for link.

    Both ways of comparing write the same layer. A directory of which nothing but its time has changed is not in it.
    """

    async def run() -> None:
        lab = Lab(tmp_path_factory.mktemp("oracle"), body)
        try:
            below, _ = await lab.layer(await lab.active("", lambda root: act_on(os.fsencode(root), made)))
            key = await lab.active(await lab.unpacked(below), lambda root: act_on(os.fsencode(root), changed))
            layer, _ = await lab.layer(key)
            assert (await lab.layer(key, by_walk=True))[0] == layer
            assert await lab.changes(key) == await lab.changes(key, by_walk=True)
            again = await lab.unpacked(below, layer)
            wanted = await lab.tree(key, times_of_directories=False)
            assert await lab.tree(again, times_of_directories=False) == wanted
            named = {os.fsencode(name) for name in members(layer)}
            times, wanted_times = (await lab.tree(again), await lab.tree(key))
            assert {path: times[path] for path in named & set(times)} == {
                path: wanted_times[path] for path in named & set(times)
            }
        finally:
            await lab.rig.close()

    asyncio.run(run())
