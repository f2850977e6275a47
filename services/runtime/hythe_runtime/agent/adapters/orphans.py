"""What a runtime that was killed in mid-create leaves running below conmon, which waits for it and says nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

LOOK_S = 0.5
ANSWER_WITHIN_S = 5.0
"""How long conmon may take to answer after a runtime that wrote the pid file is gone; else it takes a millisecond."""


async def end_orphans(conmon_pid: int, container_pid_file: Path) -> None:
    """Look twice a second, until cancelled, and kill what is left below conmon by a ``runc create`` that died.

    ``runc init`` holds the pipe that conmon reads to the end before it answers. A runtime at work is a child of conmon in
    conmon's own cgroup, and writes the container's pid file just before it ends. So children in other cgroups, without
    such a one beside them, belong to nobody; where the file is there, once conmon has not answered for 5 s.
    """
    unanswered_s = 0.0
    while True:
        await asyncio.sleep(LOOK_S)
        orphans = _orphans(conmon_pid)
        unanswered_s = unanswered_s + LOOK_S if orphans else 0.0
        if unanswered_s >= ANSWER_WITHIN_S or not _exists(container_pid_file):
            for pid in orphans:
                _kill(pid, conmon_pid)


def _exists(path: Path) -> bool:
    return path.exists()


def _orphans(conmon_pid: int) -> list[int]:
    own = _cgroups(conmon_pid)
    children = _children(conmon_pid)
    if not own or any(_cgroups(child) in (own, "") for child in children):
        return []
    return children


def _kill(pid: int, parent: int) -> None:
    """Kill a child of `parent`: it is signalled by a descriptor taken before it was seen to be that still."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if pid in _children(parent):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(text) for text in thread.read_text().split()]
        except OSError:
            pass  # the thread has ended
    return found


def _cgroups(pid: int) -> str:
    """Return a process's cgroups as the kernel writes them; empty when it is gone.

    Spec: cgroups(7), "/proc files".
    """
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""
