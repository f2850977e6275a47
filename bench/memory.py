"""The most memory that a process has while something is done."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.02


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one process in bytes.

    Attributes:
        rest_bytes: its proportional set size before.
        peak_bytes: its highest proportional set size of all samples.
        peak_resident_bytes: the most that was resident, by the kernel's own account, which misses no moment; it counts
            pages that are shared with other processes in full.
    """

    rest_bytes: int
    peak_bytes: int
    peak_resident_bytes: int


def memory_during(pid: int, work: Callable[[], object]) -> Memory:
    """Do `work` and return the memory of process `pid` over it, sampled every 20 ms.

    Raises:
        OSError: the process ended.
        PermissionError: it belongs to another user.
    """
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # begins the kernel's account of the peak anew
    rest = pss_bytes(pid)
    most = _most(lambda: pss_bytes(pid), work)
    return Memory(rest, max(most, pss_bytes(pid)), _kib(Path(f"/proc/{pid}/status"), "VmHWM:") * 1024)


def peak_of_all(roots: Iterable[int], work: Callable[[], object]) -> int:
    """Do `work` and return the highest proportional set size of all processes together, sampled every 20 ms.

    Counted are `roots`, what they start, and what this process starts meanwhile.
    """
    tops = {*roots, os.getpid()}
    return _most(lambda: sum(_pss_or_none(pid) for pid in _family(tops) - {os.getpid()}), work)


def _most(sample: Callable[[], int], work: Callable[[], object]) -> int:
    """Do `work` and return the greatest `sample` of those taken every 20 ms meanwhile; 0 where there was no time for one."""
    ended, samples = threading.Event(), [0]

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            samples.append(sample())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        ended.set()
        watcher.join()
    return max(samples)


def _family(tops: set[int]) -> set[int]:
    """Return processes and all that descends from them."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                pass
    found, grew = set(tops) & set(parents), True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    return found


def _pss_or_none(pid: int) -> int:
    try:
        return pss_bytes(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def pss_bytes(pid: int) -> int:
    """Return the proportional set size of a process."""
    return _kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") * 1024


def _kib(path: Path, field: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise ProcessLookupError(f"read {field} of {path}: the process has ended")
