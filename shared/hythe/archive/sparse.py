"""Files with holes: where the data that an archive has belongs in the file, in each form that GNU tar writes.

Spec: GNU tar manual, "Storing Sparse Files"; the checks are those of Go's archive/tar.
"""

from __future__ import annotations

from hythe.archive import pax
from hythe.archive.failures import ArchiveError, DamagedError, LimitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hythe.archive.stream import Source

MAX_MAP_BYTES = 1024 * 1024
_BLOCK_BYTES = 512
_MAJOR, _MINOR, _NAME = b"GNU.sparse.major", b"GNU.sparse.minor", b"GNU.sparse.name"
_SIZE, _REAL_SIZE, _COUNT = b"GNU.sparse.size", b"GNU.sparse.realsize", b"GNU.sparse.numblocks"
_VERSIONS = {(b"0", b"0"): 0, (b"0", b"1"): 0, (b"1", b"0"): 1}
_PLACE_BYTES = 24
_IN_HEADER, _HEADER_START, _HEADER_MORE, _REAL_SIZE_START = 4, 386, 482, 483
_IN_BLOCK, _BLOCK_MORE = 21, 504


class Sparse:
    """A file with holes.

    Attributes:
        size_bytes: size of the file, holes included.
        extents: (offset, bytes) of each piece of data, in order and apart from each other; the archive has all of them
            one after the other.
    """

    __slots__ = ("extents", "size_bytes")

    def __init__(self, size_bytes: int, extents: Sequence[tuple[int, int]]) -> None:
        self.size_bytes = size_bytes
        self.extents = extents


def told_by(records: Mapping[bytes, bytes]) -> bool:
    """Tell whether pax records say that a file has holes, in a version that is known."""
    version = _version(records)
    return version in _VERSIONS or (not any(version) and bool(records.get(pax.SPARSE_MAP)))


def _version(records: Mapping[bytes, bytes]) -> tuple[bytes, bytes]:
    return records.get(_MAJOR, b""), records.get(_MINOR, b"")


def of_records(source: Source, records: Mapping[bytes, bytes], size: int) -> tuple[Sparse, int]:
    """Return what pax records say of holes, if `told_by` says that they do, and how many bytes of data are left.

    Args:
        source: positioned at the file's data, whose first blocks may be the map.
        records: those of the file.
        size: bytes of data in the archive, map included.

    Raises:
        ArchiveError: the map contradicts itself or the sizes.
        LimitError: the map has more than 1 MiB.
        DamagedError: the archive ends within the map.
    """
    size_key = _SIZE if records.get(_SIZE) else _REAL_SIZE
    whole = pax.integer(size_key, records[size_key]) if records.get(size_key) else size
    if _VERSIONS.get(_version(records)) == 1:
        extents, size = _leading_map(source, size)
    else:
        text = records.get(pax.SPARSE_MAP, b"")
        numbers = text.split(b",") if text else []
        if len(numbers) != 2 * pax.integer(_COUNT, records.get(_COUNT, b"")):
            raise ArchiveError("pax records of a sparse file: the map has another length than they say")
        extents = _pairs([pax.integer(pax.SPARSE_MAP, number) for number in numbers])
    return Sparse(whole, _checked(extents, whole, size)), size


def name(records: Mapping[bytes, bytes]) -> bytes:
    """Return the name that a file with holes has beside the one for programs that don't know them; may be empty."""
    return records.get(_NAME, b"")


def of_header(source: Source, block: bytes, size: int, number: Callable[[bytes, str], int]) -> Sparse:
    """Return the holes that GNU's old header and the blocks after it tell of.

    Args:
        source: positioned after the header.
        block: the header.
        size: bytes of data in the archive.
        number: reads a numeric field.

    Raises:
        ArchiveError: the map contradicts itself or the sizes.
        LimitError: the map has more than 1 MiB.
        DamagedError: the archive ends within the map.
    """
    whole = number(block[_REAL_SIZE_START : _REAL_SIZE_START + 12], "size of a sparse file")
    numbers: list[int] = []
    at, places, more, taken = _HEADER_START, _IN_HEADER, _HEADER_MORE, 0
    while True:
        for start in range(at, at + places * _PLACE_BYTES, _PLACE_BYTES):
            if block[start] == 0:
                break
            numbers.append(number(block[start : start + 12], "offset in a sparse file"))
            numbers.append(number(block[start + 12 : start + 24], "length in a sparse file"))
        if block[more] == 0:
            return Sparse(whole, _checked(_pairs(numbers), whole, size))
        taken += _BLOCK_BYTES
        if taken > MAX_MAP_BYTES:
            raise LimitError(f"map of a sparse file has more than {MAX_MAP_BYTES} bytes")
        block = source.exactly(_BLOCK_BYTES)
        at, places, more = 0, _IN_BLOCK, _BLOCK_MORE


def _leading_map(source: Source, size: int) -> tuple[list[tuple[int, int]], int]:
    """Read the map that stands before the data: decimal lines, their number first, filled up to a whole block."""
    lines, wanted = 0, 1
    pieces: list[bytes] = []
    taken = 0
    while lines < wanted:
        if taken + _BLOCK_BYTES > min(size, MAX_MAP_BYTES):
            if taken + _BLOCK_BYTES > size:
                raise DamagedError("map of a sparse file: its data ends within the map")
            raise LimitError(f"map of a sparse file has more than {MAX_MAP_BYTES} bytes")
        piece = source.exactly(_BLOCK_BYTES)
        pieces.append(piece)
        taken += _BLOCK_BYTES
        lines += piece.count(b"\n")
        if wanted == 1 and lines:
            wanted = 1 + 2 * pax.integer(_COUNT, b"".join(pieces).partition(b"\n")[0])
    text = b"".join(pieces)
    numbers = text.split(b"\n", wanted)[1:wanted]
    return _pairs([pax.integer(pax.SPARSE_MAP, number) for number in numbers]), size - taken


def _pairs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _checked(extents: list[tuple[int, int]], whole: int, size: int) -> list[tuple[int, int]]:
    """Return `extents` if they lie in order within a file of `whole` bytes and take all `size` bytes of data."""
    end = total = 0
    for offset, length in extents:
        if offset < end or length < 0:
            raise ArchiveError("map of a sparse file: its pieces overlap or are out of order")
        end = offset + length
        total += length
    if end > whole:
        raise ArchiveError("map of a sparse file: a piece lies beyond its end")
    if total != size:
        raise ArchiveError(f"map of a sparse file: it tells of {total} bytes, the archive has {size}")
    return extents
