"""Archives that would fill the disk, the memory or the time of the worker, that end early, or carry their data oddly."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from backports import zstd

from hythe.errors import DataLoss, InvalidArgument, ResourceExhausted
from hythe_bundle.adapters.removal import remove_tree
from hythe_bundle.adapters.worker import WorkerApplier
from hythe_bundle.applier import Limits
from scripts.lab.raw_tars import GNU, Tar, header, number, padded, record, sparse_0, sparse_1_0, sparse_old
from tests.fixtures.targets import Target

MIB = 1 << 20
MOST_MEMORY_BYTES = 100 * MIB
RATIO_BOMB_BYTES = 1200 * MIB


# files with holes


@pytest.mark.parametrize("form", ["gnu", "posix 0.0", "posix 0.1", "posix 1.0"])
@pytest.mark.parametrize("pieces", [3, 60])
async def test_file_with_holes_as_gnu_tar_writes_it_keeps_bytes_and_holes(
    target: Target, tmp_path: Path, form: str, pieces: int
) -> None:
    """Whatever form GNU tar writes it in, the file has the same bytes, and takes room for its data alone."""
    where = tmp_path / ("d" * 60) / ("e" * 60)
    where.mkdir(parents=True)
    with (where / "sparse").open("wb") as file:
        for piece in range(pieces):
            file.seek(piece * 256 * 1024 + 4096)
            file.write(os.urandom(5000))
        file.truncate(20 * MIB)
    kind, _, version = form.partition(" ")
    command = ["tar", "-C", str(tmp_path), "--sparse", f"--format={kind}", "-cf", str(tmp_path / "made.tar"), "d" * 60]
    if version:
        command.insert(1, f"--sparse-version={version}")
    subprocess.run(command, check=True)  # noqa: ASYNC221 (nothing else runs in the loop)
    archive = (tmp_path / "made.tar").read_bytes()
    assert len(archive) < 2 * MIB  # it has holes indeed
    applied = await target.apply(archive)
    made = target.path / ("d" * 60) / ("e" * 60) / "sparse"
    assert digest(made) == digest(where / "sparse") and made.stat().st_size == 20 * MIB
    assert made.stat().st_blocks * 512 <= pieces * 16384
    assert applied.file_bytes < pieces * 16384


def digest(path: Path) -> str:
    """Return sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def test_huge_hole_takes_no_room_and_counts_as_bytes(target: Target) -> None:
    """A hole costs nothing here, but wherever the file is copied to: it counts against the most bytes of a layer."""
    huge = 200 << 30
    made = Tar().raw(sparse_1_0("f", huge, [(huge - 4, b"last")])).raw(sparse_old("g", 100, [(0, b"x")])).end()
    await target.apply(made)
    found = (target.path / "f").stat()
    assert found.st_size == huge and found.st_blocks * 512 < MIB
    with pytest.raises(ResourceExhausted, match="holes"):
        await target.apply(Tar().raw(sparse_1_0("f", huge, [])).raw(sparse_1_0("g", huge, [])).end())


@pytest.mark.parametrize("whole", [2**62, 2**63 - 1])
async def test_size_that_no_file_system_has_is_refused(target: Target, whole: int) -> None:
    """A file of exabytes is refused before any of it is made."""
    with pytest.raises((ResourceExhausted, InvalidArgument)):
        await target.apply(Tar().raw(sparse_old("f", whole, [])).end())
    with pytest.raises((ResourceExhausted, InvalidArgument)):
        await target.apply(Tar().raw(sparse_old("f", whole, [])).end(), limits=Limits(most_bytes=2**64))


def endless_map(form: str) -> bytes:
    """Return a file with holes whose map is larger than any honest one."""
    many = [(i * 8192, b"x") for i in range(150_000)]
    if form == "old GNU":
        return sparse_old("f", 1 << 40, many)
    if form == "0.1":
        return sparse_0("f", 1 << 40, many, minor=1)
    return sparse_1_0("f", 1 << 40, many)


@pytest.mark.parametrize("form", ["old GNU", "0.1", "1.0"])
async def test_map_of_a_hundred_thousand_holes_is_refused(target: Target, form: str) -> None:
    """A map is bounded, so that neither memory nor a disk block for each byte of it can be had for nothing."""
    with pytest.raises(ResourceExhausted):
        await target.apply(Tar().raw(endless_map(form)).end())


