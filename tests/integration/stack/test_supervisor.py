"""The supervisor with real processes: ready, dead, restarted, adopted, stopped in order."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hythe.errors import Unavailable
from hythe.process import ProcessIdentity, identify
from hythe.stack import supervisor as module
from hythe.stack.processes import ProcessSpec, start
from hythe.stack.report import Report
from hythe.stack.supervisor import Supervisor
from hythe.stack.up_file import Started
from tests.fixtures.waiting import eventually

_WAIT_FOR_TERM = """
import pathlib, signal, sys, time
here = pathlib.Path(sys.argv[1])
def stop(*_):
    with (here.parent / "stopped").open("a") as f: f.write(here.name + " ")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
here.with_suffix(".ready").write_text("")
while True: time.sleep(60)
"""


_ONLY_ONCE = """
import pathlib, sys, time
here = pathlib.Path(sys.argv[1])
if here.with_suffix(".ready").exists(): raise SystemExit(3)
here.with_suffix(".ready").write_text("")
while True: time.sleep(60)
"""


class _Lines(Report):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


class Bench:
    """A directory for processes, and a supervisor for them that runs in a thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._report = _Lines()
        self.written: dict[str, Started] = {}
        self.stopping = False
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK)
        self.supervisor = Supervisor(self._report, self._write_down, self._reading, lambda: self.stopping)

    @property
    def lines(self) -> list[str]:
        """What the supervisor has said."""
        return self._report.lines

    def _write_down(self, started: dict[str, Started]) -> None:
        self.written = started

    def spec(self, name: str, code: str = _WAIT_FOR_TERM) -> ProcessSpec:
        """Return how to start a Python program that is ready when ``<name>.ready`` is there."""
        ready = (self.directory / name).with_suffix(".ready")
        ready.unlink(missing_ok=True)
        return ProcessSpec(
            name,
            (sys.executable, "-c", code, str(self.directory / name)),
            {"PATH": os.defpath},
            self.directory / f"{name}.log",
            lambda identity: "so it says" if ready.exists() else None,
        )

    def pid(self, name: str) -> int:
        """Return the pid of a process, 0 while it does not run."""
        return self.written[name].identity.pid if name in self.written else 0

    def ask_to_stop(self) -> None:
        """Do what a signal does."""
        self.stopping = True
        os.write(self._writing, b"!")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep everything running in a thread for the time of the block; stop it all at the end."""
        thread = threading.Thread(target=self.supervisor.keep_running)
        thread.start()
        try:
            yield
        finally:
            self.ask_to_stop()
            thread.join(20)
            self.supervisor.stop()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A supervisor without processes."""
    made = Bench(tmp_path)
    yield made
    made.supervisor.stop()


def test_processes_are_stopped_in_the_reverse_order_of_their_start(bench: Bench) -> None:
    """What others need is started first and stopped last."""
    for name in ("one", "two", "three"):
        bench.supervisor.start(bench.spec(name))
    bench.supervisor.wait_ready()
    assert any("three" in line and "ready after" in line and "so it says" in line for line in bench.lines)
    bench.supervisor.stop()
    assert (bench.directory / "stopped").read_text().split() == ["three", "two", "one"]
    assert bench.written == {}


def test_killed_process_is_started_again_with_its_death_told(bench: Bench) -> None:
    """A death is seen at once, said with its signal, and healed after 0.1 s."""
    bench.supervisor.start(bench.spec("one"))
    bench.supervisor.wait_ready()
    again: list[bool] = []
    bench.supervisor.on_restart("one", lambda: again.append(True))
    with bench.running():
        first = bench.pid("one")
        os.kill(first, signal.SIGKILL)
        eventually(lambda: bench.pid("one") not in (0, first), what="it runs again")
        eventually(lambda: again, what="it is ready again")
        assert bench.written["one"].restarts == 1
    assert any("killed by SIGKILL" in line for line in bench.lines)
    assert any("starting again in 0.1 s" in line for line in bench.lines)


def test_process_that_keeps_dying_is_not_started_in_a_loop(bench: Bench) -> None:
    """Back-off doubles: within a second a hopeless process is started only a few times."""
    bench.supervisor.start(bench.spec("one", _ONLY_ONCE))
    bench.supervisor.wait_ready()
    with bench.running():
        os.kill(bench.pid("one"), signal.SIGKILL)
        eventually(lambda: sum("exit code 3" in line for line in bench.lines) >= 3, what="three deaths")
        waits = [line.rpartition(" in ")[2] for line in bench.lines if "starting again" in line]
    assert waits[:3] == ["0.1 s", "0.2 s", "0.4 s"]


