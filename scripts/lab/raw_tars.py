"""Archives made byte by byte, entry after entry, so that the same calls give the same bytes with any version of anything.

Honest programs don't write half of what these can hold; what other engines make of it is what the cases are for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

USTAR, GNU, V7 = b"ustar\x0000", b"ustar  \0", bytes(8)
Text = str | bytes
_BLOCK = 512
_END = bytes(2 * _BLOCK)


def as_bytes(text: Text) -> bytes:
    """Return a name as the bytes that an archive has."""
    return text.encode() if isinstance(text, str) else text


def header(
    name: Text,
    kind: bytes = b"0",
    *,
    size: int = 0,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime_s: int = 0,
    link: Text = b"",
    device: tuple[int, int] = (0, 0),
    magic: bytes = USTAR,
    fields: Mapping[int, bytes] | None = None,
) -> bytes:
    """Return one header with a right checksum; `fields` are written over it at their offsets before that is made."""
    block = bytearray(_BLOCK)
    numbers = [(100, mode, 8), (108, uid, 8), (116, gid, 8), (124, size, 12), (136, mtime_s, 12)]
    if magic != V7:
        numbers += [(329, device[0], 8), (337, device[1], 8)]
    for start, value, width in numbers:
        block[start : start + width] = number(value, width)
    for start, text in ((0, as_bytes(name)[:100]), (156, kind), (157, as_bytes(link)[:100]), (257, magic)):
        block[start : start + len(text)] = text
    for start, text in (fields or {}).items():
        block[start : start + len(text)] = text
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def number(value: int, width: int) -> bytes:
    """Return a numeric field: octal where that has room, else in base 256."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return (value & ((1 << 8 * width) - 1) | 0x80 << 8 * (width - 1)).to_bytes(width, "big")


def record(key: Text, value: Text) -> bytes:
    """Return one pax record."""
    body = b" " + as_bytes(key) + b"=" + as_bytes(value) + b"\n"
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


def padded(data: bytes) -> bytes:
    """Return `data` filled up to whole blocks."""
    return data + bytes(-len(data) % _BLOCK)


class Tar:
    """An archive that grows by each call, which returns the archive itself; `end` gives its bytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def raw(self, data: bytes) -> Self:
        """Add bytes as they are."""
        self._parts.append(data)
        return self

    def entry(self, name: Text, kind: bytes, data: bytes = b"", **fields: Any) -> Self:
        """Add a header and `data`; `fields` are those of `header`."""
        return self.raw(header(name, kind, **{"size": len(data), **fields}) + padded(data))

    def pax(self, *records: tuple[Text, Text], kind: bytes = b"x", name: Text = "pax") -> Self:
        """Add an extension header for the entry that follows."""
        return self.entry(name, kind, b"".join(record(key, value) for key, value in records))

    def xattrs(self, **values: Text) -> Self:
        """Give the entry that follows extended attributes; ``__`` in a name stands for its dot."""
        return self.pax(*((f"SCHILY.xattr.{key.replace('__', '.')}", value) for key, value in values.items()))

    def long(self, kind: bytes, text: Text) -> Self:
        """Add GNU's header of a long name (``L``) or link (``K``) for the entry that follows."""
        return self.entry("././@LongLink", kind, as_bytes(text) + b"\0", magic=GNU)

    def file(self, name: Text, data: bytes = b"", **fields: Any) -> Self:
        """Add a regular file."""
        return self.entry(name, b"0", data, **fields)

    def directory(self, name: Text, mode: int = 0o755, **fields: Any) -> Self:
        """Add a directory."""
        return self.entry(name, b"5", mode=mode, **fields)

    def symlink(self, name: Text, target: Text, **fields: Any) -> Self:
        """Add a symbolic link."""
        return self.entry(name, b"2", link=target, mode=0o777, **fields)

    def hardlink(self, name: Text, target: Text, mode: int = 0o644, **fields: Any) -> Self:
        """Add a second name of `target`."""
        return self.entry(name, b"1", link=target, mode=mode, **fields)

    def device(self, name: Text, kind: bytes, major: int, minor: int, mode: int = 0o600, **fields: Any) -> Self:
        """Add a device, or a named pipe for kind ``6``."""
        return self.entry(name, kind, device=(major, minor), mode=mode, **fields)

    def end(self) -> bytes:
        """Return the archive with its end mark."""
        return b"".join(self._parts) + _END

    def unfinished(self) -> bytes:
        """Return the archive without an end mark."""
        return b"".join(self._parts)


def sparse_1_0(name: Text, whole: int, extents: Sequence[tuple[int, bytes]]) -> bytes:
    """Return a file with holes as GNU tar's ``--sparse-version=1.0`` writes it: the map stands before the data."""
    numbers = [len(extents), *(n for offset, data in extents for n in (offset, len(data)))]
    leading = padded(b"".join(b"%d\n" % n for n in numbers))
    records = (("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", name))
    made = Tar().pax(*records, ("GNU.sparse.realsize", str(whole)))
    return made.file("GNUSparseFile.0/x", leading + b"".join(data for _, data in extents)).unfinished()


def sparse_0(name: Text, whole: int, extents: Sequence[tuple[int, bytes]], *, minor: int) -> bytes:
    """Return a file with holes as ``--sparse-version=0.0`` or ``0.1`` writes it: the map is in pax records."""
    numbers = [n for offset, data in extents for n in (offset, len(data))]
    records: list[tuple[Text, Text]] = [("GNU.sparse.size", str(whole)), ("GNU.sparse.numblocks", str(len(extents)))]
    if minor == 0:
        keys = ("GNU.sparse.offset", "GNU.sparse.numbytes")
        records += [(keys[i % 2], str(n)) for i, n in enumerate(numbers)]
        name_of_header = name
    else:
        records += [("GNU.sparse.name", name), ("GNU.sparse.map", ",".join(map(str, numbers)))]
        name_of_header = "GNUSparseFile.0/x"
    return Tar().pax(*records).file(name_of_header, b"".join(data for _, data in extents)).unfinished()


def sparse_old(name: Text, whole: int, extents: Sequence[tuple[int, bytes]]) -> bytes:
    """Return a file with holes as GNU tar's own format has it: four places of the map in the header, 21 in each block more."""
    places = [number(offset, 12) + number(len(data), 12) for offset, data in extents]
    data = b"".join(data for _, data in extents)
    rest = [places[at : at + 21] for at in range(4, len(places), 21)]
    fields = {386: b"".join(places[:4]), 482: b"\1" if rest else b"\0", 483: number(whole, 12)}
    made = header(name, b"S", size=len(data), magic=GNU, fields=fields)
    for i, block in enumerate(rest):
        made += b"".join(block).ljust(504, b"\0") + (b"\1" if i + 1 < len(rest) else b"\0") + bytes(7)
    return made + padded(data)
