"""What a killed runtime leaves below conmon, with a shell in conmon's place and real cgroups."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from hythe_runtime.agent.adapters.cgroup import KernelCgroups
from hythe_runtime.agent.adapters.orphans import LOOK_S, end_orphans
from tests.fixtures.waiting import eventually_async


class Conmon:
    """A shell with two children, in a cgroup of the test's own.

    Attributes:
        first, second: pids of the children.
    """

    def __init__(self) -> None:
        self.path = f"/hythe-test-{uuid.uuid4().hex[:8]}"
        self.cgroups = KernelCgroups()
        self._shell = subprocess.Popen(
            ["sh", "-c", "sleep 100 >&- & echo $!; sleep 100 >&- & echo $!; exec >&-; wait"],
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self) -> None:
        """Learn the children's pids and put all into the monitors' cgroup."""
        assert self._shell.stdout is not None
        self.first, self.second = (int(line) for line in self._shell.stdout)
        for pid in (self.pid, self.first, self.second):
            self.cgroups.move(pid, f"{self.path}/monitors")

    @property
    def pid(self) -> int:
        """Pid of the shell."""
        return self._shell.pid

    def close(self) -> None:
        """Leave nothing."""
        self._shell.kill()
        self._shell.wait()
        self.cgroups.remove_now(self.path)
        assert self._shell.stdout is not None
        self._shell.stdout.close()


@pytest.fixture
def conmon() -> Iterator[Conmon]:
    """A shell in conmon's place."""
    made = Conmon()
    try:
        made.start()
        yield made
    finally:
        made.close()


def running(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


async def watched(conmon: Conmon, pid_file: Path, looks: int) -> None:
    """Look for orphans so many times."""
    try:
        await asyncio.wait_for(end_orphans(conmon.pid, pid_file), looks * LOOK_S + LOOK_S / 2)
    except TimeoutError:
        pass


async def test_orphans_of_a_killed_runtime_are_ended(conmon: Conmon, tmp_path: Path) -> None:
    """Once no runtime is at work, what it left in the container's cgroup is killed at the first look."""
    for pid in (conmon.first, conmon.second):
        conmon.cgroups.move(pid, f"{conmon.path}/ctr")
    await watched(conmon, tmp_path / "pid", 1)

    async def gone() -> bool:
        return not running(conmon.first) and not running(conmon.second)

    await eventually_async(gone, what="both are gone")


async def test_container_of_a_runtime_at_work_is_left_alone(conmon: Conmon, tmp_path: Path) -> None:
    """As long as the runtime itself runs, its container does."""
    conmon.cgroups.move(conmon.first, f"{conmon.path}/ctr")
    await watched(conmon, tmp_path / "pid", 2)
    assert running(conmon.first)
    assert running(conmon.second)


async def test_container_that_was_created_has_time_for_conmons_answer(conmon: Conmon, tmp_path: Path) -> None:
    """A runtime that ended well has written the pid file: its container lives while conmon answers."""
    (tmp_path / "pid").write_text("1")
    for pid in (conmon.first, conmon.second):
        conmon.cgroups.move(pid, f"{conmon.path}/ctr")
    await watched(conmon, tmp_path / "pid", 2)
    assert running(conmon.first)
    assert running(conmon.second)
