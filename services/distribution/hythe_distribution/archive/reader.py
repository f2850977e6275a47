"""The entries of a tar archive that a stranger wrote: v7, ustar, pax and GNU headers, each number and name within bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hythe.errors import DataLoss, InvalidArgument
from hythe.oci.descriptor import MAX_BLOB_BYTES
from hythe_distribution.archive.source import Source

BLOCK_BYTES = 512
MAX_PATH_BYTES = 4095
MAX_EXTENSION_BYTES = 1 << 20
MAX_ID = 2**32 - 2
FILE, LINK, SYMLINK, CHARACTER, BLOCK, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_KINDS = frozenset((FILE, LINK, SYMLINK, CHARACTER, BLOCK, DIRECTORY, FIFO))
_ZEROS = bytes(BLOCK_BYTES)
_XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; names are bytes as the archive spells them, cleaned by `clean`. Only a FILE has data.

    Attributes:
        name: relative, without ``.``, ``..`` and empty parts; empty for the archive's own root.
        link: target of a LINK or SYMLINK as the archive spells it.
        mtime_ns: nanoseconds since 1970, 0 for what is earlier.
        xattrs: extended attributes by name.
    """

    name: bytes
    kind: bytes = FILE
    size_bytes: int = 0
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict, hash=False)


def entries(source: Source) -> Iterator[Entry]:
    """Yield each entry of the archive; what the consumer leaves of a file's data is skipped.

    When the iterator ends normally, the archive's end mark was there and the stream is read to its end.

    Raises:
        InvalidArgument: a header breaks its format or a bound, an entry is sparse or of an unknown kind, or a name is
            absolute or leaves the archive.
        DataLoss: the archive ends before its end mark.

    Spec: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block".
    """
    long_name = long_link = b""
    pax: dict[bytes, bytes] = {}
    if source.at_end():
        raise InvalidArgument("read archive: it is empty")
    while (block := source.take(BLOCK_BYTES)) != _ZEROS:
        _check_sum(block, source.offset - BLOCK_BYTES)
        kind, size_bytes = block[156:157], _number(block[124:136], "size")
        if kind in b"LKxg":
            data = _extension(source, size_bytes)
            if kind == b"L":
                long_name = _text(data)
            elif kind == b"K":
                long_link = _text(data)
            elif kind == b"x":
                pax.update(_pax_records(data))
            continue  # records for all that follows (g) are left out, as other engines do
        entry = _entry(block, kind, size_bytes, pax, long_name, long_link)
        long_name, long_link, pax = b"", b"", {}
        end = source.offset + entry.size_bytes
        yield entry
        source.skip(end - source.offset)
        source.skip(-end % BLOCK_BYTES)
        if source.at_end():
            raise DataLoss(f"read archive: it ends without its end mark, at byte {source.offset}")
    if not source.at_end() and source.take(BLOCK_BYTES) != _ZEROS:
        raise InvalidArgument(f"read archive: data after a block of zeros, at byte {source.offset - BLOCK_BYTES}")
    source.finish()


def clean(name: bytes) -> bytes:
    """Return a name from an archive as a relative path without ``.`` and empty parts; empty for the archive's root.

    Raises:
        InvalidArgument: it is absolute, has a ``..`` or a NUL.
    """
    if name.startswith(b"/") or b"\0" in name:
        raise InvalidArgument(f"read archive: entry {show(name)} has an absolute name or a NUL in it")
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise InvalidArgument(f"read archive: entry {show(name)} leaves the archive")
    return b"/".join(parts)


def show(name: bytes) -> str:
    """Return a name as text that is safe in a message: printable, at most 200 bytes of it."""
    return repr(name[:200])[1:] + ("…" if len(name) > 200 else "")


