"""Comparing file systems in a process of its own, and what its report means (see `hythe_bundle.worker.diff_main`)."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hythe.digest import Digest
from hythe.errors import FailedPrecondition, HytheError, Internal, ResourceExhausted
from hythe.ports.snapshots import Mount
from hythe_bundle.adapters import disk_errors
from hythe_bundle.adapters.pipes import through_pipe
from hythe_bundle.adapters.worker_process import ended, finish, parse_failed, read_some, worker_command
from hythe_bundle.differ import SHRANK, Change, ChangeKind, Comparison, LayerForm, Sink, WrittenLayer
from hythe_bundle.worker import report

STEP = "compare"
BATCH = 1000
BATCH_BYTES = 256 << 10
_PLACE = "compare"
_KINDS: dict[bytes, ChangeKind] = {b"A": "added", b"C": "changed", b"D": "deleted"}
_OVERLAY_PARAMETERS = Path("/sys/module/overlay/parameters")
_LEADS_ELSEWHERE = ("redirect_dir", "metacopy")


class WorkerDiffer:
    """Keeps the promises of `hythe_bundle.differ.Differ` by one short-lived process for each comparison."""

    def __init__(self, root: Path) -> None:
        """Have workers mount in a directory below `root`, each in a mount namespace of its own.

        Raises:
            Internal: the compressor is not installed.
        """
        self._root = root
        self._place = root / _PLACE
        self._place.mkdir(mode=0o700, exist_ok=True)
        self._command = worker_command("hythe_bundle.worker.diff_main")

    async def changes(self, comparison: Comparison) -> AsyncIterator[Sequence[Change]]:
        """See `Differ.changes`."""
        async with self._worker(comparison, self._order(comparison)) as worker:
            batch: list[Change] = []
            batch_bytes = 0
            async for kind, rest in worker.lines():
                if kind == report.CHANGE:
                    word, path = rest.split(b" ")
                    batch.append(Change(_KINDS[word], bytes.fromhex(path.decode())))
                    batch_bytes += len(path)
                    if len(batch) >= BATCH or batch_bytes >= BATCH_BYTES:
                        yield batch
                        batch, batch_bytes = [], 0
                elif kind == report.DONE:
                    if batch:
                        yield batch
                    return
                else:
                    raise await self._failure(comparison.name, worker, kind, rest)
            raise await worker.died()

    async def write(
        self, comparison: Comparison, form: LayerForm, sink: Sink, progress: Callable[[int], None]
    ) -> WrittenLayer:
        """See `Differ.write`."""
        order = self._order(comparison)

        async def work(writing: int, has_it: Callable[[], None]) -> WrittenLayer:
            order["layer"] = {"fd": writing, "compression": form.compression, "latest_s": form.latest_s}
            async with self._worker(comparison, order, writing) as worker:
                has_it()
                return await self._follow(comparison.name, worker, progress)

        return await through_pipe(work, sink)

    async def _follow(self, name: str, worker: _Worker, progress: Callable[[int], None]) -> WrittenLayer:
        async for kind, rest in worker.lines():
            if kind == report.PROGRESS:
                progress(int(rest))
            elif kind == report.DONE:
                return _written(rest)
            else:
                raise await self._failure(name, worker, kind, rest)
        raise await worker.died()

    def _order(self, comparison: Comparison) -> dict[str, Any]:
        upper = comparison.changes
        if upper is not None and _leads_elsewhere():
            upper = None
        options = (*comparison.changes_options, "ro", "rbind")
        new = comparison.new if upper is None else (Mount("bind", str(upper), "", options),)
        return {
            "place": str(self._place),
            "base": [asdict(mount) for mount in comparison.base],
            "new": [asdict(mount) for mount in new],
            "changes_only": upper is not None,
            "skip_runtime_made": comparison.skip_runtime_made,
        }

    @asynccontextmanager
    async def _worker(self, comparison: Comparison, order: dict[str, Any], *passed: int) -> AsyncIterator[_Worker]:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
            pass_fds=passed,
            limit=report.MAX_LINE_BYTES,
        )
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        worker = _Worker(comparison.name, process, asyncio.create_task(read_some(process.stderr)))
        try:
            process.stdin.write(json.dumps(order).encode())
            process.stdin.write_eof()
            yield worker
        finally:
            await worker.end()

    async def _failure(self, name: str, worker: _Worker, kind: bytes, rest: bytes) -> HytheError:
        if kind != report.FAILED:
            return _not_understood(f"unknown line {kind[:100]!r}")
        last = parse_failed(rest)
        message = f"{STEP} {name}: {last.text}"
        match last.kind:
            case "archive":
                advice = "change that in the container, then try again"
                return FailedPrecondition(message, phase=STEP, outcome="failed", next_step=advice)
            case "changed":
                advice = "stop the container, then try again"
                return FailedPrecondition(
                    message, phase=STEP, outcome="failed", next_step=advice, details={"kind": SHRANK}
                )
            case "limit":
                return ResourceExhausted(message, phase=STEP, next_step="leave it out of the container's file system")
        if last.number == errno.ENOMEM:
            return ResourceExhausted(message, phase=STEP, next_step="make memory free, then try again")
        return disk_errors.of_os(OSError(last.number, last.text), f"{STEP} {name}", self._root, phase=STEP)


@dataclass(slots=True)
class _Worker:
    """A worker that was started."""

    name: str
    process: asyncio.subprocess.Process
    complaint: asyncio.Task[bytes]

    async def lines(self) -> AsyncIterator[tuple[bytes, bytes]]:
        """Yield the report, each line divided behind its first word.

        Raises:
            Internal: a line is longer than the report's form allows.
        """
        assert self.process.stdout is not None
        try:
            async for line in self.process.stdout:
                kind, _, rest = line.rstrip(b"\n").partition(b" ")
                yield kind, rest
        except ValueError as error:
            raise _not_understood(str(error)) from error

    async def died(self) -> Internal:
        """Return the error for a worker that ended without its last line."""
        return ended(STEP, self.name, await self.process.wait(), await self.complaint)

    async def end(self) -> None:
        """Make it end; may be repeated."""
        self.complaint.cancel()
        if self.process.returncode is None:
            await finish(self.process)


def _written(rest: bytes) -> WrittenLayer:
    diff_id, archive_bytes, digest, *numbers = rest.split(b" ")
    return WrittenLayer(
        Digest(diff_id.decode()), int(archive_bytes), Digest(digest.decode()), *(int(number) for number in numbers)
    )


def _not_understood(cause: str) -> Internal:
    return Internal(f"{STEP}: the worker's report is not understood", phase=STEP, cause=cause)


def _leads_elsewhere() -> bool:
    """Tell whether overlayfs may write marks that lead elsewhere, so that its directory of changes says too little."""
    for name in _LEADS_ELSEWHERE:
        try:
            if (_OVERLAY_PARAMETERS / name).read_text().strip() not in ("N", "0", ""):
                return True
        except FileNotFoundError:
            continue  # a kernel without it
    return False
