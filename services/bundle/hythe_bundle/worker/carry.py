"""The carrying worker: copies or packs one tree that strangers made, seen in a mount namespace that nobody else has.

The order comes on stdin as JSON, the report goes to stdout line by line, an archive to a descriptor of its own; see
`hythe_bundle.adapters.carrying`.
"""

from __future__ import annotations

import json
import os
import resource
import sys

from hythe.archive import sandbox
from hythe.archive.compressors import compressor
from hythe.archive.failures import ArchiveError, LimitError, ReserveError
from hythe.archive.pack import Form, Packer
from hythe.archive.tar import Entry
from hythe.archive.writer import header, padding
from hythe.linux import mounting
from hythe.linux.deep_paths import DIRECTORY
from hythe.linux.files import open_real
from hythe_bundle.worker import attributes, report
from hythe_bundle.worker.copying import Copy, Manner
from hythe_bundle.worker.marks import check_name
from hythe_bundle.worker.output import Output
from hythe_bundle.worker.watch import Progress, Watch

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
        resource.setrlimit(resource.RLIMIT_AS, (sandbox.MAX_ADDRESS_SPACE_BYTES, sandbox.MAX_ADDRESS_SPACE_BYTES))
        top = _source(order)
        result = (_copy if "target" in order else _pack)(top, order)
        report.write(report.DONE + b" " + json.dumps(result).encode() + b"\n")
    except (ArchiveError, LimitError, ReserveError) as error:
        report.write(report.failed(error.kind, 0, str(error)))
        return 1
    except OSError as error:
        name = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        report.write(report.failed("os", error.errno or 0, f"{name}{error.strerror or error}"))
        return 1
    except MemoryError:
        report.write(report.failed(LimitError.kind, 0, "the worker's memory is used up"))
        return 1
    return 0


def _source(order: dict[str, Any]) -> int:
    """Open the directory to read; what must be mounted for it is mounted first, without devices.

    A container may put a node of the host's disk where a file was a moment ago, and whoever owns a directory of others a
    link where it was looked at: neither is opened.
    """
    if not order["mounts"]:
        return open_real(os.fsencode(order["source"]), DIRECTORY)
    mounting.enter_private_namespace()
    mounting.mount_all([mounting.Described(*each).quiet() for each in order["mounts"]], order["source"])
    return os.open(order["source"], DIRECTORY)


def _copy(top: int, order: dict[str, Any]) -> dict[str, Any]:
    target = open_real(os.fsencode(order["target"]), DIRECTORY)
    copy = Copy(target, _Carried(order["reserve_bytes"]))
    copy.tree(top)
    return {"file_bytes": copy.file_bytes, "changed": copy.changed}


class _Carried(Manner):
    """A copy of a tree that somebody may be using, for another host."""

    changes = True

    def __init__(self, reserve_bytes: int) -> None:
        self._watch = Watch(reserve_bytes)
        self._progress = Progress()
        self._done = 0

    def keeps(self, xattr: str) -> bool:
        return attributes.is_portable(xattr)

    def wrote(self, fd: int, size: int) -> None:
        self._done += size
        self._progress.at(self._done)
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
    watch = Watch(order["reserve_bytes"])
    out = Output(
        order["archive"],
        compressor(order["compression"]),
        progress=Progress().at,
        wrote=watch.wrote,
        only_blob=True,
    )
    for name, text in order["files"].items():
        out.write(_small(name.encode(), text.encode()))
    packer, prefix = Packer(_Packed(as_layer=order["as_layer"], epoch_s=order["epoch_s"])), order["prefix"].encode()
    for piece in packer.chunks(top, b".", prefix or b".", prefix + b"/" if prefix else b""):
        out.write(piece)
    _, digest = out.finish()
    return {
        "file_bytes": packer.file_bytes,
        "changed": packer.changed,
        "sockets": packer.sockets,
        "digest": digest,
        "size_bytes": out.blob_bytes,
    }


def _small(name: bytes, data: bytes) -> bytes:
    entry = Entry()
    entry.name, entry.mode, entry.size_bytes = name, 0o644, len(data)
    return header(entry) + data + padding(len(data))
