"""Trees copied, packed and unpacked in processes of their own (see `hythe_bundle.worker.carry` and ``plain``)."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hythe.errors import FailedPrecondition, HytheError, ResourceExhausted
from hythe.ports.snapshots import Mount
from hythe_bundle.adapters import disk_errors
from hythe_bundle.adapters.pipes import Sink, through_pipe
from hythe_bundle.adapters.worker import WorkerApplier
from hythe_bundle.adapters.worker_process import Failed, ended, finish, parse_failed, read_some, worker_command
from hythe_bundle.applier import Limits
from hythe_bundle.carrying import Packing, Result, Sight
from hythe_bundle.worker import report


class CarryingWorker:
    """Keeps the promises of `hythe_bundle.carrying.Carrier` by one short-lived process each."""

    def __init__(self, root: Path, reserve_bytes: int) -> None:
        """Look at snapshots at `root`/look, an empty directory; leave `reserve_bytes` free on the file system of `root`."""
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._look = root / "look"
        self._look.mkdir(mode=0o700, exist_ok=True)
        self._command = worker_command("hythe_bundle.worker.carry")
        self._unpack_command = worker_command("hythe_bundle.worker.plain")

    async def copy(self, sight: Sight, target: Path, progress: Callable[[int], None]) -> Result:
        """See `Carrier.copy`."""
        order = {**self._seen(sight), "target": str(target), "reserve_bytes": self._reserve_of(target)}
        return await self._run("copy", target, order, (), progress)

    async def pack(
        self, sight: Sight, files: Mapping[str, bytes], packing: Packing, archive: int, progress: Callable[[int], None]
    ) -> Result:
        """See `Carrier.pack`."""
        order = self._packing(sight, files, packing, archive) | {"reserve_bytes": self._reserve_of(archive)}
        return await self._run("pack", Path(sight.name), order, (archive,), progress)

    async def pack_into(self, sight: Sight, packing: Packing, sink: Sink, progress: Callable[[int], None]) -> Result:
        """See `Carrier.pack_into`."""

        async def work(writing: int, has_it: Callable[[], None]) -> Result:
            order = self._packing(sight, {}, packing, writing) | {"reserve_bytes": 0}
            return await self._run("pack", Path(sight.name), order, (writing,), progress, has_it)

        return await through_pipe(work, sink)

    def _packing(self, sight: Sight, files: Mapping[str, bytes], packing: Packing, archive: int) -> dict[str, Any]:
        return {
            **self._seen(sight),
            "archive": archive,
            "files": {name: data.decode() for name, data in files.items()},
            "compression": packing.compression,
            "prefix": packing.prefix,
            "as_layer": packing.as_layer,
            "epoch_s": packing.epoch_s,
        }

    async def unpack(
        self, name: str, archive: int, target: Path, progress: Callable[[int], None], *, below_root: bool
    ) -> Result:
        """See `Carrier.unpack`."""
        applier = WorkerApplier(self._root, (*self._unpack_command, str(int(below_root))))
        limits = Limits(reserve_bytes=self._reserve_of(target))
        to_target = (Mount("bind", str(target), "", ("rw", "rbind")),)
        try:
            applied = await applier.apply(f"of bundle {name}", archive, to_target, limits, progress)
        except HytheError as error:
            error.next_step = "" if isinstance(error, ResourceExhausted) else "pack the bundle again"
            raise
        return Result(file_bytes=applied.file_bytes)

    def _seen(self, sight: Sight) -> dict[str, Any]:
        mounts = [(mount.type, mount.source, mount.target, mount.options) for mount in sight.mounts]
        return {"mounts": mounts, "source": str(self._look) if mounts else sight.directory}

    def _reserve_of(self, target: Path | int) -> int:
        """Return the reserve to keep: only on the file system that Hythe itself lives on."""
        found = os.fstat(target) if isinstance(target, int) else target.stat()
        return self._reserve_bytes if found.st_dev == self._root.stat().st_dev else 0

    async def _run(
        self,
        verb: str,
        where: Path,
        order: dict[str, Any],
        descriptors: Sequence[int],
        progress: Callable[[int], None],
        started: Callable[[], None] = lambda: None,
    ) -> Result:
        step = f"{verb} bundle {where}"
        process = await asyncio.create_subprocess_exec(
            *self._command,
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=descriptors,
            cwd="/",
            env={},
        )
        started()
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        complaint = asyncio.create_task(read_some(process.stderr))
        try:
            process.stdin.write(json.dumps(order).encode())
            process.stdin.write_eof()
            async for line in process.stdout:
                kind, _, rest = line.rstrip(b"\n").partition(b" ")
                if kind == report.PROGRESS:
                    progress(int(rest))
                elif kind == report.DONE:
                    return Result(**json.loads(rest))
                elif kind == report.FAILED:
                    raise self._failure(step, parse_failed(rest))
            raise ended(f"{verb} bundle", str(where), await process.wait(), await complaint)
        finally:
            complaint.cancel()
            if process.returncode is None:
                await finish(process)

    def _failure(self, step: str, failed: Failed) -> HytheError:
        if failed.kind in ("archive", "limit"):
            return FailedPrecondition(f"{step}: {failed.text}")
        if failed.kind == "space":
            return ResourceExhausted(f"{step}: {failed.text}", next_step="make room, then try again")
        return disk_errors.of_os(OSError(failed.number, failed.text), step, self._root)
