"""The bytes of a journal segment: frames with checksums, and how a torn end is told from damage.

A frame holds lines (one entry each) and says up to which offset the segment was known to be on disk when it was
written. Bytes that make no frame are the torn end of the last write, unless a later frame says that they had been on
disk: then the disk lost what it had taken. A frame's checksum covers the segment's number, so that what an earlier use
of the same blocks left behind is never taken for part of this one.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from hythe.errors import DataLoss

MAGIC = b"HyJ1"
MAX_PAYLOAD_BYTES = 1 << 20
_HEADER = struct.Struct("<4sIIQII")  # magic, checksum, payload bytes, serial, durable up to, part
_AFTER_CHECKSUM = 8
HEADER_BYTES = _HEADER.size


class Part(IntEnum):
    """What a frame is part of: entries as they came, or a snapshot that replaces all before it."""

    ENTRIES = 0
    SNAPSHOT = 1
    SNAPSHOT_FIRST = 2
    SNAPSHOT_LAST = 4


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as read."""

    serial: int
    durable_upto: int
    part: int
    payload: bytes
    end: int


def encode(number: int, serial: int, durable_upto: int, part: int, payload: bytes) -> bytes:
    """Return the frame with serial `serial` of segment `number`."""
    head = _HEADER.pack(MAGIC, 0, len(payload), serial, durable_upto, part)
    checksum = _checksum(number, head[_AFTER_CHECKSUM:], payload)
    return head[:4] + struct.pack("<I", checksum) + head[_AFTER_CHECKSUM:] + payload


def read(data: bytes, number: int, serial: int | None, name: str) -> list[Frame]:
    """Return the frames of segment `number`.

    Args:
        serial: serial that the first frame must have; None for any.
        name: what to call the segment in errors.

    Raises:
        DataLoss: something that was on disk is damaged, or frames are missing.
    """
    frames: list[Frame] = []
    position = 0
    while (frame := _at(data, position, number)) is not None:
        if serial is not None and frame.serial != serial:
            raise DataLoss(f"read {name}: expected frame {serial} at byte {position}, found {frame.serial}")
        frames.append(frame)
        serial, position = frame.serial + 1, frame.end
    later = _durable_beyond(data, position, number)
    if later > position:
        raise DataLoss(
            f"read {name}: damaged at byte {position}, though it had been written up to byte {later}",
            next_step="restore the agent's journal directory from a backup, or move it away: "
            "running containers go on, but the agent will not know them",
        )
    return frames


def _checksum(number: int, head: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(head, zlib.crc32(number.to_bytes(8, "little"))))


def _at(data: bytes, position: int, number: int) -> Frame | None:
    start = position + HEADER_BYTES
    if start > len(data) or data[position : position + 4] != MAGIC:
        return None
    _, checksum, size, serial, durable_upto, part = _HEADER.unpack_from(data, position)
    if size > MAX_PAYLOAD_BYTES or start + size > len(data):
        return None
    payload = data[start : start + size]
    if _checksum(number, data[position + _AFTER_CHECKSUM : start], payload) != checksum:
        return None
    return Frame(serial, durable_upto, part, payload, start + size)


def _durable_beyond(data: bytes, position: int, number: int) -> int:
    """Return the highest durable mark of any frame after `position`, or 0."""
    highest = 0
    found = data.find(MAGIC, position)
    while found >= 0:
        frame = _at(data, found, number)
        if frame is not None:
            highest = max(highest, frame.durable_upto)
        found = data.find(MAGIC, found + 1)
    return highest
