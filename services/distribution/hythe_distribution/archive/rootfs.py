"""An ACI's ``rootfs`` on its way to an OCI layer: each entry moved to the root, all of it compressed while it streams."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, replace

from hythe.archive.writer import END_MARK, header, padding
from hythe.digest import Digest
from hythe.errors import InvalidArgument
from hythe.ports.content import Content
from hythe_distribution.archive.reader import DIRECTORY, LINK, Entry, clean, show
from hythe_distribution.archive.source import Source
from hythe_distribution.archive.storing import ingest_reference

_PREFIX = b"rootfs/"
_GZIP_WINDOW = 31


@dataclass(frozen=True, slots=True)
class FinishedLayer:
    """The layer in the content store, compressed with gzip; `diff_id` is the digest of its uncompressed bytes."""

    digest: Digest
    size_bytes: int
    diff_id: Digest


class RootfsLayer:
    """One layer being written; nothing of it is left unless `finish` returned.

    The same entries give the same bytes: the gzip header has no time in it.
    """

    def __init__(self, content: Content) -> None:
        """Open an ingest in `content`."""
        self._ingest = content.open_ingest(ingest_reference("rootfs"))
        self._gzip = zlib.compressobj(wbits=_GZIP_WINDOW)
        self._hasher = hashlib.sha256()
        self._finished: FinishedLayer | None = None
        self.entries = 0

    @property
    def finished(self) -> FinishedLayer:
        """What `finish` stored."""
        assert self._finished is not None
        return self._finished

    def add(self, entry: Entry, source: Source) -> None:
        """Write an entry named ``rootfs`` or below, with its data from `source`. The root itself is left to the container.

        Targets of symbolic links stay as they are: they are read inside the container. Of a name that stands twice the last
        entry counts, as in any layer.

        Raises:
            InvalidArgument: a file called ``.wh.…``, which would mean something else in a layer, a hard link to
                something outside of ``rootfs``, or a ``rootfs`` that is no directory.
            HytheError: see `Ingest.write`.
        """
        self.entries += 1
        if entry.name == b"rootfs":
            if entry.kind != DIRECTORY:
                raise InvalidArgument("import archive: its rootfs is no directory")
            return
        name = entry.name.removeprefix(_PREFIX)
        if any(part.startswith(b".wh.") for part in name.split(b"/")):
            raise InvalidArgument(
                f"import archive: {show(entry.name)} is a plain file in an ACI and would delete one as a part of an OCI layer"
            )
        link = entry.link
        if entry.kind == LINK:
            target = clean(link)
            if not target.startswith(_PREFIX):
                raise InvalidArgument(
                    f"import archive: {show(entry.name)} is a hard link to {show(link)}, not in rootfs"
                )
            link = target.removeprefix(_PREFIX)
        self._write(header(replace(entry, name=name, link=link)))
        for piece in source.pieces(entry.size_bytes):
            self._write(piece)
        self._write(padding(entry.size_bytes))

    def finish(self) -> None:
        """Commit the layer; `finished` tells what became of it.

        Raises:
            HytheError: see `Ingest.commit`.
        """
        self._write(END_MARK)
        self._ingest.write(self._gzip.flush())
        found = self._ingest.commit()
        self._finished = FinishedLayer(found.digest, found.size_bytes, Digest(self._hasher.hexdigest()))

    def abort(self) -> None:
        """Drop what was written; nothing happens after `finish`."""
        self._ingest.abort()

    def _write(self, data: bytes | memoryview) -> None:
        self._hasher.update(data)
        if packed := self._gzip.compress(data):
            self._ingest.write(packed)
