"""Apply one layer: blob on stdin, target as current directory, report on stdout; see `hythe_bundle.adapters.worker`."""

from __future__ import annotations

import hashlib
import os

from hythe.archive import sandbox, tar
from hythe.archive.failures import ArchiveError, DamagedError, LimitError, ReserveError
from hythe.archive.stream import Blob, Source, ahead, hashed
from hythe_bundle.worker import report
from hythe_bundle.worker.apply import Applier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

WRITE_BACK_BYTES = 8 << 20
FAULT_CODE = 2


def run(arguments: list[str], make: type[Applier] = Applier) -> NoReturn:
    """Do `main` and end at once; see `end_with`."""
    end_with(lambda rest: main(rest, make), arguments)


def end_with(main: Callable[[list[str]], int], arguments: list[str]) -> NoReturn:
    """Call `main` and end at once with its code, or with `FAULT_CODE` and a line on stderr.

    Python's own way to end loads a library for the threads that still run, and its own report of a fault reads source
    files: by then both would be a stranger's, for the root directory is the layer's.
    """
    code = FAULT_CODE
    try:
        code = main(arguments)
    except BaseException as error:  # noqa: BLE001 (nobody above may see it, see there)
        os.write(2, _fault(error).encode(errors="replace"))
    finally:
        os._exit(code)


def _fault(error: BaseException) -> str:
    places, step = [], error.__traceback__
    while step is not None:
        places.append(f"{step.tb_frame.f_code.co_name}:{step.tb_lineno}")
        step = step.tb_next
    return f"{type(error).__name__} in {' '.join(places[-8:])}: {error}\n"


def main(arguments: list[str], make: type[Applier] = Applier) -> int:
    """Apply the layer and return the exit code: 0 when the last line says ``done``, 1 when it says ``failed``.

    Args:
        arguments: parent's pid, most uncompressed bytes, most entries, greatest ratio, bytes of free space to leave,
            1 for a layer that nothing lies below.
        make: what applies the entries.
    """
    parent, max_bytes, max_entries, max_ratio, reserve, lowest = (int(argument) for argument in arguments)
    try:
        blob, digest = Blob(0), hashlib.sha256()
        sandbox.enter(parent)
        watch = _Watch(blob, reserve)
        source = Source(ahead(hashed(ahead(blob.chunks(max_bytes=max_bytes, max_ratio=max_ratio), depth=2), digest)))
        applier = make(source, watch, max_entries=max_entries, max_bytes=max_bytes, lowest=bool(lowest))
        layer = applier.apply(tar.entries(source))
        lines = report.implied(layer.implied) + report.done(
            digest.hexdigest(),
            source.offset,
            layer.file_bytes,
            layer.entries,
            layer.opaque,
            layer.elf_32,
            layer.ignored_xattrs,
        )
        code = 0
    except (ArchiveError, DamagedError, LimitError, ReserveError) as error:
        lines, code = report.failed(error.kind, 0, str(error)), 1
    except OSError as error:
        lines, code = report.failed("os", error.errno or 0, error.strerror or str(error)), 1
    except MemoryError:
        lines, code = report.failed("limit", 0, "the worker's memory is used up"), 1
    _write(lines)
    return code


class _Watch:
    """Looks after what file data is written: starts write-back, keeps the reserve of free space, reports progress."""

    def __init__(self, blob: Blob, reserve: int) -> None:
        self._blob = blob
        self._reserve = reserve
        self._pending = 0

    def wrote(self, fd: int, size: int) -> None:
        """Take note of `size` bytes written to `fd`; act on each 8 MiB."""
        self._pending += size
        if self._pending < WRITE_BACK_BYTES:
            return
        self._pending = 0
        sandbox.start_write_back(fd)
        self.check_room()
        _write(report.progress(self._blob.taken))

    def check_room(self) -> None:
        """Return if as much stays free as is to stay free, or raise ReserveError."""
        free = os.statvfs("/")
        if free.f_bavail * free.f_frsize < self._reserve:
            raise ReserveError(f"less than {self._reserve} bytes would stay free")


def _write(lines: bytes) -> None:
    view = memoryview(lines)
    while view:
        view = view[os.write(1, view) :]
