"""The tar header walker: every form that other engines read, and nothing of what a hostile archive would like."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.archive import tar
from hythe.archive.failures import ArchiveError, DamagedError, LimitError
from hythe.archive.stream import Source

LONG = "d" * 120 + "/" + "n" * 130


def archive(*entries: tarfile.TarInfo, fmt: int = tarfile.PAX_FORMAT) -> bytes:
    """Return an archive of `entries`, whose files are as long as they say and full of x."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as file:
        for entry in entries:
            file.addfile(entry, io.BytesIO(b"x" * entry.size))
    return out.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    """Return a header with these fields."""
    made = tarfile.TarInfo(name)
    made.type = kind
    for key, value in fields.items():
        setattr(made, key, value)
    return made


def read(data: bytes, chunk_bytes: int = 1000) -> list[tar.Entry]:
    """Walk `data`, given in chunks that divide headers."""
    source = Source(data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes))
    found = []
    for item in tar.entries(source):
        source.skip(item.size_bytes)
        found.append(item)
    assert source.offset == len(data)
    return found


def header(data: bytes, **changes: bytes) -> bytes:
    """Return the archive `data` with fields of its first header changed and the checksum made right again."""
    places = {"name": 0, "mode": 100, "uid": 108, "gid": 116, "size": 124, "mtime": 136, "type": 156, "magic": 257}
    block = bytearray(data[:512])
    for field, value in changes.items():
        block[places[field] : places[field] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[512:]


@pytest.mark.parametrize("fmt", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_links_are_read_whole(fmt: int) -> None:
    """Names beyond the header's 100 bytes come whole, whichever way the archive carries them."""
    found = read(archive(entry(LONG, size=5), entry("short", tarfile.SYMTYPE, linkname=LONG), fmt=fmt))
    assert [(e.name, e.kind, e.link, e.size_bytes) for e in found] == [
        (LONG.encode(), tar.FILE, b"", 5),
        (b"short", tar.SYMLINK, LONG.encode(), 0),
    ]


def test_ustar_prefix_is_put_before_the_name() -> None:
    """A name divided over ustar's two fields is put together again."""
    name = "p" * 100 + "/" + "n" * 90
    assert read(archive(entry(name), fmt=tarfile.USTAR_FORMAT))[0].name == name.encode()


def test_pax_records_win_over_the_header() -> None:
    """Large ids, fractions of seconds and extended attributes come from the extension header."""
    made = entry("f", uid=3_000_000, gid=4_000_000, mtime=1.25, pax_headers={"SCHILY.xattr.user.a": "b=c\nd"})
    found = read(archive(made))[0]
    assert (found.uid, found.gid, found.mtime_ns) == (3_000_000, 4_000_000, 1_250_000_000)
    assert found.xattrs == {b"user.a": b"b=c\nd"}


def test_numbers_in_base_256_are_read() -> None:
    """GNU's binary numbers are read as large ids; one below zero is no owner."""
    data = header(archive(entry("f"), fmt=tarfile.GNU_FORMAT), uid=b"\x80\0\0\0\0\x30\x00\x00")
    assert read(data)[0].uid == 0x300000
    with pytest.raises(ArchiveError, match="out of range"):
        read(header(data, uid=b"\xff" * 8))


@pytest.mark.parametrize("seconds", [-5, 2**40])
def test_time_outside_what_can_be_stored_becomes_zero(seconds: int) -> None:
    """A date before 1970 or far in the future is set to 1970, as other engines do."""
    assert read(archive(entry("f", mtime=float(seconds)), fmt=tarfile.GNU_FORMAT))[0].mtime_ns == 0


def test_old_archive_without_magic_is_read() -> None:
    """A v7 archive has no magic; its directories are known by the slash."""
    data = header(archive(entry("d/"), fmt=tarfile.USTAR_FORMAT), magic=b"\0" * 8, type=b"\0")
    assert (read(data)[0].kind, read(data)[0].name) == (tar.DIRECTORY, b"d/")


def test_global_pax_header_is_left_out() -> None:
    """A global header changes nothing."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "evil"}) as file:
        file.addfile(entry("good"))
    assert [e.name for e in read(out.getvalue())] == [b"good"]


def test_signed_checksum_of_old_programs_is_accepted() -> None:
    """Programs that summed signed bytes made valid archives too."""
    data = bytearray(archive(entry("ä" * 10), fmt=tarfile.GNU_FORMAT))
    data[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in data[:512])
    data[148:156] = b"%06o\0 " % signed
    assert read(bytes(data))[0].name == "ä".encode() * 10


def test_bytes_after_the_end_mark_are_read_and_ignored() -> None:
    """What follows the end mark belongs to the layer's digest and to nothing else."""
    assert len(read(archive(entry("f")) + b"rubbish" * 200)) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": b"9z"}, "octal"),
        ({"size": b"\xff" * 12}, "below 0"),
        ({"type": b"V"}, "unknown"),
        ({"size": b"\x80\xff" + b"\xff" * 10}, "64 bits"),
        ({"uid": b"1_000\0"}, "octal"),
    ],
)
def test_hostile_header_is_refused(changes: dict[str, bytes], message: str) -> None:
    """A header that breaks its format is refused and says how."""
    with pytest.raises(ArchiveError, match=message):
        read(header(archive(entry("f"), fmt=tarfile.GNU_FORMAT), **changes))