def test_process_that_dies_before_it_is_ready_fails_the_start_with_its_last_words(bench: Bench) -> None:
    """The error names the process and shows the end of its log."""
    bench.supervisor.start(bench.spec("good"))
    bench.supervisor.start(bench.spec("bad", "raise SystemExit('no such thing')"))
    with pytest.raises(Unavailable, match="start bad: it died before it was ready") as caught:
        bench.supervisor.wait_ready()
    assert "no such thing" in caught.value.cause
    assert str(bench.directory / "bad.log") in caught.value.next_step


def test_process_that_is_never_ready_fails_the_start(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs at its start is named after a time limit."""
    monkeypatch.setattr(module, "READY_TIMEOUT_S", 0.3)
    bench.supervisor.start(bench.spec("slow", "import time; time.sleep(60)"))
    with pytest.raises(Unavailable, match="start slow: it was not ready after"):
        bench.supervisor.wait_ready()


def test_program_that_does_not_exist_fails_the_start(bench: Bench) -> None:
    """A missing program is an error of the closed set."""
    spec = bench.spec("none")
    with pytest.raises(Unavailable, match="start none"):
        bench.supervisor.start(ProcessSpec("none", ("/nowhere/x",), {}, spec.log, spec.ready))


def test_process_that_ignores_sigterm_is_killed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping always ends."""
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 0.2)
    code = _WAIT_FOR_TERM.replace("signal.SIGTERM, stop", "signal.SIGTERM, signal.SIG_IGN")
    bench.supervisor.start(bench.spec("deaf", code))
    bench.supervisor.wait_ready()
    started = time.monotonic()
    bench.supervisor.stop()
    assert time.monotonic() - started < 5
    assert any("killed" in line for line in bench.lines)


def test_signal_during_the_start_ends_it(bench: Bench) -> None:
    """Ctrl-C while processes start does not wait for them."""
    bench.supervisor.start(bench.spec("slow", "import time; time.sleep(60)"))
    bench.ask_to_stop()
    with pytest.raises(InterruptedError):
        bench.supervisor.wait_ready()


def test_living_process_of_an_earlier_supervisor_is_adopted_and_restarted_when_it_dies(bench: Bench) -> None:
    """Adoption keeps the pid; a later death is seen although it is nobody's child here."""
    spec = bench.spec("one")
    identity = _start_as_orphan(spec, bench.directory)
    assert bench.supervisor.adopt(spec, Started(identity, "2026-01-01T00:00:00Z", 2))
    bench.supervisor.wait_ready()
    assert bench.pid("one") == identity.pid
    with bench.running():
        os.kill(identity.pid, signal.SIGKILL)
        eventually(lambda: bench.pid("one") not in (0, identity.pid), what="it runs again")
        assert bench.written["one"].restarts == 3


def test_process_that_is_gone_is_not_adopted(bench: Bench) -> None:
    """A pid that was used again by another process is no reason to adopt that one."""
    spec = bench.spec("one")
    me = identify(os.getpid())
    assert me is not None
    assert not bench.supervisor.adopt(spec, Started(ProcessIdentity(me.pid, me.start_ticks + 1, me.boot_id), ""))
    assert not bench.supervisor.adopt(spec, Started(ProcessIdentity(me.pid, me.start_ticks, "other boot"), ""))


def _start_as_orphan(spec: ProcessSpec, directory: Path) -> ProcessIdentity:
    """Start a process whose parent ends at once, as one of a killed supervisor."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        identity, _, _ = start(spec)
        os.write(writing, f"{identity.pid} {identity.start_ticks} {identity.boot_id}".encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    pid, ticks, boot = os.read(reading, 200).decode().split()
    os.close(reading)
    found = ProcessIdentity(int(pid), int(ticks), boot)
    eventually(lambda: (directory / f"{spec.name}.ready").exists(), what="it is ready")
    assert found.alive()
    return found


def test_what_is_written_down_is_each_living_process_in_the_order_of_the_start(bench: Bench) -> None:
    """The next supervisor finds every process that this one has started."""
    bench.supervisor.start(bench.spec("b"))
    bench.supervisor.start(bench.spec("a"))
    assert list(bench.written) == ["b", "a"]
