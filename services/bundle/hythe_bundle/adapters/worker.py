"""Applying a layer in a process of its own, and what its report means (see `hythe_bundle.worker.main`)."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import hythe
import hythe_bundle
from hythe import failpoints
from hythe.digest import Digest
from hythe.errors import DataLoss, HytheError, Internal, InvalidArgument, ResourceExhausted, Unimplemented
from hythe.ports.snapshots import Mount
from hythe_bundle.adapters import disk_errors
from hythe_bundle.applier import Applied, Limits
from hythe_bundle.worker import report

log = logging.getLogger(__name__)

STEP = "unpack layer"
MAX_COMPLAINT_BYTES = 4096
END_S = 1.0
"""How long a worker may take to end once it has said what became of its layer."""

_START = (
    "import sys; sys.path[:0] = sys.argv[1].split(':'); from hythe_bundle.worker.main import run; run(sys.argv[2:])"
)


class WorkerApplier:
    """Keeps the promises of `hythe_bundle.applier.Applier` by one short-lived process for each layer.

    Attributes:
        command: how the worker is started; its numbers follow.
    """

    def __init__(self, root: Path) -> None:
        """Find what the worker imports; `root` names the file system in messages.

        Raises:
            Internal: the decompressor is not installed.
        """
        found = importlib.util.find_spec("isal")
        if found is None or found.origin is None:
            raise Internal("start bundle: the Python package isal is not installed", next_step="install hythe[bundle]")
        packages = Path(found.origin).parent.parent
        own = {str(Path(next(iter(package.__path__))).parent) for package in (hythe, hythe_bundle)}
        self._root = root
        self.command = (sys.executable, "-I", "-S", "-c", _START, ":".join(sorted({*own, str(packages)})))

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
        complaint = asyncio.create_task(_read_some(process.stderr))
        last = None
        try:
            failpoints.reach("bundle.layer.apply")
            last = await _follow(process.stdout, progress)
            if isinstance(last, Applied):
                return last
            if last is not None:
                raise self._failure(name, last)
            raise _ended(name, await process.wait(), await complaint)
        finally:
            complaint.cancel()
            if process.returncode is None:
                await _finish(process, END_S if last else 0.0)

    def _failure(self, name: str, last: _Failed) -> HytheError:
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


@dataclass(frozen=True, slots=True)
class _Failed:
    """The last line of a worker that failed."""

    kind: str
    number: int
    text: str


async def _follow(lines: asyncio.StreamReader, progress: Callable[[int], None]) -> Applied | _Failed | None:
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
                why, number, text = rest.split(b" ")
                return _Failed(why.decode(), int(number), bytes.fromhex(text.decode()).decode(errors="replace"))
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


async def _read_some(stream: asyncio.StreamReader) -> bytes:
    """Return what comes up to the end, at most 4 KiB of it."""
    data = b""
    while len(data) < MAX_COMPLAINT_BYTES and (more := await stream.read(MAX_COMPLAINT_BYTES - len(data))):
        data += more
    return data


def _ended(name: str, code: int, complaint: bytes) -> Internal:
    """Return the error for a worker that ended without a report."""
    text = complaint.decode(errors="replace").strip()
    if text:
        log.error("the unpack worker failed", extra={"stderr": text})
    if code < 0:
        return Internal(
            f"{STEP} {name}: the worker was killed by {_signal_name(-code)}",
            phase=STEP,
            cause=text[-200:],
            next_step="try again; if the kernel killed it for want of memory, `dmesg` says so",
        )
    return Internal(f"{STEP} {name}: the worker ended with exit code {code}", phase=STEP, cause=text[-200:])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _directory(mounts: Sequence[Mount]) -> Path:
    """Return the directory that the mounts lead to.

    Raises:
        Unimplemented: they are more than one writable bind, so that a mount would be needed.
    """
    if len(mounts) != 1 or mounts[0].type != "bind" or "ro" in mounts[0].options:
        raise Unimplemented(f"{STEP}: this applier writes to directories, not to {[mount.type for mount in mounts]}")
    return Path(mounts[0].source)


async def _finish(process: asyncio.subprocess.Process, patience_s: float) -> None:
    """Let the worker end that has said its last word, and make it end otherwise; leave no zombie."""
    try:
        if patience_s:
            async with asyncio.timeout(patience_s):
                await process.wait()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            try:
                process.kill()
            except ProcessLookupError:
                pass
            await asyncio.shield(process.wait())
