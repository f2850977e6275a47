"""Copying in a process of its own inside a container's root, and what its report means (see `…agent.worker.main`)."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import logging
import os
import select
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hythe
import hythe_runtime
from hythe.archive.starting import worker_command
from hythe.errors import BY_CODE, FailedPrecondition, HytheError, Internal, Unavailable
from hythe_runtime.agent.copies import Copied, CopyOrder, LiveRoot, StillRoot
from hythe_runtime.agent.worker.order import MAX_LINE_BYTES

log = logging.getLogger(__name__)

PIPE_BYTES = 1 << 20
ENDS_WITHIN_S = 1.0


class ProcessCopier:
    """`hythe_runtime.agent.copies.Copier` by one short-lived process for each copy."""

    def __init__(self) -> None:
        self._command = worker_command("hythe_runtime.agent.worker.main", (hythe, hythe_runtime))

    async def start(self, order: CopyOrder) -> CopyProcess:
        """Start a worker; it is on its way into the root."""
        wish, config = order.wish, _Config()
        if isinstance(order.root, StillRoot):
            config = await asyncio.to_thread(_read_config, order.root.bundle)
        with ExitStack() as stack:
            root = -1
            if isinstance(order.root, LiveRoot):
                root = open_root(order.root)
                stack.callback(os.close, root)
            ours, theirs = _pipe(inward=wish.inward)
            stack.callback(os.close, theirs)
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    _words(order, root, config),
                    stdin=theirs if wish.inward else asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL if wish.inward else theirs,
                    stderr=asyncio.subprocess.PIPE,
                    pass_fds=() if root < 0 else (root,),
                    env={},
                    limit=MAX_LINE_BYTES,
                )
            except BaseException:
                os.close(ours)
                raise
        return CopyProcess(process, ours, inward=wish.inward)


def open_root(live: LiveRoot) -> int:
    """Return a descriptor of the root directory of a running container, as its first process sees it.

    That the process is the container's is told by its cgroup, and that the pid was its own all the time by a pidfd.

    Raises:
        FailedPrecondition: it has ended.
    """
    gone = FailedPrecondition("enter the container: it has just ended", next_step="try again")
    root = -1
    try:
        process = os.pidfd_open(live.pid)
    except ProcessLookupError:
        raise gone from None
    try:
        root = os.open(f"/proc/{live.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        lines = Path(f"/proc/{live.pid}/cgroup").read_text().splitlines()
        poller = select.poll()
        poller.register(process, select.POLLIN)
        if poller.poll(0) or not any(_lies_in(line.split(":", 2)[2], live.cgroup) for line in lines):
            raise gone
        found, root = root, -1
        return found
    except (FileNotFoundError, ProcessLookupError):
        raise gone from None
    finally:
        os.close(process)
        if root >= 0:
            os.close(root)


def _lies_in(cgroup: str, top: str) -> bool:
    return cgroup == top or cgroup.startswith(f"{top}/")


@dataclass(frozen=True, slots=True)
class _Config:
    """What a bundle's ``config.json`` says about its files: binds as (path on the host, path inside, read-only)."""

    root: str = ""
    read_only: bool = False
    binds: tuple[tuple[str, str, bool], ...] = ()


def _read_config(bundle: Path) -> _Config:
    """Read the configuration of a bundle. Blocks.

    Raises:
        FailedPrecondition: there is none, or it is none.

    Spec: OCI runtime-spec, "Root" and "Mounts".
    """
    try:
        config: dict[str, Any] = json.loads((bundle / "config.json").read_bytes())
        binds = []
        for each in config.get("mounts") or ():
            options = each.get("options") or ()
            if each.get("type") == "bind" or "bind" in options or "rbind" in options:
                binds.append((str(bundle / each["source"]), str(each["destination"]), "ro" in options))
        return _Config(str(bundle / config["root"]["path"]), bool(config["root"].get("readonly")), tuple(binds))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise FailedPrecondition(f"read {bundle}/config.json: it cannot be used", cause=str(error)) from error


