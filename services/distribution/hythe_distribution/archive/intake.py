"""One pass over an archive: documents are kept in memory, blobs go to the content store, all before it is known what it is."""

from __future__ import annotations

import hashlib
import posixpath
import re
from dataclasses import dataclass, field

from hythe.digest import Digest
from hythe.errors import DataLoss, InvalidArgument
from hythe.oci.fields import MAX_DOCUMENT_BYTES
from hythe.ports.content import Content
from hythe_distribution.archive.reader import DIRECTORY, FILE, LINK, SYMLINK, Entry, entries, show
from hythe_distribution.archive.rootfs import RootfsLayer
from hythe_distribution.archive.source import Source
from hythe_distribution.archive.storing import storing
from hythe_distribution.documents import has_blob

_DOCUMENTS = frozenset({"oci-layout", "index.json", "manifest.json", "manifest"})
_LEFT_OUT = re.compile(r"repositories|version|.+/VERSION|.+/json|(?:[0-9a-f]{64}-)?signature-[0-9]+")
_PROMISED = re.compile(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.manifest\.json)?")
_MAX_LINK_STEPS = 40


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many entries of each kind an archive may have; an image has about ten, a large one a thousand.

    Attributes:
        blobs: files that go to the content store, one write each.
        others: documents, directories, links, and files that nobody needs.
        rootfs: files and directories of an ACI.
    """

    blobs: int = 20_000
    others: int = 10_000
    rootfs: int = 1_000_000


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob that was in the archive and is in the content store."""

    digest: Digest
    size_bytes: int


@dataclass(slots=True)
class Holdings:
    """What an archive held.

    Attributes:
        documents: those that say what the archive is, by name.
        blobs: all other files by name.
        links: hard and symbolic links by name; the target as a name in the archive.
        layer: the ``rootfs`` of an ACI as a layer; None where there was none.
    """

    documents: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, StoredBlob] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    layer: RootfsLayer | None = None

    def sizes(self) -> dict[Digest, int]:
        """Return the size of each blob by its digest."""
        return {blob.digest: blob.size_bytes for blob in self.blobs.values()}

    def find(self, name: str, what: str) -> StoredBlob:
        """Return the blob called `name`, through links.

        Raises:
            InvalidArgument: there is none, or the links lead round in circles; the message says it is `what`.
        """
        at = posixpath.normpath(name)
        for _ in range(_MAX_LINK_STEPS):
            if at in self.blobs:
                return self.blobs[at]
            if at not in self.links:
                raise InvalidArgument(f"import archive: {what} {name[:200]!r} is not in it")
            at = self.links[at]
        raise InvalidArgument(f"import archive: {what} {name[:200]!r} is a link that leads round in circles")


_BOUNDS = Bounds()


def take_in(source: Source, content: Content, bounds: Bounds = _BOUNDS) -> Holdings:
    """Read the whole archive, store its blobs, and return what it held.

    A file whose name is a digest is stored under no other. When this raises, nothing is left open; blobs that were whole
    before stay.

    Raises:
        InvalidArgument: hostile or broken entries, too many of them, or a document of more than 4 MiB.
        DataLoss: the archive ends early or is damaged, or a blob isn't what its name promises.
        HytheError: see `Content.open_ingest` and `Ingest.write`.
    """
    holdings = Holdings()
    others = 0
    try:
        for entry in entries(source):
            name = _text_name(entry)
            if name == "rootfs" or name.startswith("rootfs/"):
                _take_rootfs(holdings, entry, source, content, bounds.rootfs)
                continue
            _check_new(holdings, name, entry)
            if entry.kind == FILE and name not in _DOCUMENTS and not _LEFT_OUT.fullmatch(name):
                holdings.blobs[name] = _store(content, source, name, entry.size_bytes)
                if len(holdings.blobs) > bounds.blobs:
                    raise InvalidArgument(f"import archive: it holds more than {bounds.blobs} blobs")
                continue
            others += 1
            if others > bounds.others:
                raise InvalidArgument(f"import archive: more than {bounds.others} entries in it are no blobs")
            if entry.kind == FILE and name in _DOCUMENTS:
                holdings.documents[name] = _document(source, name, entry.size_bytes)
            elif entry.kind in (LINK, SYMLINK):
                holdings.links[name] = _link_target(name, entry)
        if holdings.layer is not None:
            holdings.layer.finish()
    except BaseException:
        if holdings.layer is not None:
            holdings.layer.abort()
        raise
    return holdings


def _text_name(entry: Entry) -> str:
    if entry.name.startswith(b"rootfs/"):
        return "rootfs/"  # what lies below may be in any encoding
    try:
        name = entry.name.decode()
    except UnicodeDecodeError:
        raise InvalidArgument(f"import archive: the name of entry {show(entry.name)} is not UTF-8") from None
    if not name.isprintable():
        raise InvalidArgument(f"import archive: the name of entry {show(entry.name)} is not printable")
    return name


def _check_new(holdings: Holdings, name: str, entry: Entry) -> None:
    if entry.kind not in (FILE, LINK, SYMLINK, DIRECTORY):
        raise InvalidArgument(f"import archive: entry {name!r} is a device or a pipe")
    if entry.kind != DIRECTORY and (name in holdings.documents or name in holdings.blobs or name in holdings.links):
        raise InvalidArgument(f"import archive: entry {name!r} is in it twice")


def _link_target(name: str, entry: Entry) -> str:
    try:
        target = entry.link.decode()
    except UnicodeDecodeError:
        raise InvalidArgument(f"import archive: the target of link {name!r} is not UTF-8") from None
    start = posixpath.dirname(name) if entry.kind == SYMLINK else ""
    target = posixpath.normpath(posixpath.join(start, target))
    if target.startswith(("/", "../")) or target in ("..", "."):
        raise InvalidArgument(f"import archive: link {name!r} points out of the archive")
    return target


def _document(source: Source, name: str, size_bytes: int) -> bytes:
    if size_bytes > MAX_DOCUMENT_BYTES:
        raise InvalidArgument(f"import archive: {name} has {size_bytes} bytes, more than {MAX_DOCUMENT_BYTES}")
    return source.take(size_bytes)


def _store(content: Content, source: Source, name: str, size_bytes: int) -> StoredBlob:
    promised = _PROMISED.fullmatch(name)
    expected = Digest(promised.group(1)) if promised else None
    if expected is not None and has_blob(content, expected):
        return _compare(source, name, expected, size_bytes)
    with storing(content, name, size_bytes) as ingest:
        for piece in source.pieces(size_bytes):
            ingest.write(piece)
        found = ingest.commit(expected, size_bytes)
    return StoredBlob(found.digest, size_bytes)


def _compare(source: Source, name: str, expected: Digest, size_bytes: int) -> StoredBlob:
    """Read a blob that the store has already: who sends its name has to have its bytes, too."""
    hasher = hashlib.sha256()
    for piece in source.pieces(size_bytes):
        hasher.update(piece)
    if hasher.hexdigest() != expected.hex:
        raise DataLoss(f"import archive: blob {name} has the digest sha256:{hasher.hexdigest()}")
    return StoredBlob(expected, size_bytes)


def _take_rootfs(holdings: Holdings, entry: Entry, source: Source, content: Content, most: int) -> None:
    if holdings.layer is None:
        holdings.layer = RootfsLayer(content)
    if holdings.layer.entries >= most:
        raise InvalidArgument(f"import archive: its rootfs has more than {most} entries")
    holdings.layer.add(entry, source)
