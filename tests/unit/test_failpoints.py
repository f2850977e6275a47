"""Named places where tests make a process fail."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import sys, time
from hythe import failpoints
from hythe.errors import HytheError
for _ in range(int(sys.argv[1])):
    begun = time.monotonic()
    try:
        failpoints.reach("a")
        print("passed", round(time.monotonic() - begun, 1))
    except HytheError as error:
        print(error.code, error.message)
"""


def reach(points: str, times: int = 1) -> subprocess.CompletedProcess[str]:
    """Return what a process said that came to failpoint ``a`` so many times."""
    command = [sys.executable, "-c", SCRIPT, str(times)]
    environment = {"HYTHE_FAILPOINTS": points} if points else {}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("points", ["", "b=kill", "a=off", "a=0*kill"])
def test_nothing_happens_unless_asked_for(points: str) -> None:
    """A failpoint that isn't named, or is off, is passed."""
    assert reach(points).stdout == "passed 0.0\n"


def test_error_has_its_text() -> None:
    """A failpoint can raise an error of the closed set."""
    assert reach("a=error(no luck)").stdout == "Internal failpoint a: no luck\n"


def test_kill_ends_the_process_at_once() -> None:
    """A failpoint can end the process as kill -9 does."""
    found = reach("a=kill", 3)
    assert (found.returncode, found.stdout) == (-signal.SIGKILL, "")


def test_delay_takes_its_time() -> None:
    """A failpoint can wait."""
    begun = time.monotonic()
    assert reach("a=delay(300)").stdout == "passed 0.3\n"
    assert time.monotonic() - begun >= 0.3


def test_terms_follow_each_other() -> None:
    """Counted terms act so many times each, in order; after the last one the point is passed."""
    found = reach("a=1*off->2*error(x)->1*off;b=kill", 5)
    words = [line.split()[0] for line in found.stdout.splitlines()]
    assert words == ["passed", "Internal", "Internal", "passed", "passed"]


@pytest.mark.parametrize("points", ["a=explode", "a=", "a", "a=x*kill", "a=kill->"])
def test_misspelt_failpoint_is_refused(points: str) -> None:
    """A test that asks for what isn't there fails, and does not pass in silence."""
    found = reach(points)
    assert found.returncode != 0
    assert "HYTHE_FAILPOINTS" in found.stderr