def _pipe(*, inward: bool) -> tuple[int, int]:
    """Return (our end, the worker's end); ours never blocks."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    ours, theirs = (writing, reading) if inward else (reading, writing)
    os.set_blocking(ours, False)
    try:
        fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EBUSY):
            raise  # beyond this user's limit for pipes it stays as it is
    return ours, theirs


def _words(order: CopyOrder, root: int, config: _Config) -> str:
    wish, still = order.wish, order.root if isinstance(order.root, StillRoot) else None
    return json.dumps(
        {
            "parent": os.getpid(),
            "inward": wish.inward,
            "path": wish.path,
            "follow_link": wish.follow_link,
            "keep_owner": wish.keep_owner,
            "as_is": wish.as_is,
            "root": root,
            "rootfs": "" if not still else still.rootfs if still.mounts else config.root,
            "mounts": [(m.type, m.source, m.target, list(m.options)) for m in still.mounts] if still else [],
            "binds": config.binds,
            "read_only": config.read_only,
            "uids": list(order.uids),
            "gids": list(order.gids),
        }
    )


class CopyProcess:
    """`hythe_runtime.agent.copies.CopyWorker`."""

    def __init__(self, process: asyncio.subprocess.Process, pipe: int, *, inward: bool) -> None:
        self._process = process
        self._pipe = pipe
        self._inward = inward
        self._loop = asyncio.get_running_loop()
        assert process.stderr is not None
        self._report = asyncio.ensure_future(_last_lines(process.stderr))

    async def read(self, most: int) -> bytes:
        """Return up to `most` bytes of the archive; empty at its end."""
        while True:
            try:
                return os.read(self._pipe, most)
            except BlockingIOError:
                await self._ready(self._loop.add_reader, self._loop.remove_reader)

    async def write(self, data: bytes) -> None:
        """Write a piece of the archive, waiting until the worker takes it."""
        view = memoryview(data)
        while view:
            if self._pipe < 0:
                raise Unavailable("write to a copy worker: it is gone")
            try:
                view = view[os.write(self._pipe, view) :]
            except BlockingIOError:
                await self._ready(self._loop.add_writer, self._loop.remove_writer)
            except OSError as error:
                raise Unavailable("write to a copy worker: it takes no more") from error

    def end(self) -> None:
        """Let the worker see the end of the archive."""
        self.close()

    def close(self) -> None:
        """Drop the pipe."""
        if self._pipe >= 0:
            self._loop.remove_reader(self._pipe)
            self._loop.remove_writer(self._pipe)
            os.close(self._pipe)
            self._pipe = -1

    async def _ready(self, add: Callable[..., None], remove: Callable[[int], bool]) -> None:
        """Wait until the pipe can be used."""
        future: asyncio.Future[None] = self._loop.create_future()

        def usable() -> None:
            if not future.done():
                future.set_result(None)

        add(self._pipe, usable)
        try:
            await future
        finally:
            if self._pipe >= 0:
                remove(self._pipe)

    async def outcome(self) -> Copied:
        """Wait until it is done."""
        report = await asyncio.shield(self._report)
        code = await self._process.wait()
        last = report.rstrip(b"\n").rpartition(b"\n")[2]
        try:
            said: dict[str, Any] = json.loads(last)
            if "failed" in said:
                raise self._failure(said["failed"])
            done = said["done"]
            return Copied(int(done["entries"]), int(done["file_bytes"]), tuple(map(str, done["warnings"])))
        except (ValueError, KeyError, TypeError) as error:
            text = report.decode(errors="replace").strip()
            log.error("a copy worker ended without a report", extra={"code": code, "stderr": text})
            raise Internal(
                f"copy: the worker ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}",
                cause=text[-200:],
                next_step="copy again; if the kernel killed it for want of memory, `dmesg` says so",
            ) from error

    def _failure(self, said: dict[str, str]) -> HytheError:
        kind = BY_CODE.get(said["code"], Internal)
        outcome = "failed" if self._inward else None
        return kind(said["message"], cause=said["cause"], next_step=said["next_step"], outcome=outcome)  # type: ignore[arg-type]

    async def finish(self) -> None:
        """End it and wait until it is gone: one that reads sees the archive's end first, and tidies up behind itself."""
        await asyncio.shield(asyncio.ensure_future(self._finish()))

    async def _finish(self) -> None:
        self.close()
        if self._process.returncode is None and self._inward:
            try:
                async with asyncio.timeout(ENDS_WITHIN_S):
                    await self._process.wait()
            except TimeoutError:
                pass
        if self._process.returncode is None:
            try:
                self._process.kill()
            except ProcessLookupError:
                pass
        await self._process.wait()
        self._report.cancel()


async def _last_lines(stream: asyncio.StreamReader) -> bytes:
    """Return the end of what comes, at most 16 KiB of it."""
    data = b""
    while more := await stream.read(MAX_LINE_BYTES):
        data = (data + more)[-MAX_LINE_BYTES:]
    return data
