"""conmon: how it is started, let go, watched and found again (libraries: conmon 2.1).

Its start and sync pipes are named FIFOs in the run directory, opened for reading and writing: the death of the agent
neither lets conmon go nor ends it, and a later agent reads what it answered. Its ``-b`` is the run directory, where its
sockets then lie; runc gets the bundle by a later ``--bundle``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from hythe import clock, tracing
from hythe.errors import DeadlineExceeded, FailedPrecondition
from hythe.process import ProcessIdentity, identify
from hythe_runtime.agent import failures
from hythe_runtime.agent.adapters import programs
from hythe_runtime.agent.adapters.cgroup import KernelCgroups
from hythe_runtime.agent.adapters.foreign import os_errors
from hythe_runtime.agent.adapters.orphans import end_orphans
from hythe_runtime.agent.adapters.runc import Runc
from hythe_runtime.agent.adapters.waiting import readable
from hythe_runtime.agent.model import Exit
from hythe_runtime.agent.places import Places, RunPlace

log = logging.getLogger(__name__)

CREATE_WITHIN_S = 60.0
SETTLE_WITHIN_S = 10.0
MONITOR_LOST = "the monitor was lost, exit code unknown"


class Conmon:
    """`hythe_runtime.agent.ports.Monitors` by conmon."""

    def __init__(self, places: Places, cgroups: KernelCgroups, runc: Runc) -> None:
        self._places = places
        self._cgroups = cgroups
        self._runc = runc

    async def launch(self, place: RunPlace, *, stdin: bool) -> ConmonMonitor:
        """Start conmon for a new run, outside the agent's own cgroup; it waits to be let go. Makes the run directory."""
        return await asyncio.to_thread(self._launch, place, stdin)

    async def warm_up(self) -> None:
        """Do what makes the next launch slow, ahead of it."""
        await asyncio.to_thread(self._cgroups.warm_up)

    def adopt(self, place: RunPlace, identity: ProcessIdentity | None) -> ConmonMonitor:
        """Return the monitor of a run that an earlier agent made; None: it is gone."""
        return ConmonMonitor(place, identity)

    async def alive(self) -> Mapping[Path, ProcessIdentity]:
        """Return every conmon of this agent's that lives, by run directory, whoever started it."""
        return await asyncio.to_thread(self._alive)

    def _launch(self, place: RunPlace, stdin: bool) -> ConmonMonitor:
        arguments = self._arguments(place, stdin)
        with os_errors(f"start {place.name}", phase="conmon"):
            with tracing.span("conmon spawn"):
                _make_directories(place)
                start, sync = _open_pipes(place)
                monitor = ConmonMonitor(place, None, None, start, sync)
                try:
                    monitor.process = self._spawn(place, arguments, start, sync)
                except BaseException:
                    monitor.close()
                    raise
            try:
                with tracing.span("monitor cgroup"):
                    self._cgroups.move(monitor.process.pid, self._places.monitors_cgroup)
            except BaseException:
                monitor.process.kill()
                monitor.process.wait()
                monitor.close()
                raise
        return monitor

    def _spawn(self, place: RunPlace, arguments: list[str], start: int, sync: int) -> subprocess.Popen[bytes]:
        with (place.directory / "conmon.err").open("wb") as stderr:
            variables = {"_OCI_STARTPIPE": str(start), "_OCI_SYNCPIPE": str(sync)}
            return programs.spawn(arguments, variables, (start, sync), stderr)

    def _arguments(self, place: RunPlace, stdin: bool) -> list[str]:
        directory, container_id = str(place.directory), place.container_id
        argv = [
            programs.find("conmon"),
            "--api-version",
            "1",
            "-c",
            container_id,
            "-u",
            container_id,
            "-n",
            container_id,
        ]
        argv += [
            "-r",
            programs.find("runc"),
            "-b",
            directory,
            "-p",
            str(place.container_pid),
            "-P",
            str(place.conmon_pid),
        ]
        argv += ["-l", f"k8s-file:{place.log}", "--no-sync-log", "--exit-dir", str(place.exit_file.parent)]
        argv += ["--persist-dir", f"{directory}/persist", "--full-attach"]
        for argument in self._runc.arguments(f"{directory}/runc.log"):
            argv += ["--runtime-arg", argument]
        argv += ["--runtime-opt", "--bundle", "--runtime-opt", str(place.bundle)]
        return argv + (["-i"] if stdin else [])

    def _alive(self) -> dict[Path, ProcessIdentity]:
        found: dict[Path, ProcessIdentity] = {}
        prefix = f"{self._places.runs}/"
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if Path(argv[0]).name != "conmon" or "-b" not in argv:
                continue
            directory = argv[argv.index("-b") + 1]
            identity = identify(int(entry.name))
            if not directory.startswith(prefix) or identity is None:
                continue
            path = Path(directory)
            if path not in found or programs.read_small(path / "conmon.pid") == entry.name.encode():
                found[path] = identity
        return found


