"""Apply one layer: blob on stdin, target as current directory, report on stdout; see `hythe_bundle.adapters.worker`."""

from __future__ import annotations

import hashlib
import os

from hythe.archive import sandbox, tar
from hythe.archive.ending import end_with
from hythe.archive.failures import ArchiveError, DamagedError, LimitError, ReserveError
from hythe.archive.stream import Blob, Source, ahead, hashed
from hythe_bundle.worker import report
from hythe_bundle.worker.apply import Applier
from hythe_bundle.worker.watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def run(arguments: list[str], make: type[Applier] = Applier) -> NoReturn:
    """Do `main` and end at once; see `end_with`."""
    end_with(lambda rest: main(rest, make), arguments)


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
    report.write(lines)
    return code


class _Watch(Watch):
    """Reports progress as well."""

    def __init__(self, blob: Blob, reserve: int) -> None:
        super().__init__(reserve)
        self._blob = blob

    def act(self, fd: int) -> None:
        super().act(fd)
        report.write(report.progress(self._blob.taken))

    def check_room(self) -> None:
        """Return if as much stays free as is to stay free, or raise ReserveError."""
        self.check(os.statvfs("/"))
