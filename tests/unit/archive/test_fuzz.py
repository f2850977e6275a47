"""The tar walker against any header: it reads or refuses, always ends, and reads back what honest programs write."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hythe.archive import tar, writer
from hythe.archive.failures import ArchiveError, DamagedError, LimitError
from hythe.archive.stream import Source
from scripts.lab.raw_tars import GNU, USTAR, V7, header, padded, record, sparse_0, sparse_1_0, sparse_old

REFUSALS = (ArchiveError, DamagedError, LimitError)
NUMBERS = st.one_of(
    st.binary(min_size=12, max_size=12),
    st.integers(0, 2**36).map(lambda n: b"%011o\0" % n if n < 8**11 else b"\x80" + n.to_bytes(11, "big")),
    st.integers(-(2**70), 2**70).map(lambda n: (n & (2**95 - 1) | 1 << 95).to_bytes(12, "big")),
    st.sampled_from([b"           0", b"\0" * 12, b"  17\0      ", b"99999999999\0", b"-1          ", b"\xff" * 12]),
)
NAMES = st.one_of(
    st.binary(max_size=120), st.sampled_from([b"a", b"a/b", b"../x", b"/", b"a\0b", b".wh.a", b"././@LongLink"])
)
KINDS = st.sampled_from(
    [b"0", b"\0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"x", b"g", b"L", b"K", b"S", b"V", b"\xff"]
)
KEYS = st.sampled_from(
    [b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"atime", b"uname", b"SCHILY.xattr.user.a", b"x"]
    + [
        b"GNU.sparse." + key
        for key in (b"map", b"major", b"minor", b"name", b"size", b"realsize", b"numblocks", b"offset")
    ]
    + [b"GNU.sparse.numbytes"]
)
VALUES = st.one_of(
    st.binary(max_size=40),
    st.integers(-2, 2**64).map(lambda n: b"%d" % n),
    st.sampled_from([b"0", b"1", b"", b"1.5", b"-1.5", b"0,1", b"0,0,5,5", b"0,1,", b"a" * 5000]),
)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Return one header and its data: fields of any bytes, a checksum that is right, a size that mostly is."""
    kind = draw(KINDS)
    data = draw(st.binary(max_size=700))
    if kind in (b"x", b"g"):
        data = b"".join(record(key, value) for key, value in draw(st.lists(st.tuples(KEYS, VALUES), max_size=6)))
        data += draw(st.sampled_from([b"", b"", b"", b"9 a", b"\0"]))
    fields = {
        100: draw(NUMBERS)[:8] if draw(st.booleans()) else b"0000644\0",
        108: draw(NUMBERS)[:8] if draw(st.booleans()) else b"0000000\0",
        124: draw(NUMBERS) if draw(st.integers(0, 5)) == 0 else b"%011o\0" % len(data),
        136: draw(NUMBERS),
        157: draw(NAMES)[:100],
        329: draw(NUMBERS)[:8],
    }
    if kind == b"S" or draw(st.integers(0, 3)) == 0:
        fields[345] = draw(st.binary(min_size=167, max_size=167))
        fields[386] = b"".join(draw(st.lists(NUMBERS, max_size=8)))
        fields[482] = draw(st.sampled_from([b"\0", b"\1"]))
        fields[483] = draw(NUMBERS)
    magic = draw(st.sampled_from([USTAR, GNU, V7, b"ustar\0\0\0"]))
    return header(draw(NAMES), kind, magic=magic, fields=fields) + padded(data)


def walk(data: bytes, chunk_bytes: int) -> tuple[int, bool]:
    """Walk `data`; return how many entries it has and whether it was refused, and check what every walk must keep to.

    It never takes more chunks than there are, never reads beyond the end, and what it yields keeps to its own bounds.
    """
    given_bytes = 0

    def chunks() -> Iterator[bytes]:
        nonlocal given_bytes
        for at in range(0, len(data), chunk_bytes):
            given_bytes += len(data[at : at + chunk_bytes])
            yield data[at : at + chunk_bytes]

    source = Source(chunks())
    found = 0
    try:
        for entry in tar.entries(source):
            found += 1
            assert found <= len(data) // 512
            assert b"\0" not in entry.name + entry.link and len(entry.name) <= 4095 >= len(entry.link)
            assert 0 <= entry.uid <= tar.MAX_ID and 0 <= entry.gid <= tar.MAX_ID and 0 <= entry.mode <= 0o7777
            assert 0 <= entry.mtime_ns < 2**63 and entry.size_bytes >= 0
            assert all(b"\0" not in key for key in entry.xattrs)
            if entry.sparse:
                check_sparse(entry)
            taken = sum(len(piece) for piece in source.pieces(entry.size_bytes))
            assert taken == entry.size_bytes
    except REFUSALS:
        return found, True
    finally:
        assert source.offset <= given_bytes <= len(data)
    assert source.offset == len(data)
    return found, False