def test_changed_byte_breaks_the_checksum() -> None:
    """A damaged header is noticed."""
    data = bytearray(archive(entry("f")))
    data[2] ^= 1
    with pytest.raises(ArchiveError, match="checksum"):
        read(bytes(data))


def pax(records: bytes) -> bytes:
    """Return an archive whose first entry has these pax records."""
    carrier = archive(entry("h", tarfile.XHDTYPE, size=0), fmt=tarfile.USTAR_FORMAT)[:512]
    carrier = header(carrier, size=b"%011o\0" % len(records), type=b"x")
    return carrier + records + bytes(-len(records) % 512) + archive(entry("f"))


@pytest.mark.parametrize(
    "records",
    [
        b"5 a=b\n",
        b"99 path=x\n",
        b"x path=y\n",
        b"8 path=y\n\n",
        b"7 pathy\n",
        b"12 path=a\0b\n",
        b"12 size=-12\n",
        b"12 uid=1e3\n\n",
        b"11 mtime=x\n",
        b"13 mtime=--5\n",
        b"14 mtime=1.5x\n",
        b"13 a\0b=value\n",
        b"14 uname=a\0b\n\n",
        b"25 size=9223372036854775808\n",
    ],
)
def test_malformed_pax_record_is_refused(records: bytes) -> None:
    """A record whose length, form or value is wrong never passes."""
    with pytest.raises(ArchiveError):
        read(pax(records))


def test_huge_extension_header_is_refused_unread() -> None:
    """A header that announces 8 GiB of names is refused before anything is read of them."""
    carrier = header(archive(entry("h"), fmt=tarfile.USTAR_FORMAT)[:512], size=b"77777777777\0", type=b"x")
    with pytest.raises(LimitError, match="extension"):
        read(carrier)


def test_path_beyond_the_kernels_limit_is_refused() -> None:
    """No kernel call takes a longer path."""
    with pytest.raises(LimitError, match="4095"):
        read(archive(entry("a/" * 2100)))


@pytest.mark.parametrize("cut", [100, 512, 700, 512 + 699, 1536 + 511])
def test_archive_that_ends_early_is_damaged(cut: int) -> None:
    """An archive cut within an entry is never taken for whole."""
    data = archive(entry("a", size=700), entry("b", size=9))
    with pytest.raises(DamagedError):
        read(data[:cut] if cut != 512 else data[:600])


def test_archive_without_end_mark_is_whole() -> None:
    """Some programs leave the end mark out; an archive that ends between entries is whole."""
    assert len(read(archive(entry("a", size=512))[:1024])) == 1


def test_zero_block_amid_the_archive_is_refused() -> None:
    """One block of zeros followed by more is no end mark, but a place to hide entries from other readers."""
    with pytest.raises(ArchiveError, match="zeros"):
        read(bytes(512) + archive(entry("a")))


def test_extension_header_at_the_end_is_refused() -> None:
    """A name without an entry is a damaged archive."""
    with pytest.raises(DamagedError, match="extension"):
        read(pax(b"10 path=a\n")[:1024])


@given(st.binary(max_size=3000), st.integers(1, 700))
def test_any_bytes_are_read_or_refused(data: bytes, chunk_bytes: int) -> None:
    """Whatever the bytes, the walker ends with entries or with one of its own errors."""
    try:
        read(data, chunk_bytes)
    except (ArchiveError, DamagedError, LimitError):
        pass


@given(st.data())
def test_changed_archive_is_read_or_refused(data: st.DataObject) -> None:
    """A valid archive with a few bytes changed, checksum made right, never raises anything but the walker's errors."""
    made = bytearray(archive(entry("dir/", tarfile.DIRTYPE), entry(LONG, size=600), entry("l", tarfile.LNKTYPE)))
    for _ in range(data.draw(st.integers(1, 6))):
        made[data.draw(st.integers(0, len(made) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(header(bytes(made)))
    except (ArchiveError, DamagedError, LimitError):
        pass
