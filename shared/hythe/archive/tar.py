"""The headers of a tar archive: what one entry says, read from bytes that a stranger wrote.

Formats: v7, ustar, pax, GNU (long names, base-256 numbers) and star's ustar prefix, as Go's archive/tar reads them, for
that is what other engines apply layers with. Sparse entries are refused.
"""

from __future__ import annotations

from hythe.archive.failures import ArchiveError, LimitError
from hythe.archive.stream import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PATH_BYTES = 4095
MAX_EXTENSION_BYTES = 1024 * 1024
MAX_ID = 2**32 - 2
_MAX_TIME_NS = 2**63 - 1
_ZEROS = bytes(512)
_XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."

FILE, LINK, SYMLINK, CHAR, BLOCK, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_KINDS = frozenset((FILE, LINK, SYMLINK, CHAR, BLOCK, DIRECTORY, FIFO))


class Entry:
    """One entry. Names are bytes as the archive spells them, without a NUL; `size_bytes` bytes of data follow a FILE."""

    __slots__ = ("gid", "kind", "link", "major", "minor", "mode", "mtime_ns", "name", "size_bytes", "uid", "xattrs")

    def __init__(self) -> None:
        self.name = b""
        self.kind = FILE
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.size_bytes = 0
        self.mtime_ns = 0
        self.link = b""
        self.major = 0
        self.minor = 0
        self.xattrs: dict[bytes, bytes] = {}


def entries(source: Source) -> Iterator[Entry]:
    """Yield each entry of the archive; the consumer reads exactly `size_bytes` bytes of a FILE before it asks for the next.

    Padding after the data is skipped here. Everything after the end mark is read too.

    Raises:
        ArchiveError: a header breaks its format, or is of a kind that Hythe refuses.
        LimitError: a path is longer than 4095 bytes, or extension headers of one entry than 1 MiB.
        DamagedError: the archive ends within an entry.
    """
    long_name = long_link = b""
    pax: dict[bytes, bytes] = {}
    while block := source.block():
        if block == _ZEROS:
            following = source.block()
            if following and following != _ZEROS:
                raise ArchiveError(f"tar header at byte {source.offset - 512}: data after a block of zeros")
            source.drain()
            return
        _check_sum(block, source.offset - 512)
        kind = block[156:157]
        size = _number(block[124:136], "size")
        if size < 0:
            raise ArchiveError(f"tar header at byte {source.offset - 512}: size below 0")
        if kind == b"L":
            long_name = _text(_extension(source, size))
        elif kind == b"K":
            long_link = _text(_extension(source, size))
        elif kind == b"x":
            pax.update(_pax_records(_extension(source, size)))
        elif kind == b"g":
            _extension(source, size)  # global records are left out, as other engines do
        else:
            entry = _entry(block, kind, size, pax, long_name, long_link)
            long_name = long_link = b""
            pax = {}
            yield entry
            if entry.size_bytes & 511:
                source.skip(512 - (entry.size_bytes & 511))
    if pax or long_name or long_link:
        raise ArchiveError("the archive ends after an extension header")


def _entry(block: bytes, kind: bytes, size: int, pax: dict[bytes, bytes], long_name: bytes, long_link: bytes) -> Entry:
    entry = Entry()
    entry.name = long_name or _name(block)
    entry.link = long_link or _text(block[157:257])
    entry.mode = _number(block[100:108], "mode") & 0o7777
    entry.uid = _number(block[108:116], "uid")
    entry.gid = _number(block[116:124], "gid")
    entry.mtime_ns = _number(block[136:148], "mtime") * 1_000_000_000
    if pax:
        size = _apply_pax(entry, pax, size)
    if kind in (b"\0", b"7"):
        kind = DIRECTORY if kind == b"\0" and entry.name.endswith(b"/") else FILE
    if kind not in _KINDS:
        reason = "sparse entries are not supported" if kind == b"S" else f"type {kind!r} is unknown"
        raise ArchiveError(f"tar entry {show(entry.name)}: {reason}")
    entry.kind = kind
    entry.size_bytes = size if kind == FILE else 0
    if kind in (CHAR, BLOCK):
        entry.major = _number(block[329:337], "major device number")
        entry.minor = _number(block[337:345], "minor device number")
    if not 0 <= entry.uid <= MAX_ID or not 0 <= entry.gid <= MAX_ID:
        raise ArchiveError(f"tar entry {show(entry.name)}: owner {entry.uid}:{entry.gid} is out of range")
    if not 0 <= entry.mtime_ns <= _MAX_TIME_NS:
        entry.mtime_ns = 0
    if len(entry.name) > MAX_PATH_BYTES or len(entry.link) > MAX_PATH_BYTES:
        raise LimitError(f"tar entry {show(entry.name)}: path longer than {MAX_PATH_BYTES} bytes")
    return entry


