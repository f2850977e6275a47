"""Keeps the processes of a stack running: starts them, watches them by pidfd, starts the dead again, stops all in order.

A process started by an earlier `hythe up` that was killed is adopted, not started twice: it is watched like a child, only
its exit code stays unknown.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Sequence

from hythe.clock import now_rfc3339
from hythe.errors import HytheError, Unavailable
from hythe.process import ProcessIdentity
from hythe.stack.backoff import Backoff
from hythe.stack.log_lines import readable
from hythe.stack.processes import ProcessSpec, last_lines, start
from hythe.stack.report import Report
from hythe.stack.up_file import Started

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
_READY_CHECK_S = 0.01
_LOG_LINES = 12


class Member:
    """One process that is kept running."""

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        self.identity: ProcessIdentity | None = None
        self.pidfd = -1
        self.log_begin = 0
        self.adopted = False
        self.ready = False
        self.restarts = 0
        self.started_at = ""
        self.started = 0.0
        self.start_again_at: float | None = None
        self.backoff = Backoff()

    @property
    def pid(self) -> int:
        """Its process id, 0 while it does not run."""
        return self.identity.pid if self.identity else 0


class Supervisor:
    """Runs the processes of one stack; use one method after another from one thread."""

    def __init__(
        self, report: Report, changed: Callable[[dict[str, Started]], None], wakeup: int, stopping: Callable[[], bool]
    ) -> None:
        """Make a supervisor without processes.

        Args:
            changed: told about every start and end, to be written down.
            wakeup: descriptor that becomes readable when a signal came.
            stopping: tells whether a signal asked for the end.
        """
        self._report = report
        self._changed = changed
        self._wakeup = wakeup
        self._stopping = stopping
        self._members: list[Member] = []
        self._on_restart: dict[str, Callable[[], None]] = {}

    def adopt(self, spec: ProcessSpec, found: Started) -> bool:
        """Take over a process of an earlier supervisor; False if it is gone."""
        pidfd = found.identity.open_pidfd()
        if pidfd is None:
            return False
        member = Member(spec)
        member.identity, member.pidfd, member.adopted = found.identity, pidfd, True
        member.restarts, member.started_at = found.restarts, found.started_at
        member.started = time.monotonic()
        self._members.append(member)
        self._report.step(spec.name, member.pid, "adopted")
        self._write_down()
        return True

    def on_restart(self, name: str, callback: Callable[[], None]) -> None:
        """Call `callback` each time the process `name` is ready again after a restart."""
        self._on_restart[name] = callback

    def start(self, spec: ProcessSpec) -> None:
        """Start a process and keep it running from now on.

        Raises:
            Unavailable: its program cannot be started.
        """
        member = Member(spec)
        self._members.append(member)
        self._start(member)

    def _start(self, member: Member) -> None:
        member.start_again_at = None
        try:
            member.identity, member.pidfd, member.log_begin = start(member.spec)
        except OSError as error:
            raise Unavailable(
                f"start {member.spec.name}: {error.strerror or error}", cause=str(error), service=member.spec.name
            ) from error
        member.adopted, member.ready = False, False
        member.started, member.started_at = time.monotonic(), now_rfc3339()
        self._report.step(member.spec.name, member.pid, "starting")
        self._write_down()

    def wait_ready(self) -> None:
        """Watch until all processes are ready for the first time.

        Raises:
            Unavailable: one died or did not become ready in 30 s; `cause` is the end of its log.
            InterruptedError: a signal asked for the end.
        """
        while not all(member.ready for member in self._members):
            if self._stopping():
                raise InterruptedError
            for member in self._turn():
                raise _not_started(member, "died before it was ready")
            for member in self._members:
                if not member.ready and time.monotonic() - member.started > READY_TIMEOUT_S:
                    raise _not_started(member, f"was not ready after {READY_TIMEOUT_S:.0f} s")

    def keep_running(self) -> None:
        """Restart what dies until a signal asks for the end."""
        while not self._stopping():
            for member in self._turn():
                self._plan_restart(member)
            now = time.monotonic()
            for member in self._members:
                if member.start_again_at is not None and now >= member.start_again_at:
                    self._restart(member)
                elif self._hangs_at_start(member):
                    self._report.step(member.spec.name, member.pid, "not ready in time, killed")
                    signal.pidfd_send_signal(member.pidfd, signal.SIGKILL)

    def _hangs_at_start(self, member: Member) -> bool:
        waiting = member.pidfd >= 0 and not member.ready
        return waiting and time.monotonic() - member.started > READY_TIMEOUT_S

    def _plan_restart(self, member: Member) -> None:
        wait_s = member.backoff.after_death(time.monotonic() - member.started)
        member.start_again_at = time.monotonic() + wait_s
        self._report.line(f"  {member.spec.name:<13} starting again in {wait_s:.1f} s")

    def _restart(self, member: Member) -> None:
        member.restarts += 1
        try:
            self._start(member)
        except Unavailable as error:
            self._report.line(f"  {member.spec.name:<13} {error.message}")
            self._plan_restart(member)

    def _turn(self) -> list[Member]:
        """Wait for one thing to happen: a signal, a death, readiness, a time to start again; return who died."""
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        by_fd = {member.pidfd: member for member in self._members if member.pidfd >= 0}
        for fd in by_fd:
            poller.register(fd, select.POLLIN)
        died = []
        for fd, _ in poller.poll(self._wait_ms()):
            if fd == self._wakeup:
                os.read(self._wakeup, 4096)
            else:
                self._bury(by_fd[fd])
                died.append(by_fd[fd])
        for member in self._members:
            if member.pidfd >= 0 and not member.ready:
                self._look(member)
        return died

    def _wait_ms(self) -> int | None:
        if any(member.pidfd >= 0 and not member.ready for member in self._members):
            return int(_READY_CHECK_S * 1000)
        times = [member.start_again_at for member in self._members if member.start_again_at is not None]
        return max(0, int((min(times) - time.monotonic()) * 1000) + 1) if times else None

    def _look(self, member: Member) -> None:
        assert member.identity is not None
        remark = member.spec.ready(member.identity)
        if remark is None:
            return
        member.ready = True
        elapsed_ms = (time.monotonic() - member.started) * 1000
        text = "ready" if member.adopted else f"ready after {elapsed_ms:.0f} ms"
        self._report.step(member.spec.name, member.pid, f"{text}  {remark}".rstrip())
        if member.restarts and member.spec.name in self._on_restart:
            try:
                self._on_restart[member.spec.name]()
            except HytheError as error:
                self._report.line(f"  {member.spec.name:<13} {error.message}: {error.cause}")

    def _bury(self, member: Member) -> None:
        how = "ended" if member.adopted else _reap(member.pidfd)
        os.close(member.pidfd)
        self._report.step(member.spec.name, member.pid, how)
        member.identity, member.pidfd, member.ready = None, -1, False
        self._write_down()

    def _write_down(self) -> None:
        self._changed({m.spec.name: Started(m.identity, m.started_at, m.restarts) for m in self._members if m.identity})

    def stop(self) -> None:
        """Stop all processes, the last started first: SIGTERM, after 10 s SIGKILL."""
        for member in reversed(self._members):
            member.start_again_at = None
            if member.pidfd < 0:
                continue
            if not end_process(member.pidfd):
                self._report.step(member.spec.name, member.pid, f"did not stop within {STOP_TIMEOUT_S:.0f} s, killed")
            self._bury(member)


def end_process(pidfd: int, *, timeout_s: float | None = None) -> bool:
    """Send SIGTERM and, after `timeout_s` (10 s), SIGKILL; return when it has ended, False if it had to be killed."""
    for number, wait_s in (
        (signal.SIGTERM, STOP_TIMEOUT_S if timeout_s is None else timeout_s),
        (signal.SIGKILL, STOP_TIMEOUT_S),
    ):
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return True
        if wait_ended([pidfd], wait_s):
            return number == signal.SIGTERM
    return False


def wait_ended(pidfds: Sequence[int], timeout_s: float) -> bool:
    """Tell whether all processes end within `timeout_s`."""
    left = set(pidfds)
    poller = select.poll()
    for fd in left:
        poller.register(fd, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    while left:
        wait_ms = max(0, int((deadline - time.monotonic()) * 1000))
        ended = poller.poll(wait_ms)
        if not ended and wait_ms == 0:
            return False
        for fd, _ in ended:
            left.discard(fd)
            poller.unregister(fd)
    return True


def _reap(pidfd: int) -> str:
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        return "ended"
    if result is None:
        return "ended"
    if result.si_code == os.CLD_EXITED:
        return "stopped" if result.si_status == 0 else f"ended with exit code {result.si_status}"
    return f"killed by {signal.Signals(result.si_status).name}"


def _not_started(member: Member, what: str) -> Unavailable:
    lines, next_step = readable(last_lines(member.spec.log, _LOG_LINES, member.log_begin))
    return Unavailable(
        f"start {member.spec.name}: it {what}",
        phase="start the stack",
        cause="\n".join(lines) or "its log is empty",
        outcome="failed",
        service=member.spec.name,
        next_step=next_step or f"see {member.spec.log}",
    )
