"""Compare two trees: the order as JSON on stdin, changes or progress on stdout, an archive on the descriptor it names.

See `hythe_bundle.adapters.differ_worker`. All mounts are made in a mount namespace of this process's own, read-only and
without devices, and are gone with it.
"""

from __future__ import annotations

import json
import os
import sys

from hythe.archive import sandbox
from hythe.archive.compressors import compressor
from hythe.archive.ending import end_with
from hythe.archive.failures import ArchiveError, LimitError
from hythe.errors import InvalidArgument
from hythe.linux import libc, mounting, roots
from hythe_bundle.worker import report
from hythe_bundle.worker.diff_layer import ChangedError, LayerWriter
from hythe_bundle.worker.diff_tree import Root
from hythe_bundle.worker.diff_walk import RUNTIME_MADE, Walk
from hythe_bundle.worker.output import Output
from hythe_bundle.worker.watch import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


LINES_BYTES = 64 << 10
KEPT = (1, 3, 21)
"""Capabilities: DAC_OVERRIDE to read whatever it is, FOWNER, and SYS_ADMIN for ``trusted.overlay.*``."""


def run(arguments: list[str]) -> NoReturn:
    """Do `main` and end at once; see `end_with`."""
    end_with(main, arguments)


def main(arguments: list[str]) -> int:
    """Compare and return the exit code: 0 when the last line says ``done``, 1 when it says ``failed``.

    Args:
        arguments: parent's pid.
    """
    order = json.loads(sys.stdin.buffer.read())
    try:
        output = _output(order["layer"]) if "layer" in order else None
        base, new = _enter(order, int(arguments[0]))
        walk = Walk(
            base,
            new,
            changes_only=order["changes_only"],
            for_layer=output is not None,
            runtime_made=RUNTIME_MADE if order["skip_runtime_made"] else frozenset(),
        )
        lines = _tell(walk) if output is None else _write_layer(walk, new, output, order["layer"]["latest_s"])
        code = 0
    except (ArchiveError, LimitError, ChangedError) as error:
        lines, code = report.failed(error.kind, 0, str(error)), 1
    except InvalidArgument as error:
        lines, code = report.failed(ArchiveError.kind, 0, error.message), 1
    except OSError as error:
        lines, code = report.failed("os", error.errno or 0, error.strerror or str(error)), 1
    except MemoryError:
        lines, code = report.failed(LimitError.kind, 0, "the worker's memory is used up"), 1
    report.write(lines)
    return code


def _enter(order: dict[str, Any], parent: int) -> tuple[Root | None, Root]:
    """Mount both trees in a file system that nobody else sees, and make that the root; nothing else stays mounted."""
    place: str = order["place"]
    mounting.enter_private_namespace()
    libc.mount("tmpfs", place, "tmpfs", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC, "mode=0700,size=64k")
    for name in ("base", "new"):
        os.mkdir(f"{place}/{name}")  # noqa: PTH102 (pathlib is not loaded in a worker)
        mounting.mount_all([mounting.Described(**found).quiet() for found in order[name]], f"{place}/{name}")
    roots.pivot_into(place)
    sandbox.enter(parent, KEPT)
    return Root(b"/base") if order["base"] else None, Root(b"/new")


def _output(wanted: dict[str, Any]) -> Output:
    """Return where the layer goes; this loads the compressor, which cannot be done later."""
    return Output(wanted["fd"], compressor(wanted["compression"]), progress=Progress().at)


def _write_layer(walk: Walk, tree: Root, output: Output, latest_s: int | None) -> bytes:
    writer = LayerWriter(tree, output.write, latest_ns=None if latest_s is None else latest_s * 10**9)
    writer.take(walk.events())
    diff_id, digest = output.finish()
    busy_ms = output.busy_ns // 10**6
    return report.wrote(diff_id, output.archive_bytes, digest, output.blob_bytes, writer.entries, busy_ms)


def _tell(walk: Walk) -> bytes:
    """Write a line for each change; return the last one, with their number."""
    lines, size, count = [], 0, 0
    for event in walk.events():
        line = report.change(event.kind, event.path)
        lines.append(line)
        size += len(line)
        count += 1
        if size >= LINES_BYTES:
            report.write(b"".join(lines))
            lines, size = [], 0
    return b"".join(lines) + report.compared(count)
