"""Tar headers: the same entry gives the same bytes on every host and day."""

from __future__ import annotations

from hythe.archive import tar
from hythe.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class Header(Protocol):
        """What an entry says of itself; `hythe.archive.tar.Entry` is one."""

        @property
        def name(self) -> bytes: ...
        @property
        def kind(self) -> bytes: ...
        @property
        def size_bytes(self) -> int: ...
        @property
        def mode(self) -> int: ...
        @property
        def uid(self) -> int: ...
        @property
        def gid(self) -> int: ...
        @property
        def mtime_ns(self) -> int: ...
        @property
        def link(self) -> bytes: ...
        @property
        def major(self) -> int: ...
        @property
        def minor(self) -> int: ...
        @property
        def xattrs(self) -> Mapping[bytes, bytes]: ...


BLOCK_BYTES = 512

END_MARK = bytes(2 * BLOCK_BYTES)
_MAX_OCTAL = {8: 0o7777777, 12: 0o77777777777}
_PAX_NAME = b"pax"


def header(entry: Header) -> bytes:
    """Return the header of `entry`, with a pax header before it where ustar has no room; the data is to follow.

    An extended attribute with ``=`` in its name is left out, for a pax header can't hold it.

    Spec: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block".
    """
    name = entry.name + b"/" if entry.kind == tar.DIRECTORY else entry.name
    records = {b"SCHILY.xattr." + key: value for key, value in entry.xattrs.items() if b"=" not in key}
    if len(name) > 100:
        records[b"path"] = name
    if len(entry.link) > 100:
        records[b"linkpath"] = entry.link
    for key, value, width in ((b"size", entry.size_bytes, 12), (b"uid", entry.uid, 8), (b"gid", entry.gid, 8)):
        if value > _MAX_OCTAL[width]:
            records[key] = str(value).encode()
    if entry.mtime_ns % 10**9 or not 0 <= entry.mtime_ns // 10**9 <= _MAX_OCTAL[12]:
        records[b"mtime"] = _decimal(entry.mtime_ns)
    if not (_is_utf_8(name) and _is_utf_8(entry.link)) and (b"path" in records or b"linkpath" in records):
        records[b"hdrcharset"] = b"BINARY"
    block = _block(entry, name[:100], entry.kind, entry.size_bytes)
    if not records:
        return block
    data = b"".join(_record(key, value) for key, value in sorted(records.items()))
    return _block(_extension(), _PAX_NAME, b"x", len(data)) + data + padding(len(data)) + block


def _decimal(time_ns: int) -> bytes:
    """Return a time in seconds as pax writes it, with no more digits than it needs."""
    seconds, fraction_ns = divmod(abs(time_ns), 10**9)
    text = f"{seconds}.{fraction_ns:09d}".rstrip("0").rstrip(".")
    return f"-{text}".encode() if time_ns < 0 else text.encode()


def _is_utf_8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _extension() -> Header:
    entry = tar.Entry()
    entry.mode = 0o644
    return entry


def padding(size_bytes: int) -> bytes:
    """Return the zeros that fill the last block of `size_bytes` bytes of data."""
    return bytes(-size_bytes % BLOCK_BYTES)


def _block(entry: Header, name: bytes, kind: bytes, size_bytes: int) -> bytes:
    device = entry.kind in (tar.CHAR, tar.BLOCK)
    for number in (entry.major, entry.minor):
        if number > _MAX_OCTAL[8]:
            raise InvalidArgument(f"write archive: entry {tar.show(entry.name)} has a device number beyond all bounds")
    fields = (
        name.ljust(100, b"\0"),
        _octal(entry.mode, 8),
        _octal(entry.uid, 8),
        _octal(entry.gid, 8),
        _octal(size_bytes, 12),
        _octal(entry.mtime_ns // 10**9, 12),
        b" " * 8,
        kind,
        entry.link[:100].ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        _octal(entry.major, 8) if device else bytes(8),
        _octal(entry.minor, 8) if device else bytes(8),
        bytes(155 + 12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value if 0 <= value <= _MAX_OCTAL[width] else 0)


def _record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body
