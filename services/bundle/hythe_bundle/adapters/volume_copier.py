"""Copying an image's directory into a volume in a process of its own (see `hythe_bundle.worker.copy_tree`)."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from hythe.errors import HytheError, Internal, InvalidArgument, ResourceExhausted
from hythe.ports.snapshots import Mount
from hythe_bundle.adapters import disk_errors
from hythe_bundle.adapters.volume_directories import DATA
from hythe_bundle.adapters.worker_process import ended, finish, parse_failed, worker_command
from hythe_bundle.wishes import IdRange
from hythe_bundle.worker import report
from hythe_bundle.worker.copy_tree import DONE, NOTHING

STEP = "fill volume"
_IMAGE = "image"


class VolumeCopier:
    """Keeps the promise of `hythe_bundle.volume_ports.Copier` by one short-lived process for each copy."""

    def __init__(self, root: Path, reserve_bytes: int) -> None:
        """`root` names the file system in messages, on which `reserve_bytes` stay free."""
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._command = worker_command("hythe_bundle.worker.copy_tree")

    async def copy(
        self,
        name: str,
        mounts: Sequence[Mount],
        target: str,
        stage: Path,
        users: Sequence[IdRange],
        groups: Sequence[IdRange],
    ) -> bool:
        """See `Copier.copy`."""
        point = stage / _IMAGE
        with disk_errors.translated(STEP, self._root):
            point.mkdir(mode=0o700)
            into = os.open(stage / DATA, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        order = [str(point), target, _ranges(users), _ranges(groups)]
        for mount in mounts:
            order += [mount.type, mount.source, mount.target, str(len(mount.options)), *mount.options]
        try:
            line, complaint, code = await self._work(into, b"".join(os.fsencode(field) + b"\0" for field in order))
        finally:
            os.close(into)
            point.rmdir()
        if line not in (DONE, NOTHING):
            raise self._failure(f"{name} with the image's {target[:200]}", line, complaint, code)
        return line == DONE

    async def _work(self, into: int, order: bytes) -> tuple[bytes, bytes, int]:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *map(str, (os.getpid(), into, self._reserve_bytes)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(into,),
            cwd="/",
            env={},
        )
        try:
            line, complaint = await process.communicate(order)
            return line, complaint, process.returncode or 0
        finally:
            if process.returncode is None:
                await finish(process)

    def _failure(self, what: str, line: bytes, complaint: bytes, code: int) -> HytheError:
        step = f"{STEP} {what}"
        word, _, rest = line.rstrip(b"\n").partition(b" ")
        if word != report.FAILED:
            return ended(STEP, what, code, complaint)
        try:
            failed = parse_failed(rest)
        except ValueError as error:
            return Internal(f"{step}: the worker's report is not understood", phase=STEP, cause=str(error))
        match failed.kind:
            case "file":
                return InvalidArgument(f"{step}: that is no directory", phase=STEP, next_step="mount it elsewhere")
            case "space":
                advice = f"make room on the file system of {self._root}, then try again"
                return ResourceExhausted(f"{step}: {failed.text}", phase=STEP, next_step=advice)
        if failed.number == errno.ELOOP:
            return InvalidArgument(f"{step}: too many symbolic links", phase=STEP, next_step="mount it elsewhere")
        return disk_errors.of_os(OSError(failed.number, failed.text), step, self._root, phase=STEP)


def _ranges(ids: Sequence[IdRange]) -> str:
    return " ".join(f"{each.container_id} {each.host_id} {each.size}" for each in ids)