class ConmonMonitor:
    """`hythe_runtime.agent.ports.Monitor`: one conmon, from its start or found again.

    Attributes:
        process: what was started, until it has left the work to its child.
    """

    def __init__(
        self,
        place: RunPlace,
        identity: ProcessIdentity | None,
        process: subprocess.Popen[bytes] | None = None,
        start: int = -1,
        sync: int = -1,
    ) -> None:
        self._place = place
        self.process = process
        self._start = start
        self._sync = sync
        self._pidfd = -1
        self.identity: ProcessIdentity | None = None
        if identity is not None:
            self._watch(identity)

    def __repr__(self) -> str:
        return f"ConmonMonitor({self._place.container_id}, {self.identity})"

    def _watch(self, identity: ProcessIdentity) -> None:
        self.identity = identity
        pidfd = identity.open_pidfd()
        self._pidfd = -1 if pidfd is None else pidfd

    async def create(self) -> int:
        """Let it run ``runc create``; return the pid of the container's first process. Once only."""
        os.write(self._start, b"\0")
        try:
            await self._forked(CREATE_WITHIN_S)
            pid = self._read_answer(await self._created())
            self._close_pipes()
            return pid
        except TimeoutError:
            raise DeadlineExceeded(
                f"start {self._place.name}: not created within {CREATE_WITHIN_S:.0f} s",
                phase="runc create",
                outcome="failed",
                details={"exit_code": str(failures.FAILED_CODE)},
            ) from None

    async def _created(self) -> bytes:
        """Return conmon's answer to the create; a runtime that dies meanwhile holds it up no longer than a second."""
        if self.identity is None:
            return await self._answered(CREATE_WITHIN_S)
        watch = asyncio.create_task(end_orphans(self.identity.pid, self._place.container_pid))
        try:
            return await self._answered(CREATE_WITHIN_S)
        finally:
            watch.cancel()

    async def _forked(self, timeout_s: float) -> None:
        """Wait until the process that was started has left the work to its child, whose pid it writes down."""
        process = self.process
        if process is None:
            return
        pidfd = os.pidfd_open(process.pid)
        try:
            await readable(pidfd, timeout_s=timeout_s)
        finally:
            os.close(pidfd)
        self.process = None
        code = process.wait()
        identity = self._read_identity()
        if identity is not None:
            self._watch(identity)
        elif code:
            said = programs.last_line(programs.read_small(self._place.directory / "conmon.err"), f"exit code {code}")
            raise self._refused("conmon", said)

    def _read_identity(self) -> ProcessIdentity | None:
        text = programs.read_small(self._place.conmon_pid)
        return identify(int(text)) if text.strip().isdigit() else None

    async def _answered(self, timeout_s: float) -> bytes:
        """Return what conmon wrote to its sync pipe, empty if it died before. Such a FIFO never shows an end of file."""
        if self._sync < 0:
            self._sync = os.open(self._place.directory / "sync", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        if self._pidfd >= 0:
            await readable(self._sync, self._pidfd, timeout_s=timeout_s)
        try:
            return os.read(self._sync, 65536)
        except BlockingIOError:
            return b""

    def _read_answer(self, data: bytes) -> int:
        lines = data.decode(errors="replace").strip().splitlines()
        if not lines:
            raise self._refused("runc create", "conmon ended without an answer")
        try:
            answer = json.loads(lines[0])
            pid = int(answer["data"])
        except (ValueError, KeyError, TypeError):
            raise self._refused("runc create", f"conmon said {lines[0]!r}") from None
        if pid <= 0:
            raise self._refused("runc create", str(answer.get("message", "")))
        return pid

    def _refused(self, phase: str, message: str) -> FailedPrecondition:
        return failures.refused(f"start {self._place.name}", phase, message)

    async def settle(self) -> None:
        """Wait until a ``runc create`` in progress is over, or end a conmon that was never let go."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        elif self._pidfd < 0 or self._place.container_pid.exists():
            return
        elif not self._place.conmon_pid.exists():
            await self.kill()
        else:
            try:
                await self._answered(SETTLE_WITHIN_S)
            except (TimeoutError, FileNotFoundError):
                await self.kill()

    async def ended(self) -> None:
        """Return when it is gone: the container has then ended, or nobody watches it any more."""
        if self._pidfd >= 0:
            await readable(self._pidfd)

    def exit(self) -> tuple[Exit, str]:
        """Return how the container ended and when (RFC 3339); only after `ended`. ``code`` None: the monitor was lost."""
        try:
            text = self._place.exit_file.read_text()
            modified = self._place.exit_file.stat().st_mtime
        except FileNotFoundError:
            return Exit(None, MONITOR_LOST), clock.now_rfc3339()
        if not text.strip().isdigit():
            return Exit(None, f"conmon wrote {text[:20]!r} as exit code"), clock.now_rfc3339()
        return Exit(int(text)), datetime.fromtimestamp(modified, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    async def kill(self) -> None:
        """Kill conmon itself and return when it is gone."""
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            await self.ended()

    def close(self) -> None:
        """Let go of it; it goes on."""
        self._close_pipes()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _close_pipes(self) -> None:
        for fd in (self._start, self._sync):
            if fd >= 0:
                os.close(fd)
        self._start = self._sync = -1


def _make_directories(place: RunPlace) -> None:
    place.directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.directory.mkdir(mode=0o700)
    place.exit_file.parent.mkdir(mode=0o700)
    (place.directory / "persist").mkdir(mode=0o700)
    place.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _open_pipes(place: RunPlace) -> tuple[int, int]:
    """Make and open the start and sync pipes, both ends at once, so that neither side's death shows as end of file."""
    for name in ("start", "sync"):
        os.mkfifo(place.directory / name, 0o600)
    start = os.open(place.directory / "start", os.O_RDWR | os.O_CLOEXEC)
    try:
        return start, os.open(place.directory / "sync", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        os.close(start)
        raise