def check_sparse(entry: tar.Entry) -> None:
    """Check that the map of a file with holes lies within it and takes all of its data."""
    assert entry.sparse is not None
    end = 0
    for offset, length in entry.sparse.extents:
        assert offset >= end and length >= 0
        end = offset + length
    assert end <= entry.sparse.size_bytes < 2**63
    assert sum(length for _, length in entry.sparse.extents) == entry.size_bytes


@settings(max_examples=300, deadline=None)
@given(st.lists(headers(), max_size=6), st.integers(1, 5000))
def test_any_headers_are_read_or_refused(blocks: list[bytes], chunk_bytes: int) -> None:
    """Whatever headers say, with checksums that are right, the walker ends with entries or one of its own errors."""
    walk(b"".join(blocks), chunk_bytes)


@settings(max_examples=150, deadline=None)
@given(st.lists(headers(), min_size=1, max_size=4), st.data())
def test_changed_headers_are_read_or_refused(blocks: list[bytes], data: st.DataObject) -> None:
    """The same for bytes changed anywhere, and for archives cut anywhere."""
    made = bytearray(b"".join(blocks))
    for _ in range(data.draw(st.integers(1, 5))):
        made[data.draw(st.integers(0, len(made) - 1))] = data.draw(st.integers(0, 255))
    walk(bytes(made[: data.draw(st.integers(0, len(made)))]), 512)


EXTENTS = st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=300)), max_size=50)


@settings(max_examples=100, deadline=None)
@given(EXTENTS, st.integers(0, 10_000), st.sampled_from(["1.0", "0.1", "0.0", "old"]))
def test_holes_are_read_back_in_every_form(pieces: list[tuple[int, bytes]], tail: int, form: str) -> None:
    """A map of any length comes back as it was written, and the entry after the file is found."""
    extents: list[tuple[int, bytes]] = []
    end = 0
    for gap, data in pieces:
        extents.append((end + gap, data))
        end += gap + len(data)
    if form == "old":
        made = sparse_old("f", end + tail, extents)
    elif form == "1.0":
        made = sparse_1_0("f", end + tail, extents)
    else:
        extents = extents or [(0, b"")]
        made = sparse_0("f", end + tail, extents, minor=int(form[-1]))
    source = Source(iter([made + header("next") + bytes(1024)]))
    walker = tar.entries(source)
    entry = next(walker)
    assert entry.sparse is not None and (entry.name, entry.kind, entry.sparse.size_bytes) == (
        b"f",
        tar.FILE,
        end + tail,
    )
    assert list(entry.sparse.extents) == [(offset, len(data)) for offset, data in extents]
    assert source.exactly(entry.size_bytes) == b"".join(data for _, data in extents)
    assert next(walker).name == b"next"


PATHS = st.lists(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0/"), min_size=1, max_size=60).filter(
        lambda part: part not in (".", "..")
    ),
    min_size=1,
    max_size=5,
).map("/".join)


@st.composite
def members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    """Return an entry as an honest program has it."""
    entry = tarfile.TarInfo(draw(PATHS))
    entry.type = draw(
        st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
    )
    entry.mode, entry.mtime = draw(st.integers(0, 0o7777)), draw(st.integers(0, 2**33 - 1))
    entry.uid, entry.gid = draw(st.integers(0, 2**31)), draw(st.integers(0, 70_000))
    data = draw(st.binary(max_size=1200)) if entry.isreg() else b""
    entry.size = len(data)
    if entry.issym() or entry.islnk():
        entry.linkname = draw(PATHS)
    if entry.ischr():
        entry.devmajor, entry.devminor = draw(st.integers(0, 4095)), draw(st.integers(0, 2**18))
    return entry, data