def _entry(
    block: bytes, kind: bytes, size_bytes: int, pax: Mapping[bytes, bytes], long_name: bytes, long_link: bytes
) -> Entry:
    raw_name = pax.get(b"path") or long_name or _header_name(block)
    if b"\0" in pax.get(b"path", b"") or any(key.startswith(_SPARSE) for key in pax):
        raise InvalidArgument(f"read archive: entry {show(raw_name)} has a NUL in its name or is sparse")
    link = pax.get(b"linkpath") or long_link or _text(block[157:257])
    if kind in (b"\0", b"7"):
        kind = DIRECTORY if kind == b"\0" and raw_name.endswith(b"/") else FILE
    if kind not in _KINDS:
        raise InvalidArgument(f"read archive: entry {show(raw_name)} is sparse or of unknown type {kind!r}")
    if len(raw_name) > MAX_PATH_BYTES or len(link) > MAX_PATH_BYTES:
        raise InvalidArgument(f"read archive: entry {show(raw_name)} has a path of more than {MAX_PATH_BYTES} bytes")
    size_bytes = _pax_number(pax, b"size", size_bytes) if kind == FILE else 0
    uid = _pax_number(pax, b"uid", _number(block[108:116], "uid"))
    gid = _pax_number(pax, b"gid", _number(block[116:124], "gid"))
    if size_bytes > MAX_BLOB_BYTES or uid > MAX_ID or gid > MAX_ID:
        raise InvalidArgument(f"read archive: entry {show(raw_name)} has a size or an owner beyond all bounds")
    device = kind in (CHARACTER, BLOCK)
    return Entry(
        clean(raw_name),
        kind,
        size_bytes,
        _number(block[100:108], "mode") & 0o7777,
        uid,
        gid,
        _time_ns(pax, block[136:148]),
        link,
        _number(block[329:337], "device number") if device else 0,
        _number(block[337:345], "device number") if device else 0,
        {key[len(_XATTR) :]: value for key, value in pax.items() if key.startswith(_XATTR)},
    )


def _check_sum(block: bytes, offset: int) -> None:
    stored = block[148:156].strip(b" \0")
    if stored.lstrip(b"0") != b"%o" % (sum(block) - sum(block[148:156]) + 8 * ord(" ")):
        what = "it is no tar archive" if offset == 0 else f"the header at byte {offset} is damaged"
        raise InvalidArgument(
            f"read archive: {what}",
            next_step="give an OCI layout, a docker-archive, a dir: directory or an ACI as tar, compressed or not",
        )


def _number(field: bytes, what: str) -> int:
    """Read octal digits, or GNU's and star's base 256, which may be negative."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ~(0x80 << 8 * (len(field) - 1))
        if field[0] & 0x40:
            raise InvalidArgument(f"read archive: a header's {what} is below 0")
        return value
    digits = field.strip(b" \0").partition(b"\0")[0]
    if not digits:
        return 0
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise InvalidArgument(f"read archive: a header's {what} {show(digits)} is no octal number")
    return int(digits, 8)


def _time_ns(pax: Mapping[bytes, bytes], field: bytes) -> int:
    text = pax.get(b"mtime", b"")
    whole, _, fraction = text.partition(b".")
    if not text:
        if field[0] & 0xC0 == 0xC0:
            return 0
        return min(_number(field, "mtime"), 2**33) * 10**9
    if whole.startswith(b"-"):
        return 0
    if not whole.isdigit() or len(whole) > 12 or (fraction and not fraction.isdigit()):
        raise InvalidArgument(f"read archive: pax record mtime {show(text)} is no time")
    return int(whole) * 10**9 + int(fraction[:9].ljust(9, b"0"))


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _header_name(block: bytes) -> bytes:
    name, prefix = _text(block[:100]), _text(block[345:500])
    return prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name


def _extension(source: Source, size_bytes: int) -> bytes:
    if size_bytes > MAX_EXTENSION_BYTES:
        raise InvalidArgument(
            f"read archive: an extension header of {size_bytes} bytes, more than {MAX_EXTENSION_BYTES}"
        )
    data = source.take(size_bytes)
    source.skip(-size_bytes % BLOCK_BYTES)
    return data


def _pax_records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = data[at:space] if space > at else b""
        end = at + int(length) if length.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not space < end <= len(data) or data[end - 1 : end] != b"\n" or not key or not equals:
            raise InvalidArgument(f"read archive: a pax record at byte {at} of its header is malformed")
        yield key, value
        at = end


def _pax_number(pax: Mapping[bytes, bytes], key: bytes, otherwise: int) -> int:
    text = pax.get(key, b"")
    if not text:
        return otherwise
    if not text.isdigit() or len(text) > 19:
        raise InvalidArgument(f"read archive: pax record {key.decode()} {show(text)} is no number")
    return int(text)
