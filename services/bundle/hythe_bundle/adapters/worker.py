"""Applying a layer in a process of its own, and what its report means (see `hythe_bundle.worker.main`)."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from hythe import failpoints
from hythe.digest import Digest
from hythe.errors import DataLoss, HytheError, Internal, InvalidArgument, ResourceExhausted, Unimplemented
from hythe.ports.snapshots import Mount
from hythe_bundle.adapters import disk_errors
from hythe_bundle.adapters.worker_process import Failed, ended, finish, parse_failed, read_some, worker_command
from hythe_bundle.applier import Applied, Limits
from hythe_bundle.worker import report

STEP = "unpack layer"
END_S = 1.0
"""How long a worker may take to end once it has said what became of its layer."""


class WorkerApplier:
    """Keeps the promises of `hythe_bundle.applier.Applier` by one short-lived process for each layer.

    Attributes:
        command: how the worker is started; its numbers follow.
    """

    def __init__(self, root: Path, command: tuple[str, ...] = ()) -> None:
        """Find what the worker imports; `root` names the file system in messages, `command` starts another worker.

        Raises:
            Internal: the decompressor is not installed.
        """
        self._root = root
        self.command = command or worker_command("hythe_bundle.worker.main")

    async def apply(
        self,
        name: str,
        blob: int,
        mounts: Sequence[Mount],
        limits: Limits,
        progress: Callable[[int], None],
        *,
        lowest: bool = False,
    ) -> Applied:
        """See `Applier.apply`."""
        numbers = (os.getpid(), limits.most_bytes, limits.most_entries, limits.most_ratio, limits.reserve_bytes, lowest)
        process = await asyncio.create_subprocess_exec(
            *self.command,
            *(str(int(number)) for number in numbers),
            stdin=blob,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=_directory(mounts),
            env={},
            limit=report.MAX_LINE_BYTES,
        )
        assert process.stdout is not None and process.stderr is not None
        complaint = asyncio.create_task(read_some(process.stderr))
        last = None
        try:
            failpoints.reach("bundle.layer.apply")
            last = await _follow(process.stdout, progress)
            if isinstance(last, Applied):
                return last
            if last is not None:
                raise self._failure(name, last)
            raise ended(STEP, name, await process.wait(), await complaint)
        finally:
            complaint.cancel()
            if process.returncode is None:
                await finish(process, END_S if last else 0.0)

    def _failure(self, name: str, last: Failed) -> HytheError:
        message = f"{STEP} {name}: {last.text}"
        match last.kind:
            case "archive":
                advice = "build the image again with another tool"
                return InvalidArgument(message, phase=STEP, outcome="failed", next_step=advice)
            case "damaged":
                return DataLoss(message, phase=STEP, next_step="push the image again; what was pushed is damaged")
            case "limit":
                return ResourceExhausted(message, phase=STEP, next_step="use a smaller image")
            case "space":
                advice = f"make room on the file system of {self._root}, then try again"
                return ResourceExhausted(message, phase=STEP, next_step=advice)
        if last.number == errno.ENOMEM:
            return ResourceExhausted(message, phase=STEP, next_step="make memory free, then try again")
        return disk_errors.of_os(OSError(last.number, last.text), f"{STEP} {name}", self._root, phase=STEP)


async def _follow(lines: asyncio.StreamReader, progress: Callable[[int], None]) -> Applied | Failed | None:
    """Read the report to its last line and return what it says; None if it ends without one.

    Raises:
        Internal: a line breaks the report's form.
    """
    implied: list[bytes] = []
    try:
        async for line in lines:
            kind, _, rest = line.rstrip(b"\n").partition(b" ")
            if kind == report.PROGRESS:
                progress(int(rest))
            elif kind == report.IMPLIED:
                implied.append(_relative(bytes.fromhex(rest.decode())))
            elif kind == report.DONE:
                return _applied(rest, tuple(implied))
            elif kind == report.FAILED:
                return parse_failed(rest)
            else:
                raise ValueError(f"unknown line {line[:100]!r}")
    except ValueError as error:
        raise Internal(f"{STEP}: the worker's report is not understood", phase=STEP, cause=str(error)) from error
    return None


def _applied(rest: bytes, implied: tuple[bytes, ...]) -> Applied:
    digest, *numbers = rest.split(b" ")
    if len(digest) != 64 or digest.strip(b"0123456789abcdef"):
        raise ValueError(f"digest {digest[:100]!r}")
    size, file_bytes, entries, opaque, elf_32, ignored = map(int, numbers)
    return Applied(Digest(digest.decode()), size, file_bytes, entries, implied, bool(opaque), bool(elf_32), ignored)


def _relative(path: bytes) -> bytes:
    if not path or path.startswith(b"/") or b".." in path.split(b"/") or b"\0" in path:
        raise ValueError(f"path {path[:100]!r}")
    return path


def _directory(mounts: Sequence[Mount]) -> Path:
    """Return the directory that the mounts lead to.

    Raises:
        Unimplemented: they are more than one writable bind, so that a mount would be needed.
    """
    if len(mounts) != 1 or mounts[0].type != "bind" or "ro" in mounts[0].options:
        raise Unimplemented(f"{STEP}: this applier writes to directories, not to {[mount.type for mount in mounts]}")
    return Path(mounts[0].source)
