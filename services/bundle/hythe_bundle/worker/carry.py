"""The carrying worker: copies or packs one tree that strangers made, seen in a mount namespace that nobody else has.

The order comes on stdin as JSON, the report goes to stdout line by line, an archive to a descriptor of its own; see
`hythe_bundle.adapters.carrying`.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import resource
import sys

from hythe.archive import sandbox
from hythe.archive.compressors import compressor
from hythe.archive.failures import ArchiveError, LimitError, ReserveError
from hythe.linux import mounting
from hythe.linux.files import open_real
from hythe.ports.snapshots import Mount
from hythe_bundle.worker import report
from hythe_bundle.worker.copying import Copy
from hythe_bundle.worker.packing import Pack
from hythe_bundle.worker.walk import DIRECTORY, MAX_DEPTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WRITE_BACK_BYTES = 8 << 20
_QUIET = ("nosuid", "nodev", "noexec")
_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


def run(arguments: list[str]) -> int:
    """Carry out the order and return the exit code: 0 when the last line says ``done``, 1 when it says ``failed``.

    Args:
        arguments: parent's pid.
    """
    order = json.loads(sys.stdin.buffer.read())
    try:
        _tie(int(arguments[0]))
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * MAX_DEPTH + 64, 2 * MAX_DEPTH + 64))
        resource.setrlimit(resource.RLIMIT_AS, (sandbox.MAX_ADDRESS_SPACE_BYTES, sandbox.MAX_ADDRESS_SPACE_BYTES))
        top = _source(order)
        result = (_copy if "target" in order else _pack)(top, order)
        _tell(report.DONE + b" " + json.dumps(result).encode() + b"\n")
    except (ArchiveError, LimitError, ReserveError) as error:
        _tell(report.failed(error.kind, 0, str(error)))
        return 1
    except OSError as error:
        name = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        _tell(report.failed("os", error.errno or 0, f"{name}{error.strerror or error}"))
        return 1
    except MemoryError:
        _tell(report.failed(LimitError.kind, 0, "the worker's memory is used up"))
        return 1
    return 0


def _tie(parent: int) -> None:
    """End with the parent, and gain no privileges from here on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent:
        raise OSError("the parent process is gone")


def _source(order: dict[str, Any]) -> int:
    """Open the directory to read; what must be mounted for it is mounted first, without devices.

    A container may put a node of the host's disk where a file was a moment ago, and whoever owns a directory of others a
    link where it was looked at: neither is opened.
    """
    if not order["mounts"]:
        return open_real(os.fsencode(order["source"]), DIRECTORY)
    mounting.enter_private_namespace()
    mounts = [Mount(kind, source, target, (*options, *_QUIET)) for kind, source, target, options in order["mounts"]]
    mounting.mount_all(mounts, order["source"])
    return os.open(order["source"], DIRECTORY)


def _copy(top: int, order: dict[str, Any]) -> dict[str, Any]:
    target = open_real(os.fsencode(order["target"]), DIRECTORY)
    copy = Copy(top, target, _Watch(order["reserve_bytes"]).wrote)
    copy.run()
    return {"file_bytes": copy.file_bytes, "changed": copy.walk.changed}


def _pack(top: int, order: dict[str, Any]) -> dict[str, Any]:
    out = _Archive(order["archive"], order["compression"], _Watch(order["reserve_bytes"]))
    pack = Pack(
        top,
        out.write,
        prefix=order["prefix"].encode(),
        as_layer=order["as_layer"],
        epoch_s=order["epoch_s"],
    )
    pack.run({name: text.encode() for name, text in order["files"].items()})
    out.end()
    return {
        "file_bytes": pack.file_bytes,
        "changed": pack.walk.changed,
        "sockets": pack.sockets,
        "digest": out.digest.hexdigest(),
        "size_bytes": out.size_bytes,
    }


class _Archive:
    """The archive on its way: collected, compressed, hashed, written."""

    def __init__(self, fd: int, compression: str, watch: _Watch) -> None:
        self._fd = fd
        self._compressor = compressor(compression)
        self._watch = watch
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
        self._watch.took(self._waiting)
        self._waiting = 0

    def _put(self, data: bytes) -> None:
        self.digest.update(data)
        self.size_bytes += len(data)
        view = memoryview(data)
        while view:
            count = os.write(self._fd, view)
            self._watch.wrote(self._fd, count, read_bytes=0)
            view = view[count:]


class _Watch:
    """Looks after what is written: starts write-back, keeps the reserve of free space, tells how far it is."""

    def __init__(self, reserve_bytes: int) -> None:
        self._reserve_bytes = reserve_bytes
        self._pending = 0
        self._done = 0
        self._told = 0

    def took(self, size: int) -> None:
        """Take note of `size` bytes that were read; tell it each 8 MiB."""
        self._done += size
        if self._done - self._told >= WRITE_BACK_BYTES:
            self._told = self._done
            _tell(report.progress(self._done))

    def wrote(self, fd: int, size: int, *, read_bytes: int | None = None) -> None:
        """Take note of `size` bytes written to `fd`, which are as many read unless that is said; act on each 8 MiB."""
        self.took(size if read_bytes is None else read_bytes)
        self._pending += size
        if self._pending < WRITE_BACK_BYTES:
            return
        self._pending = 0
        sandbox.start_write_back(fd)
        free = os.fstatvfs(fd)
        if self._reserve_bytes and free.f_bavail * free.f_frsize < self._reserve_bytes:
            raise ReserveError(f"less than {self._reserve_bytes} bytes would stay free")


def _tell(line: bytes) -> None:
    view = memoryview(line)
    while view:
        view = view[os.write(1, view) :]
