"""Tar archives that no honest tool writes: headers and pax records made byte by byte, and streams without an end."""

from __future__ import annotations

import io
import tarfile


def entry(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    """Return an entry without data."""
    made = tarfile.TarInfo(name)
    made.type = kind
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def sealed(block: bytearray) -> bytes:
    """Return a header with its checksum made right."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def header_with(start: int, field: bytes) -> bytes:
    """Return an archive of one header in which bytes from `start` on are `field`, with the right checksum."""
    block = bytearray(entry("blob").tobuf(tarfile.USTAR_FORMAT))
    block[start : start + len(field)] = field
    return sealed(block) + bytes(1024)


def extended(records: bytes, name: bytes = b"x") -> bytes:
    """Return an archive whose one entry has the pax header `records`."""
    pax = entry("pax", b"x", size=len(records)).tobuf(tarfile.USTAR_FORMAT)
    return pax + records + bytes(-len(records) % 512) + header_with(0, name)


def record(key: bytes, value: bytes) -> bytes:
    """Return one pax record."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 2
    return str(length).encode() + body


class Endless(io.RawIOBase):
    """A stream that never ends: `start`, then `again` for ever."""

    def __init__(self, start: bytes, again: bytes) -> None:
        self._start, self._again = start, again
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        """Return the next piece."""
        piece, self._start = self._start or self._again, b""
        self.given += len(piece)
        return piece
