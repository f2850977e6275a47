"""Identity of processes and ownership of directories."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hythe.errors import FailedPrecondition
from hythe.process import DirectoryLock, identify
from tests.fixtures.waiting import eventually


def test_living_process_is_identified() -> None:
    """A process knows itself alive by pid, start time and boot."""
    identity = identify(os.getpid())
    assert identity is not None
    assert identity.alive()
    fd = identity.open_pidfd()
    assert fd is not None
    os.close(fd)


def test_same_pid_of_another_start_or_boot_is_another_process() -> None:
    """A reused pid is never taken for the process that was meant."""
    identity = identify(os.getpid())
    assert identity is not None
    for other in (replace(identity, start_ticks=identity.start_ticks + 1), replace(identity, boot_id="other")):
        assert not other.alive()
        assert other.open_pidfd() is None


def test_ended_process_is_not_alive_even_as_a_zombie() -> None:
    """A process that has ended is gone, though nobody has waited for it yet."""
    process = subprocess.Popen(["sleep", "60"])
    identity = identify(process.pid)
    assert identity is not None
    process.kill()
    eventually(lambda: not identity.alive(), what="the killed process is a zombie")
    assert identify(process.pid) is None
    process.wait()
    assert identity.open_pidfd() is None
    assert identify(process.pid) is None


def test_process_with_a_strange_name_is_identified(tmp_path: Path) -> None:
    """Brackets and spaces in a program's name don't confuse the reading of its state."""
    program = tmp_path / "a) Z (1 2"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(program), "60"])
    try:
        identity = eventually(lambda: identify(process.pid))
        assert identity is not None
        assert identity.alive()
    finally:
        process.kill()
        process.wait()


def test_directory_has_one_owner(tmp_path: Path) -> None:
    """A second owner is refused until the first gives the directory back."""
    directory = tmp_path / "deep" / "root"
    lock = DirectoryLock(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    with pytest.raises(FailedPrecondition) as caught:
        DirectoryLock(directory)
    assert "HYTHE_ROOT" in caught.value.next_step
    lock.release()
    DirectoryLock(directory).release()


def test_killed_owner_gives_the_directory_back(tmp_path: Path) -> None:
    """A lock ends with its process, however that ends, and is not inherited by its children."""
    script = (
        "import subprocess, sys, pathlib; from hythe.process import DirectoryLock;"
        "lock = DirectoryLock(pathlib.Path(sys.argv[1]));"
        "child = subprocess.Popen(['sleep', '60'], close_fds=False); print(child.pid, flush=True); child.wait()"
    )
    owner = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    child = int(owner.stdout.readline())
    with pytest.raises(FailedPrecondition):
        DirectoryLock(tmp_path)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    try:
        DirectoryLock(tmp_path).release()
    finally:
        os.kill(child, 9)
