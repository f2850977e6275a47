"""`hythe up`: starts the server of the bus and the services of one host, and keeps them running."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from hythe import __version__
from hythe.bus import nkey
from hythe.bus.permissions import STREAMS
from hythe.client.sync_bus import SyncBus, read_bus_file
from hythe.errors import FailedPrecondition, HytheError, Internal, Unauthenticated
from hythe.process import ProcessIdentity, identify
from hythe.settings import Settings
from hythe.stack import keys, leftovers, processes, programs, up_file
from hythe.stack.nats_server import NatsServer
from hythe.stack.ownership import Ownership
from hythe.stack.report import Report, follow
from hythe.stack.streams import ensure_streams, limits_of
from hythe.stack.supervisor import Supervisor, end_process
from hythe.stack.up_file import Started, UpFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def up(settings: Settings, *, detach: bool) -> int:
    """Start the stack; in the foreground return at its end, detached when all is ready. Returns the exit code.

    Raises:
        PermissionDenied: not root.
        FailedPrecondition: a program is missing, the stack is up already, the port is taken, NATS_URL is set.
        Unavailable: a process did not start; all that were started are stopped again.
    """
    programs.require_root("start the stack")
    if settings.nats_url:
        raise FailedPrecondition(
            f"start the stack: NATS_URL is {settings.nats_url}, and `hythe up` starts a bus of its own",
            next_step="unset NATS_URL",
        )
    running = up_file.read(up_file.path_in(settings.state)).supervisor
    if running is not None and running.alive():
        raise FailedPrecondition(
            f"start the stack: it is already up (hythe up has pid {running.pid}, state {settings.state})",
            next_step="`hythe status` shows it; `hythe down` stops it",
        )
    for name in ("runc", "conmon"):
        programs.require(name)
    programs.find_nats_server(settings.nats_server)
    ownership = Ownership(settings, make_cgroup=True)
    try:
        if detach:
            return _detached(settings)
        return _run(settings, Report())
    finally:
        ownership.release()


def _run(settings: Settings, report: Report) -> int:
    """Run the stack to its end and leave no empty cgroup behind; those of containers stay with them."""
    try:
        return Stack(settings, report).run()
    finally:
        leftovers.remove_cgroups(settings)


def _detached(settings: Settings) -> int:
    """Run the stack in a process of its own session and return when it is ready.

    Raises:
        HytheError: it did not start.
    """
    log = settings.log_dir / "up.log"
    processes.rotate(log)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child != 0:
        os.close(writing)
        os.waitpid(child, 0)
        follow(reading)
        return 0
    try:
        os.close(reading)
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        _redirect(log)
        code = _run(settings, Report(writing))
    except HytheError as error:
        print(f"error: {error.message}", file=sys.stderr, flush=True)
        code = 1
    except BaseException:  # noqa: BLE001 (the process: a daemon must never return into its caller's code)
        sys.excepthook(*sys.exc_info())
        code = 1
    os._exit(code)


def _redirect(log: Path) -> None:
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(out)


class Stack:
    """One `hythe up` at work."""

    def __init__(self, settings: Settings, report: Report) -> None:
        self._settings = settings
        self._report = report
        self._stopping = False
        self._up_path = up_file.path_in(settings.state)
        self._me = identify(os.getpid())

    def run(self) -> int:
        """Start everything, keep it running until SIGINT, SIGTERM or SIGHUP, stop everything; return the exit code.

        Raises:
            HytheError: something did not start; what was started is stopped again.
        """
        started = time.monotonic()
        with self._signals() as wakeup:
            supervisor = Supervisor(self._report, self._write_down, wakeup, lambda: self._stopping)
            try:
                self._start_all(supervisor)
                elapsed_s = time.monotonic() - started
                self._report.line(f"ready after {elapsed_s:.2f} s: {read_bus_file(str(self._settings.bus_file))}")
                self._report.end()
                supervisor.keep_running()
                self._report.line("stopping the services; containers keep running until `hythe down`")
            except InterruptedError:
                interruption = FailedPrecondition(
                    "start the stack: interrupted by a signal", next_step="`hythe up --detach` starts it again"
                )
                self._fail(supervisor, interruption)
                return 1
            except HytheError as error:
                self._fail(supervisor, error)
                raise
            except BaseException as error:
                self._fail(supervisor, Internal("start the stack: a fault of hythe", cause=repr(error)))
                raise
            supervisor.stop()
            leftovers.clear_state(self._settings.state, keep_containers=True)
        return 0

    def _fail(self, supervisor: Supervisor, error: HytheError) -> None:
        self._report.line("stopping what was started")
        supervisor.stop()
        leftovers.clear_state(self._settings.state, keep_containers=True)
        self._report.end(error)

    @contextmanager
    def _signals(self) -> Iterator[int]:
        """Within the block SIGINT, SIGTERM and SIGHUP ask for the end and wake the loop through the descriptor."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

        def stop(number: int, frame: object) -> None:
            self._stopping = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        previous = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(reading)
            os.close(writing)

    def _start_all(self, supervisor: Supervisor) -> None:
        settings, report = self._settings, self._report
        report.line(f"hythe {__version__} on {settings.host}: root {settings.root}, state {settings.state}")
        server = NatsServer(settings, keys.ensure_keys(settings.keys_dir))
        for warning in server.warnings:
            report.line(f"warning: {warning}")
        found = self._found()
        if self._start_bus(supervisor, server, found.get(processes.NATS)) and found:
            self._end({name: started for name, started in found.items() if name != processes.NATS}, "used another port")
            found = {}
        for name in processes.MODULES:
            spec = processes.service_spec(settings, name)
            if name not in found or not supervisor.adopt(spec, found[name]):
                supervisor.start(spec)
        supervisor.wait_ready()

    def _start_bus(self, supervisor: Supervisor, server: NatsServer, found: Started | None) -> bool:
        """Start or adopt the server and make the streams; tell whether it listens elsewhere than before."""

        def ready(identity: ProcessIdentity) -> str | None:
            bus = self._connect()
            if bus is None:
                return None
            bus.close()
            return f"{bus.url} (version {bus.server_version})"

        def make_streams() -> None:
            bus = self._connect()
            if bus is not None:
                for warning in ensure_streams(bus, limits_of(self._settings)):
                    self._report.line(f"warning: {warning}")
                bus.close()

        spec = processes.nats_spec(self._settings, server, ready)
        before = self._settings.bus_file.read_bytes() if self._settings.bus_file.exists() else b""
        server.prepare(keep_port=found is not None)
        supervisor.on_restart(processes.NATS, make_streams)
        if found is None or not supervisor.adopt(spec, found):
            supervisor.start(spec)
        supervisor.wait_ready()
        make_streams()
        return self._settings.bus_file.read_bytes() != before

    def _connect(self) -> SyncBus | None:
        """Connect with the key that may make streams, or return None while the server does not listen."""
        key = nkey.load(str(self._settings.keys_dir / f"{STREAMS}.nk"))
        try:
            bus = SyncBus(read_bus_file(str(self._settings.bus_file)), key, STREAMS)
            bus.flush()
        except Unauthenticated as error:
            raise FailedPrecondition(
                "start nats-server: what listens on its port does not know the keys of this stack",
                cause=error.cause,
                next_step=f"stop it, or remove {self._settings.root / 'nats' / 'port'}",
            ) from error
        except HytheError:
            return None
        return bus

    def _found(self) -> dict[str, Started]:
        """Return the processes of an earlier `hythe up` that still live; those of another version are stopped."""
        before = up_file.read(self._up_path)
        found = {name: p for name, p in before.processes.items() if p.identity.alive()}
        for name in processes.MODULES:
            said = up_file.read_ready(self._settings.state, name)
            if name not in found and said is not None and up_file.identity_of_ready(said).alive():
                found[name] = Started(up_file.identity_of_ready(said), "")
        if found and before.version != __version__:
            self._end(found, f"is of version {before.version}")
            return {}
        return found

    def _end(self, found: dict[str, Started], why: str) -> None:
        for name, process in reversed(found.items()):
            pidfd = process.identity.open_pidfd()
            if pidfd is not None:
                self._report.step(name, process.identity.pid, f"{why}: stopping it")
                end_process(pidfd)
                os.close(pidfd)

    def _write_down(self, started: dict[str, Started]) -> None:
        try:
            UpFile(self._me, started).write(self._up_path)
        except OSError as error:
            self._report.line(f"warning: {self._up_path} cannot be written, a crash now would go unhealed: {error}")
