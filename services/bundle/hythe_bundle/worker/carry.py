"""The carrying worker: copies or packs one tree that strangers made, seen in a mount namespace that nobody else has.

The order comes on stdin as JSON, the report goes to stdout line by line, an archive to a descriptor of its own; see
`hythe_bundle.adapters.carrying`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys

from hythe.archive import sandbox
from hythe.archive.compressors import compressor
from hythe.archive.failures import ArchiveError, LimitError, ReserveError
from hythe.archive.pack import Form, Packer
from hythe.archive.tar import Entry
from hythe.archive.writer import header, padding
from hythe.linux import mounting
from hythe.linux.deep_paths import DIRECTORY
from hythe_bundle.worker import attributes, report
from hythe_bundle.worker.copying import Copy, Manner
from hythe_bundle.worker.layer_names import check_name
from hythe_bundle.worker.watch import WRITE_BACK_BYTES, Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run(arguments: list[str]) -> int:
    """Carry out the order and return the exit code: 0 when the last line says ``done``, 1 when it says ``failed``.

    Args:
        arguments: parent's pid.
    """
    order = json.loads(sys.stdin.buffer.read())
    try:
        sandbox.tie_to(int(arguments[0]))
        top = os.open(_source(order), DIRECTORY)
        result = (_copy if "target" in order else _pack)(top, order)
        report.write(report.DONE + b" " + json.dumps(result).encode() + b"\n")
    except (ArchiveError, LimitError, ReserveError) as error:
        report.write(report.failed(error.kind, 0, str(error)))
        return 1
    except OSError as error:
        name = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        report.write(report.failed("os", error.errno or 0, f"{name}{error.strerror or error}"))
        return 1
    return 0


def _source(order: dict[str, Any]) -> str:
    """Return the directory to read; what must be mounted for it is mounted first."""
    if not order["mounts"]:
        return str(order["source"])
    mounting.enter_private_namespace()
    mounts = [mounting.Described(*each) for each in order["mounts"]]
    mounting.mount_all(mounts, order["source"])
    return str(order["source"])


def _copy(top: int, order: dict[str, Any]) -> dict[str, Any]:
    target = os.open(order["target"], DIRECTORY)
    copy = Copy(target, _Carried(order["reserve_bytes"]))
    copy.tree(top)
    return {"file_bytes": copy.file_bytes, "changed": copy.changed}


class _Carried(Manner):
    """A copy of a tree that somebody may be using, for another host."""

    changes = True

    def __init__(self, reserve_bytes: int) -> None:
        self._watch = Watch(reserve_bytes)
        self._progress = _Progress()

    def keeps(self, xattr: str) -> bool:
        return attributes.is_portable(xattr)

    def wrote(self, fd: int, size: int) -> None:
        self._progress.took(size)
        self._watch.wrote(fd, size)


class _Packed(Form):
    """An archive of a bundle: all attributes that are not the host's own."""

    def __init__(self, *, as_layer: bool, epoch_s: int | None) -> None:
        self._as_layer = as_layer
        self.latest_ns = None if epoch_s is None else epoch_s * 1_000_000_000

    def xattrs(self, file: int | bytes) -> dict[bytes, bytes]:
        return {os.fsencode(name): value for name, value in attributes.xattrs_of(file, attributes.is_portable).items()}

    def check(self, path: bytes) -> None:
        if self._as_layer:
            try:
                check_name(path)
            except ArchiveError as error:
                raise ArchiveError(f"{error}; a packed file can hold it") from None


def _pack(top: int, order: dict[str, Any]) -> dict[str, Any]:
    """Write small files first, then the tree, then the end of the archive."""
    out = _Archive(order["archive"], order["compression"], Watch(order["reserve_bytes"]))
    for name, text in order["files"].items():
        out.write(_small(name.encode(), text.encode()))
    packer, prefix = Packer(_Packed(as_layer=order["as_layer"], epoch_s=order["epoch_s"])), order["prefix"].encode()
    for piece in packer.chunks(top, b".", prefix or b".", prefix + b"/" if prefix else b""):
        out.write(piece)
    out.end()
    return {
        "file_bytes": packer.file_bytes,
        "changed": packer.changed,
        "sockets": packer.sockets,
        "digest": out.digest.hexdigest(),
        "size_bytes": out.size_bytes,
    }


def _small(name: bytes, data: bytes) -> bytes:
    entry = Entry()
    entry.name, entry.mode, entry.size_bytes = name, 0o644, len(data)
    return header(entry) + data + padding(len(data))


class _Archive:
    """The archive on its way: collected, compressed, hashed, written."""

    def __init__(self, fd: int, compression: str, watch: Watch) -> None:
        self._fd = fd
        self._compressor = compressor(compression)
        self._watch = watch
        self._progress = _Progress()
        self._pieces: list[bytes] = []
        self._waiting = 0
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Take a piece of the archive."""
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting >= report.MAX_LINE_BYTES:
            self._flush()

    def end(self) -> None:
        """Write what is left."""
        self._flush()
        self._put(self._compressor.flush())

    def _flush(self) -> None:
        data, self._pieces = b"".join(self._pieces), []
        self._put(self._compressor.compress(data))
        self._progress.took(self._waiting)
        self._waiting = 0

    def _put(self, data: bytes) -> None:
        self.digest.update(data)
        self.size_bytes += len(data)
        view = memoryview(data)
        while view:
            count = os.write(self._fd, view)
            self._watch.wrote(self._fd, count)
            view = view[count:]


class _Progress:
    """Tells how far it is, each 8 MiB."""

    def __init__(self) -> None:
        self._done = 0
        self._told = 0

    def took(self, size: int) -> None:
        """Take note of `size` bytes that were read."""
        self._done += size
        if self._done - self._told >= WRITE_BACK_BYTES:
            self._told = self._done
            report.write(report.progress(self._done))
