"""The records of a pax header, by the rules of Go's archive/tar, for that is what other engines read layers with."""

from __future__ import annotations

from hythe.archive.failures import ArchiveError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SPARSE_MAP = b"GNU.sparse.map"
_SPARSE_PAIR = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
_TEXTS = frozenset((b"path", b"linkpath", b"uname", b"gname", b"GNU.sparse.name"))


def records(data: bytes) -> dict[bytes, bytes]:
    """Return the records of one header by key: of one key the last counts. An empty value means: as the other header says.

    The pairs of GNU's first sparse format, which repeats keys, come as the one map of its second.

    Raises:
        ArchiveError: a record breaks the format, a key or a name has a NUL, or sparse pairs are out of order.

    Spec: POSIX.1-2017, pax, "pax Extended Header".
    """
    found: dict[bytes, bytes] = {}
    pairs: list[bytes] = []
    for key, value in _each(data):
        if b"\0" in (value if key in _TEXTS else key):
            raise ArchiveError(f"pax record {key[:100]!r}: has a NUL")
        if key in _SPARSE_PAIR:
            if key != _SPARSE_PAIR[len(pairs) % 2] or b"," in value:
                raise ArchiveError("pax records of a sparse file are out of order")
            pairs.append(value)
        else:
            found[key] = value
    if pairs:
        found[SPARSE_MAP] = b",".join(pairs)
    return found


def _each(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = data[at:space] if space > 0 else b""
        end = at + int(length) if length.isdigit() else 0
        if end <= space + 1 or end > len(data) or data[end - 1] != 0x0A:
            raise ArchiveError(f"pax record at byte {at} of its header is malformed")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not key or not equals:
            raise ArchiveError(f"pax record at byte {at} of its header is malformed")
        yield key, value
        at = end


def integer(key: bytes, value: bytes) -> int:
    """Return a whole number of at most 63 bits that is not below 0.

    Raises:
        ArchiveError: `value` is none.
    """
    digits = value.removeprefix(b"+")
    if not digits.isdigit() or len(digits) > 19 or (number := int(digits)) >= 1 << 63:
        raise ArchiveError(f"pax record {key.decode()}: {value[:30]!r} is no number")
    return number


def time_ns(value: bytes) -> int:
    """Return a time in nanoseconds since 1970, below 0 for one before; what is finer is cut off.

    Raises:
        ArchiveError: `value` is no time.
    """
    whole, _, fraction = value.partition(b".")
    sign = -1 if whole.startswith(b"-") else 1
    digits = whole[1:] if sign < 0 else whole
    if not digits.isdigit() or len(digits) > 19 or (fraction and not fraction.isdigit()):
        raise ArchiveError(f"pax record mtime: {value[:30]!r} is no time")
    return sign * (int(digits) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0") or b"0"))