@pytest.mark.parametrize("kind", ["entries", "extents"])
async def test_reserve_is_kept_against_many_small_things(target: Target, kind: str) -> None:
    """Files without data, and bytes a block apart, take room too: the reserve is looked at for them as well."""
    made = Tar()
    if kind == "entries":
        for i in range(2000):
            made.directory(f"d{i}")
    else:
        made.raw(sparse_1_0("f", 1 << 32, [(i << 20, b"x") for i in range(3000)]))
    with pytest.raises(ResourceExhausted, match="stay free"):
        await target.apply(made.end(), limits=Limits(reserve_bytes=1 << 60))


# bombs


def ratio_bomb() -> bytes:
    """Return a layer of some kilobytes that unpacks to more than a GiB, none of which has to be written."""
    packer = zstd.ZstdCompressor()
    parts = [packer.compress(header(".wh.x", size=RATIO_BOMB_BYTES))]
    parts += [packer.compress(bytes(100 * MIB)) for _ in range(RATIO_BOMB_BYTES // (100 * MIB))]
    return b"".join([*parts, packer.flush()])


def many_attributes() -> bytes:
    """Return an archive whose entries each have as large an extension header as is allowed."""
    made = Tar()
    for i in range(20):
        values = b"".join(record(f"SCHILY.xattr.user.{j}", "x" * 900) for j in range(1100))
        made.entry("pax", b"x", values).entry(f"l{i}", b"2", link="x")
    return made.end()


_MEASURE = (
    "import os, resource, subprocess, sys; given = [a.replace('PARENT', str(os.getpid())) for a in sys.argv[1:]];"
    "done = subprocess.run(given, stdout=subprocess.PIPE); print(done.stdout.decode().splitlines()[-1]);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)
"""Runs the worker from a small process: what a child's parent has counts as the child's at the moment it starts."""


def peak_memory(target: Path, blob: Path, limits: Limits) -> tuple[int, str]:
    """Apply `blob` and return the most bytes of memory that the worker had, and what it said last."""
    numbers = ("PARENT", limits.most_bytes, limits.most_entries, limits.most_ratio, 0, 0)
    worker = [*WorkerApplier(target).command, *map(str, numbers)]
    with blob.open("rb") as stdin:
        command = [sys.executable, "-S", "-c", _MEASURE, *worker]
        done = subprocess.run(command, stdin=stdin, cwd=target, capture_output=True, text=True, check=True)
    said, kibibytes = done.stdout.splitlines()
    return int(kibibytes) * 1024, said


@pytest.mark.parametrize("kind", ["ratio", "attributes"])
def test_bomb_takes_little_memory(target: Target, tmp_path: Path, kind: str) -> None:
    """However large what comes out is, or what an entry says of itself, the worker stays small."""
    blob = tmp_path / "bomb"
    blob.write_bytes(ratio_bomb() if kind == "ratio" else many_attributes())
    memory, said = peak_memory(target.path, blob, Limits())
    assert memory < MOST_MEMORY_BYTES
    assert said.startswith("failed limit" if kind == "ratio" else "done")  # a link takes no attributes
    target.canary.check()


async def test_extension_header_beyond_all_bounds_is_refused(target: Target) -> None:
    """A name, a link or an attribute of megabytes is refused before it is read."""
    huge = b"x" * (MIB + 1)
    for made in (Tar().pax(("SCHILY.xattr.user.a", huge)), Tar().long(b"L", huge), Tar().long(b"K", huge)):
        with pytest.raises(ResourceExhausted, match="extension header"):
            await target.apply(made.file("f").end())


async def test_deepest_nesting_is_made_and_removed(target: Target) -> None:
    """Two thousand directories in each other can be made, made deeper through links, and removed."""
    deep = "/".join("d" for _ in range(2000))
    made = Tar().pax(("path", deep)).directory("x").pax(("linkpath", deep)).symlink("l", "x")
    for _ in range(3):
        made.directory("l/e").symlink("m", "l/e").file("m/f", b"deep")
    await target.apply(made.end())
    remove_tree(target.path)
    assert not target.path.exists()


async def test_path_made_too_long_by_links_is_refused(target: Target) -> None:
    """A path that only links make longer than the kernel takes is the archive's fault."""
    deep = "/".join("d" * 200 for _ in range(15))
    made = Tar().pax(("path", deep)).directory("x").pax(("linkpath", deep)).symlink("l", "x")
    made.pax(("path", "l/" + deep)).directory("x")
    with pytest.raises(InvalidArgument, match="File name too long"):
        await target.apply(made.end())


# how the bytes come


WHOLE = (
    Tar()
    .file("a", b"1" * 700)
    .pax(("path", "b" * 200))
    .file("x", b"2")
    .raw(sparse_1_0("s", 9999, [(5000, b"3")]))
    .end()
)


@pytest.mark.parametrize("cut", [300, 512, 1024, 2000, 2560, 3072, 4000, 5120, 5500])
async def test_archive_cut_within_an_entry_is_damaged(target: Target, cut: int) -> None:
    """An archive that ends within a header, an extension, a map or data is damaged, which is told from hostile."""
    with pytest.raises(DataLoss):
        await target.apply(WHOLE[:cut])


@pytest.mark.parametrize("cut", [1300, 1536, 3500, 3584, 5700, 6144, 6656])
async def test_archive_cut_after_an_entrys_data_is_whole(target: Target, cut: int) -> None:
    """Padding and the end mark may be missing, as with containerd."""
    await target.apply(WHOLE[:cut])


@pytest.mark.parametrize(
    "packed",
    [
        b"".join(gzip.compress(WHOLE[at : at + 333]) for at in range(0, len(WHOLE), 333)),
        gzip.compress(WHOLE) + bytes(5000),
        gzip.compress(b"") + gzip.compress(WHOLE) + gzip.compress(b""),
        b"".join(zstd.compress(WHOLE[at : at + 333]) for at in range(0, len(WHOLE), 333)),
        b"\x5a\x2a\x4d\x18\x04\0\0\0skip" + zstd.compress(WHOLE),
        WHOLE,
    ],
    ids=["gzip members", "gzip with padding", "empty gzip members", "zstd frames", "skippable frame", "plain"],
)
async def test_archive_in_pieces_comes_out_whole(target: Target, packed: bytes) -> None:
    """Members of gzip and frames of zstd are one stream, wherever they divide it."""
    applied = await target.apply_blob(packed)
    assert applied.diff_id.hex == hashlib.sha256(WHOLE).hexdigest()
    assert target.names() == {"a", "b" * 200, "s"}


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(WHOLE) + b"rubbish",
        gzip.compress(WHOLE) + gzip.compress(WHOLE)[:100],
        gzip.compress(WHOLE)[:-1],
        zstd.compress(WHOLE) + b"rubbish",
        zstd.compress(WHOLE)[:-1],
        b"\x1f\x8b",
        b"\x28\xb5\x2f\xfd",
    ],
    ids=["gzip", "gzip cut member", "gzip cut", "zstd", "zstd cut", "gzip magic alone", "zstd magic alone"],
)
async def test_rubbish_in_the_compressed_stream_is_noticed(target: Target, packed: bytes) -> None:
    """What is no part of the stream is damage: a digest of the rest would vouch for nothing."""
    with pytest.raises(DataLoss):
        await target.apply_blob(packed)


async def test_old_map_of_holes_cut_short_is_damaged(target: Target) -> None:
    """An archive that ends within the map of a file with holes is damaged."""
    places = {386: b"".join(number(i, 12) + number(0, 12) for i in range(4)), 482: b"\1", 483: number(99, 12)}
    with pytest.raises(DataLoss):
        await target.apply(header("f", b"S", magic=GNU, fields=places) + padded(b"")[:100] + bytes(100))


async def test_unnamed_directories_count_as_entries(target: Target) -> None:
    """A few entries that lie deep are not a cheap way to make millions of directories."""
    made = Tar()
    for i in range(5):
        made.pax(("path", f"{i}/" + "/".join("d" for _ in range(1000)))).file("x")
    with pytest.raises(ResourceExhausted, match="unnamed directories included"):
        await target.apply(made.end(), limits=Limits(most_entries=3000))


async def test_paths_of_unnamed_directories_are_bounded(target: Target) -> None:
    """Nor a way to make the service keep gigabytes of their paths."""
    made = Tar()
    for i in range(30):
        made.pax(("path", f"{i}/" + "/".join("d" * 6 for _ in range(570)))).file("x")
    with pytest.raises(ResourceExhausted, match="doesn't name"):
        await target.apply(made.end())
