"""Copying an image's directory into a volume in a process of its own (see `hythe_bundle.worker.copy_tree`)."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hythe
import hythe_bundle
from hythe.errors import HytheError, Internal, InvalidArgument, ResourceExhausted
from hythe.ports.snapshots import Mount
from hythe_bundle.adapters import disk_errors
from hythe_bundle.adapters.volume_directories import DATA
from hythe_bundle.wishes import IdRange
from hythe_bundle.worker import report
from hythe_bundle.worker.copy_tree import DONE, NOTHING

log = logging.getLogger(__name__)

STEP = "fill volume"
_IMAGE = "image"
_START = "import sys; sys.path[:0] = sys.argv[1].split(':'); from hythe_bundle.worker.copy_tree import run; run(sys.argv[2:])"


class VolumeCopier:
    """Keeps the promise of `hythe_bundle.volume_ports.Copier` by one short-lived process for each copy."""

    def __init__(self, root: Path, reserve_bytes: int) -> None:
        """`root` names the file system in messages, on which `reserve_bytes` stay free."""
        packages = {str(Path(next(iter(package.__path__))).parent) for package in (hythe, hythe_bundle)}
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._command = (sys.executable, "-I", "-S", "-c", _START, ":".join(sorted(packages)))

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
            raise self._failure(f"{STEP} {name} with the image's {target[:200]}", line, complaint, code)
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
                process.kill()
                await asyncio.shield(process.wait())

    def _failure(self, step: str, line: bytes, complaint: bytes, code: int) -> HytheError:
        kind, number, text = _read(line)
        match kind:
            case "file":
                return InvalidArgument(f"{step}: that is no directory", phase=STEP, next_step="mount it elsewhere")
            case "space":
                advice = f"make room on the file system of {self._root}, then try again"
                return ResourceExhausted(f"{step}: {text}", phase=STEP, next_step=advice)
            case "os" if number == errno.ELOOP:
                return InvalidArgument(f"{step}: too many symbolic links", phase=STEP, next_step="mount it elsewhere")
            case "os":
                return disk_errors.of_os(OSError(number, text), step, self._root, phase=STEP)
        log.error(
            "the copying worker failed", extra={"stderr": complaint.decode(errors="replace")[-2000:], "code": code}
        )
        return Internal(
            f"{step}: the worker ended with code {code}", phase=STEP, cause=complaint.decode(errors="replace")[-200:]
        )


def _ranges(ids: Sequence[IdRange]) -> str:
    return " ".join(f"{each.container_id} {each.host_id} {each.size}" for each in ids)


def _read(line: bytes) -> tuple[str, int, str]:
    """Return kind, errno and text of a report of failure; nothing of one that is not understood."""
    try:
        word, kind, number, text = line.rstrip(b"\n").split(b" ")
        if word == report.FAILED:
            return kind.decode(), int(number), bytes.fromhex(text.decode()).decode(errors="replace")
    except ValueError:
        pass
    return "", 0, ""
