"""Signals, exit codes of failures, places, pages."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from hythe.errors import InvalidArgument
from hythe_runtime.agent.failures import exit_code_of, refused
from hythe_runtime.agent.ledger import Ledger, replay
from hythe_runtime.agent.model import Tombstone
from hythe_runtime.agent.places import Places, cgroup_of_host
from hythe_runtime.agent.signals import signal_number
from hythe_runtime.agent.status import Board
from tests.fakes.agent_bus import FakeOutlet
from tests.unit.agent.records import intent, life


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("15", 15),
        ("TERM", 15),
        ("sigterm", 15),
        ("SIGKILL", 9),
        (" hup ", 1),
        ("SIGRTMIN+3", int(signal.SIGRTMIN) + 3),
        ("RTMAX-1", int(signal.SIGRTMAX) - 1),
    ],
)
def test_signals_are_known_by_name_and_number(text: str, number: int) -> None:
    """Users and image configs spell signals in many ways."""
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["", "0", "99", "FOO", "SIG", "RTMIN+99", "-9", "9.5", "DFL", "٩"])
def test_unknown_signal_is_refused(text: str) -> None:
    """A misspelt signal never becomes another one."""
    with pytest.raises(InvalidArgument):
        signal_number(text)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('unable to start container process: exec: "nosuch": executable file not found in $PATH', 127),
        ('exec: "/nosuch": stat /nosuch: no such file or directory', 127),
        ('exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory', 127),
        ('exec: "/etc/plain": permission denied', 126),
        ('exec: "/tmp": is a directory', 126),
        ("exec /bad: exec format error", 126),
        ("error mounting /data: no such file or directory", 125),
        ("error running hook #0: fork/exec /gone: no such file or directory", 125),
        ("", 125),
    ],
)
def test_exit_code_follows_from_runcs_words(message: str, code: int) -> None:
    """A command that is missing gives 127, one that cannot be run 126, anything else 125; a missing mount is not 127."""
    assert exit_code_of(message) == code


def test_refusal_says_phase_cause_and_code() -> None:
    """runc's own message reaches the user."""
    error = refused("start web", "runc create", 'exec: "nosuch": executable file not found in $PATH\n')
    assert (error.message, error.phase) == ("start web failed", "runc create")
    assert error.cause == 'exec: "nosuch": executable file not found in $PATH'
    assert error.details == {"exit_code": "127"}
    assert error.next_step


def test_places_are_made_from_the_names() -> None:
    """Every place of a container follows from namespace, id and run number."""
    places = Places(Path("/r/agent"), Path("/s"), Path("/r/bundle/bundles"), cgroup_of_host("hythe", "h.1"))
    run = places.run("default", "c1", 2)
    assert run.directory == Path("/s/run/default/c1/2")
    assert run.log == Path("/r/agent/logs/default/c1/2.log")
    assert run.cgroup == "/hythe/h.1/ctr/default-c1"
    assert places.monitors_cgroup == "/hythe/h.1/monitors"
    assert places.cgroups == ("/hythe/h.1/ctr", "/hythe/h.1/monitors")


@pytest.mark.parametrize("host", ["", ".", "..", "a/b"])
def test_host_name_that_is_no_directory_name_is_refused(host: str) -> None:
    """A hostile host name never leads out of the cgroup parent."""
    with pytest.raises(InvalidArgument):
        cgroup_of_host("hythe", host)


def _ids(board: Board, limit: int, limit_bytes: int = 400_000) -> tuple[list[str], list[str], int]:
    here: list[str] = []
    gone: list[str] = []
    after, pages = "", 0
    while True:
        page = board.page(after, limit, limit_bytes=limit_bytes)
        here += [status.record.id for status in page.statuses]
        gone += page.gone
        pages += 1
        assert len(page.statuses) <= limit
        if not page.next:
            return here, gone, pages
        assert page.next > after
        after = page.next


def test_pages_bring_every_container_and_tombstone_once() -> None:
    """However small the pages, their sum is the whole list."""
    intents = [intent(f"{number:032x}") for number in range(0, 50, 2)]
    ledger = replay([entry for asked in intents for entry in life(asked)[:4]])
    for number in range(1, 50, 2):
        ledger.tombstones[f"{number:032x}"] = Tombstone(f"{number:032x}", "default", intents[0].epoch, 1)
    board = Board(ledger, FakeOutlet())
    for limit, limit_bytes in ((500, 400_000), (1, 400_000), (7, 400_000), (500, 1000)):
        here, gone, pages = _ids(board, limit, limit_bytes)
        assert here == [f"{number:032x}" for number in range(0, 50, 2)]
        assert gone == [f"{number:032x}" for number in range(1, 50, 2)]
        assert pages == 1 or limit < 500 or limit_bytes < 400_000


def test_empty_list_is_one_empty_page() -> None:
    """A host without containers has a list all the same."""
    assert _ids(Board(Ledger(), FakeOutlet()), 10) == ([], [], 1)


def test_changes_are_numbered_without_gaps() -> None:
    """A reader can tell that it missed a change."""
    asked = intent()
    ledger, outlet = Ledger(), FakeOutlet()
    board = Board(ledger, outlet)
    for entry in life(asked):
        board.take(ledger.step(entry).record)
    assert [status.change for status in outlet.statuses] == [1, 2, 3, 4, 5, 6]
    assert board.change == 6
    found = board.get(asked.id)
    assert found is not None and found.change == 6
