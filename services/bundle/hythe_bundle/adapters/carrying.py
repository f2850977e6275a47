"""Trees copied, packed and unpacked in processes of their own (see `hythe_bundle.worker.carry` and ``plain``)."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hythe.errors import FailedPrecondition, HytheError, Internal, ResourceExhausted
from hythe.ports.snapshots import Mount
from hythe_bundle.adapters import disk_errors
from hythe_bundle.adapters.worker import MAX_COMPLAINT_BYTES, WorkerApplier
from hythe_bundle.applier import Limits
from hythe_bundle.carrying import Packing, Result, Sight
from hythe_bundle.worker import report

_FIND = "import sys; sys.path[:0] = sys.argv[1].split(':'); "
_RUN_CARRY = _FIND + "from hythe_bundle.worker.carry import run; sys.exit(run(sys.argv[2:]))"
_RUN_PLAIN = _FIND + "from hythe_bundle.worker.plain import run; run(sys.argv[2:], below_root={})"


class CarryingWorker:
    """Keeps the promises of `hythe_bundle.carrying.Carrier` by one short-lived process each."""

    def __init__(self, root: Path, reserve_bytes: int) -> None:
        """Look at snapshots at `root`/look, an empty directory; leave `reserve_bytes` free on the file system of `root`."""
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._look = root / "look"
        self._look.mkdir(mode=0o700, exist_ok=True)
        self._program = WorkerApplier(root).command

    async def copy(self, sight: Sight, target: Path, progress: Callable[[int], None]) -> Result:
        """See `Carrier.copy`."""
        order = {**self._seen(sight), "target": str(target), "reserve_bytes": self._reserve_of(target)}
        return await self._run("copy", target, order, (), progress)

    async def pack(
        self, sight: Sight, files: Mapping[str, bytes], packing: Packing, archive: int, progress: Callable[[int], None]
    ) -> Result:
        """See `Carrier.pack`."""
        order = {
            **self._seen(sight),
            "archive": archive,
            "files": {name: data.decode() for name, data in files.items()},
            "compression": packing.compression,
            "prefix": packing.prefix,
            "as_layer": packing.as_layer,
            "epoch_s": packing.epoch_s,
            "reserve_bytes": 0 if packing.as_layer else self._reserve_of(archive),
        }
        return await self._run("pack", Path(sight.name), order, (archive,), progress)

    async def unpack(
        self, name: str, archive: int, target: Path, progress: Callable[[int], None], *, below_root: bool
    ) -> Result:
        """See `Carrier.unpack`."""
        applier = WorkerApplier(self._root)
        applier.command = (*self._program[:4], _RUN_PLAIN.format(below_root), self._program[-1])
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
        self, verb: str, where: Path, order: dict[str, Any], descriptors: Sequence[int], progress: Callable[[int], None]
    ) -> Result:
        step = f"{verb} bundle {where}"
        process = await asyncio.create_subprocess_exec(
            *self._program[:4],
            _RUN_CARRY,
            self._program[-1],
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=descriptors,
            cwd="/",
            env={},
        )
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        complaint = asyncio.create_task(process.stderr.read(MAX_COMPLAINT_BYTES))
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
                    why, number, text = rest.split(b" ")
                    raise self._failure(step, why.decode(), int(number), bytes.fromhex(text.decode()).decode())
            code, said = await process.wait(), (await complaint).decode(errors="replace").strip()
            raise Internal(f"{step}: its worker ended with {code}", cause=said[-200:], next_step="try again")
        finally:
            complaint.cancel()
            if process.returncode is None:
                try:
                    process.kill()
                except ProcessLookupError:
                    pass
                await asyncio.shield(process.wait())

    def _failure(self, step: str, kind: str, number: int, text: str) -> HytheError:
        if kind in ("archive", "limit"):
            return FailedPrecondition(f"{step}: {text}")
        if kind == "space":
            return ResourceExhausted(f"{step}: {text}", next_step="make room, then try again")
        return disk_errors.of_os(OSError(number, text), step, self._root)
