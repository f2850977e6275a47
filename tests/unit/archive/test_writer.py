"""Tar headers as they are written: read again by our own walker and by Python's, whatever stands in them."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.archive import tar
from hythe.archive.stream import Source
from hythe.archive.writer import END_MARK, header

NAMES = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name and not name.endswith(b"/"))


def entry(name: bytes = b"x", kind: bytes = tar.FILE, **fields: object) -> tar.Entry:
    """Return an entry with these fields."""
    made = tar.Entry()
    made.name, made.kind = name, kind
    for key, value in fields.items():
        setattr(made, key, value)
    return made


def read(data: bytes) -> tar.Entry:
    """Read the one entry of an archive with the walker."""
    [found] = tar.entries(Source(iter([data + END_MARK])))
    return found


@given(NAMES, st.binary(max_size=300).filter(lambda link: b"\0" not in link), st.integers(0, 2**63 - 1))
def test_names_links_and_times_come_back(name: bytes, link: bytes, time_ns: int) -> None:
    """Any name without a NUL, text or not, short or long, and any time since 1970 is read as it was written."""
    found = read(header(entry(name, tar.SYMLINK, link=link, mtime_ns=time_ns)))
    assert (found.name, found.link, found.mtime_ns) == (name, link, time_ns)


@pytest.mark.parametrize("time_ns", [-1, -500_000_000, -1_500_000_000, -(10**18)])
def test_time_before_1970_is_written_as_it_is(time_ns: int) -> None:
    """Others read a time before 1970 to the nanosecond that a float can hold."""
    data = header(entry(mtime_ns=time_ns)) + END_MARK
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        [member] = file.getmembers()
    assert member.mtime == pytest.approx(time_ns / 10**9, abs=1e-9)


def test_long_name_that_is_no_text_says_so() -> None:
    """A pax header whose names are not UTF-8 says that they are bytes, as POSIX wants it; others don't."""
    assert b"hdrcharset=BINARY" in header(entry(b"\xff" * 200))
    assert b"hdrcharset" not in header(entry("ä".encode() * 100))
    assert b"hdrcharset" not in header(entry(b"\xff"))


@given(st.dictionaries(st.sampled_from([b"user.a", b"security.capability"]), st.binary(min_size=1, max_size=50)))
def test_extended_attributes_come_back(xattrs: dict[bytes, bytes]) -> None:
    """Values of extended attributes are any bytes."""
    assert read(header(entry(xattrs=xattrs))).xattrs == xattrs
