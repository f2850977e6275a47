"""Cgroups in every hierarchy of this machine: made at once by many, emptied by force, removed whole."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from hythe_runtime.agent.adapters.cgroup import KernelCgroups, hierarchies


class Room:
    """A cgroup of a test's own in every hierarchy, and processes to put into it."""

    def __init__(self) -> None:
        self.path = f"/hythe-test-{uuid.uuid4().hex[:8]}"
        self.cgroups = KernelCgroups()
        self._processes: list[subprocess.Popen[bytes]] = []

    def process(self) -> subprocess.Popen[bytes]:
        """Start a process that does nothing."""
        self._processes.append(subprocess.Popen(["sleep", "100"]))
        return self._processes[-1]

    def places(self, name: str = "") -> list[Path]:
        """Return the cgroup's directory, or one below it, in every hierarchy."""
        return [h.root / (self.path + name).lstrip("/") for h in hierarchies()]

    def close(self) -> None:
        """Leave nothing."""
        for process in self._processes:
            process.kill()
            process.wait()
        self.cgroups.remove_now(self.path)


@pytest.fixture
def room() -> Iterator[Room]:
    """A room for cgroups."""
    made = Room()
    yield made
    made.close()


async def test_first_processes_may_come_at_the_same_moment(room: Room) -> None:
    """Many containers that start at once find the monitors' cgroup made for them, processors and all."""
    processes = [room.process() for _ in range(20)]
    await asyncio.gather(*(asyncio.to_thread(room.cgroups.move, p.pid, f"{room.path}/monitors") for p in processes))
    for place in room.places("/monitors"):
        assert set(map(int, (place / "cgroup.procs").read_text().split())) == {p.pid for p in processes}


async def test_removal_kills_what_is_left_in_the_whole_tree(room: Room) -> None:
    """Processes and cgroups that a container made for itself go with it, in every hierarchy."""
    outer, inner = room.process(), room.process()
    room.cgroups.move(outer.pid, f"{room.path}/c")
    room.cgroups.move(inner.pid, f"{room.path}/c/deep/er")
    await room.cgroups.remove(f"{room.path}/c")
    assert not any(place.exists() for place in room.places("/c"))
    assert outer.wait(5) == inner.wait(5) == -9


async def test_removal_of_what_is_not_there_does_nothing(room: Room) -> None:
    """Removing twice is removing once."""
    await room.cgroups.remove(f"{room.path}/none")


def test_cgroups_in_use_are_not_removed_as_empty(room: Room) -> None:
    """What another process or cgroup is in stays."""
    process = room.process()
    room.cgroups.move(process.pid, f"{room.path}/used")
    room.cgroups.remove_empty(f"{room.path}/used", room.path)
    assert all(place.is_dir() for place in room.places("/used"))
    process.kill()
    process.wait()
    room.cgroups.remove_empty(f"{room.path}/used", room.path)
    assert not any(place.exists() for place in room.places())


def test_warming_up_moves_nobody(room: Room) -> None:
    """Paying ahead for the kernel's lock leaves this process where it is."""
    before = Path("/proc/self/cgroup").read_text()
    room.cgroups.warm_up()
    assert Path("/proc/self/cgroup").read_text() == before