def _check_sum(block: bytes, offset: int) -> None:
    stored = _number(block[148:156], "checksum")
    unsigned = sum(block) - sum(block[148:156]) + 256
    if stored != unsigned:
        signed = unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
        if stored != signed:
            raise ArchiveError(f"tar header at byte {offset}: checksum does not match")


def _number(field: bytes, what: str) -> int:
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
        return value - (1 << 8 * len(field) - 1) if field[0] & 0x40 else value
    text = field.strip(b" \0").partition(b"\0")[0]
    if not text:
        return 0
    try:
        if text.isdigit():
            return int(text, 8)
    except ValueError:
        pass
    raise ArchiveError(f"tar header: {what} {text[:20]!r} is no octal number")


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _name(block: bytes) -> bytes:
    name = _text(block[:100])
    if block[257:263] == b"ustar\0":
        prefix = _text(block[345:476] if block[508:512] == b"tar\0" else block[345:500])
        if prefix:
            return prefix + b"/" + name
    return name


def _extension(source: Source, size: int) -> bytes:
    if size > MAX_EXTENSION_BYTES:
        raise LimitError(
            f"tar extension header at byte {source.offset}: {size} bytes are more than {MAX_EXTENSION_BYTES}"
        )
    data = source.exactly(size)
    source.skip(-size % 512)
    return data


def _pax_records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
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


def _apply_pax(entry: Entry, pax: dict[bytes, bytes], size: int) -> int:
    """Let pax records win over the fields of the header; return the size. An empty value means: as the header says."""
    for key, value in pax.items():
        if key.startswith(_XATTR):
            entry.xattrs[key[len(_XATTR) :]] = value
        elif key.startswith(_SPARSE):
            raise ArchiveError(f"tar entry {show(entry.name)}: sparse entries are not supported")
        elif not value:
            continue
        elif key == b"path":
            entry.name = _pax_path(value)
        elif key == b"linkpath":
            entry.link = _pax_path(value)
        elif key == b"size":
            size = _pax_integer(key, value)
        elif key == b"uid":
            entry.uid = _pax_integer(key, value)
        elif key == b"gid":
            entry.gid = _pax_integer(key, value)
        elif key == b"mtime":
            entry.mtime_ns = _pax_time_ns(value)
    return size


def _pax_path(value: bytes) -> bytes:
    if b"\0" in value:
        raise ArchiveError(f"pax path {show(value)}: has a NUL")
    return value


def _pax_integer(key: bytes, value: bytes) -> int:
    if not value.isdigit() or len(value) > 19:
        raise ArchiveError(f"pax record {key.decode()}: {value[:30]!r} is no number")
    return int(value)


def _pax_time_ns(value: bytes) -> int:
    whole, _, fraction = value.partition(b".")
    sign = -1 if whole.startswith(b"-") else 1
    digits = whole.lstrip(b"-") if sign < 0 else whole
    if not digits.isdigit() or len(digits) > 19 or (fraction and not fraction.isdigit()):
        raise ArchiveError(f"pax record mtime: {value[:30]!r} is no time")
    return sign * (int(digits) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0") or b"0"))


def show(name: bytes) -> str:
    """Return a name from an archive as text that is safe in a message: printable, at most 200 characters."""
    text = repr(name[:200])[1:]
    return text if len(name) <= 200 else text + "…"