def facts(entry: tarfile.TarInfo, data: bytes) -> tuple[object, ...]:
    """Return what an entry says, as the walker reads it."""
    kind = tar.DIRECTORY if entry.isdir() else entry.type
    devices = (entry.devmajor, entry.devminor) if entry.ischr() else (0, 0)
    owner = (entry.uid, entry.gid, entry.mode, int(entry.mtime) * 10**9)
    return (entry.name.encode().rstrip(b"/"), kind, entry.linkname.encode(), owner, devices, data)


def read(archive: bytes) -> list[tuple[object, ...]]:
    """Return what the walker reads from an archive."""
    source = Source(iter([archive]))
    found: list[tuple[object, ...]] = []
    for entry in tar.entries(source):
        owner = (entry.uid, entry.gid, entry.mode, entry.mtime_ns)
        devices = (entry.major, entry.minor)
        found.append(
            (entry.name.rstrip(b"/"), entry.kind, entry.link, owner, devices, source.exactly(entry.size_bytes))
        )
    return found


@settings(max_examples=80, deadline=None)
@given(st.lists(members(), max_size=6), st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_what_python_writes_is_read_back(entries: list[tuple[tarfile.TarInfo, bytes]], form: int) -> None:
    """Entries of all types, with names and numbers of any length, come back from either format as they were written."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for entry, data in entries:
            archive.addfile(entry, io.BytesIO(data))
    assert read(out.getvalue()) == [facts(entry, data) for entry, data in entries]


@settings(max_examples=80, deadline=None)
@given(st.lists(members(), max_size=6))
def test_what_hythe_writes_is_read_back(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """The same for archives that Hythe itself writes; Python reads those alike."""
    out = b""
    for info, data in entries:
        entry = tar.Entry()
        entry.name, entry.kind, entry.link = info.name.encode(), info.type, info.linkname.encode()
        entry.mode, entry.uid, entry.gid, entry.mtime_ns = info.mode, info.uid, info.gid, int(info.mtime) * 10**9
        entry.major, entry.minor, entry.size_bytes = info.devmajor, info.devminor, len(data)
        out += writer.header(entry) + data + writer.padding(len(data))
    out += writer.END_MARK
    assert read(out) == [facts(entry, data) for entry, data in entries]
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        assert [entry.name for entry in archive] == [entry.name.rstrip("/") for entry, _ in entries]


@pytest.mark.parametrize("form", ["gnu", "posix", "ustar", "v7", "oldgnu"])
def test_what_gnu_tar_writes_is_read_back(tmp_path: Path, form: str) -> None:
    """GNU tar's formats are read alike: names, types, links and contents of a tree."""
    root = tmp_path / "root"
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "f").write_bytes(b"1" * 1000)
    (root / "d" / "g").hardlink_to(root / "d" / "f")
    (root / "d" / "l").symlink_to("f")
    if form in ("gnu", "posix", "oldgnu"):
        (root / ("n" * 120)).write_bytes(b"long")
        (root / "to").symlink_to("t" * 150)
    command = ["tar", "-C", str(root), f"--format={form}", "--sort=name", "-cf", "-", "."]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    ours = {(name, kind, link, data) for name, kind, link, _, _, data in read(archive)}
    theirs = set()
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        for entry in opened:
            kind = tar.DIRECTORY if entry.isdir() else entry.type if not entry.isreg() else tar.FILE
            file = opened.extractfile(entry) if entry.isreg() else None
            theirs.add((entry.name.encode(), kind, entry.linkname.encode(), file.read() if file else b""))
    assert ours == theirs and len(ours) >= 6


@pytest.mark.parametrize("cut", range(0, 9 * 512, 512))
@pytest.mark.parametrize("more", [0, 1, 300])
def test_archive_cut_anywhere_is_never_taken_for_more_than_it_is(cut: int, more: int) -> None:
    """At each border of a block, and beside it, an archive that ends is damaged or has the entries up to there."""
    whole = (
        header("a", size=700) + padded(b"1" * 700) + padded(b"") + sparse_1_0("s", 9999, [(5000, b"3")]) + header("z")
    )
    found, refused = walk(whole[: cut + more], 1000)
    ends = {"a": 512 + 700, "s": 1536 + 1024 + 512 + 512 + 1, "z": 1536 + 1024 + 512 + 1024 + 512}
    assert found <= sum(cut + more >= end - 700 * (name == "a") - 1 for name, end in ends.items())
    assert refused or found == sum(cut + more >= end for name, end in ends.items())
