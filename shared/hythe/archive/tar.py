"""The headers of a tar archive: what one entry says, read from bytes that a stranger wrote.

Formats: v7, ustar, pax, GNU (long names, base-256 numbers, files with holes) and star's ustar prefix, as Go's archive/tar
reads them, for that is what other engines apply layers with.
"""

from __future__ import annotations

from hythe.archive import pax, sparse
from hythe.archive.failures import ArchiveError, DamagedError, LimitError
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
_USTAR_MAGIC, _GNU_MAGIC = b"ustar\0", b"ustar  \0"
_OLD_SPARSE = b"S"

FILE, LINK, SYMLINK, CHAR, BLOCK, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_KINDS = frozenset((FILE, LINK, SYMLINK, CHAR, BLOCK, DIRECTORY, FIFO))


class Entry:
    """One entry. Names are bytes as the archive spells them, without a NUL; `size_bytes` bytes of data follow a FILE.

    Attributes:
        sparse: for a FILE with holes, where that data belongs.
    """

    __slots__ = (
        *("gid", "kind", "link", "major", "minor", "mode", "mtime_ns", "name", "size_bytes", "sparse", "uid", "xattrs"),
    )

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
        self.sparse: sparse.Sparse | None = None


def entries(source: Source) -> Iterator[Entry]:
    """Yield each entry of the archive; the consumer reads exactly `size_bytes` bytes of a FILE before it asks for the next.

    Padding after the data is skipped here; that of the last entry may be missing. What follows the end mark is read too.

    Raises:
        ArchiveError: a header breaks its format, or is of a kind that Hythe refuses.
        LimitError: a path is longer than 4095 bytes, or extension headers of one entry than 1 MiB.
        DamagedError: the archive ends within an entry.
    """
    long_name = long_link = b""
    records: dict[bytes, bytes] = {}
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
            records = pax.records(_extension(source, size))
        elif kind == b"g":
            pax.records(_extension(source, size))  # left out, as other engines do, and what came before it with it
            long_name = long_link = b""
            records = {}
        else:
            entry = _entry(source, block, kind, size, records, long_name, long_link)
            long_name = long_link = b""
            records = {}
            yield entry
            if entry.size_bytes & 511:
                source.skip_padding(512 - (entry.size_bytes & 511))
    if records or long_name or long_link:
        raise DamagedError("the archive ends after an extension header")


def _entry(
    source: Source,
    block: bytes,
    kind: bytes,
    size: int,
    records: dict[bytes, bytes],
    long_name: bytes,
    long_link: bytes,
) -> Entry:
    entry = Entry()
    entry.name = _name(block)
    entry.link = _text(block[157:257])
    entry.mode = _number(block[100:108], "mode") & 0o7777
    entry.uid = _number(block[108:116], "uid")
    entry.gid = _number(block[116:124], "gid")
    entry.mtime_ns = _number(block[136:148], "mtime") * 1_000_000_000
    if records:
        size = _apply_pax(entry, records, size)
    entry.name = long_name or entry.name
    entry.link = long_link or entry.link
    if kind in (b"\0", b"7"):
        kind = DIRECTORY if kind == b"\0" and entry.name.endswith(b"/") else FILE
    if records and kind != _OLD_SPARSE and sparse.told_by(records):
        if kind != FILE:
            raise ArchiveError(f"tar entry {show(entry.name)}: has holes and is no file")
        entry.name = sparse.name(records) or entry.name
        entry.sparse, size = sparse.of_records(source, records, size)
    elif kind == _OLD_SPARSE and block[257:265] == _GNU_MAGIC:
        kind = FILE
        entry.sparse = sparse.of_header(source, block, size, _number)
    if kind not in _KINDS:
        raise ArchiveError(f"tar entry {show(entry.name)}: type {kind!r} is unknown")
    entry.kind = kind
    entry.size_bytes = size if kind == FILE else 0
    if kind in (CHAR, BLOCK) and block[257:262] == _USTAR_MAGIC[:5]:
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
        value -= 1 << 8 * len(field) - 1 if field[0] & 0x40 else 0
        if not -1 << 63 <= value < 1 << 63:
            raise ArchiveError(f"tar header: {what} is beyond 64 bits")
        return value
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
    if block[257:263] == _USTAR_MAGIC:
        prefix = _text(block[345:476] if block[508:512] == b"tar\0" else block[345:500])
    elif block[345] and block[257:265] == _GNU_MAGIC:
        prefix = _misplaced_prefix(block)
    else:
        return name
    return prefix + b"/" + name if prefix else name


def _misplaced_prefix(block: bytes) -> bytes:
    """Return the prefix that Go before 1.8 wrote into a GNU header, whose place there belongs to two times."""
    try:
        for field in (block[345:357], block[357:369]):
            if field[0]:
                _number(field, "time")
    except ArchiveError:
        prefix = _text(block[345:500])
        return prefix if prefix.isascii() else b""
    return b""


def _extension(source: Source, size: int) -> bytes:
    if size > MAX_EXTENSION_BYTES:
        raise LimitError(
            f"tar extension header at byte {source.offset}: {size} bytes are more than {MAX_EXTENSION_BYTES}"
        )
    data = source.exactly(size)
    source.skip(-size % 512)
    return data


def _apply_pax(entry: Entry, records: dict[bytes, bytes], size: int) -> int:
    """Let pax records win over the fields of the header; return the size."""
    for key, value in records.items():
        if key.startswith(_XATTR):
            entry.xattrs[key[len(_XATTR) :]] = value
        elif not value:
            continue
        elif key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.link = value
        elif key == b"size":
            size = pax.integer(key, value)
        elif key == b"uid":
            entry.uid = pax.integer(key, value)
        elif key == b"gid":
            entry.gid = pax.integer(key, value)
        elif key == b"mtime":
            entry.mtime_ns = pax.time_ns(value)
    return size


def show(name: bytes) -> str:
    """Return a name from an archive as text that is safe in a message: printable, at most 200 characters."""
    text = repr(name[:200])[1:]
    return text if len(name) <= 200 else text + "…"
