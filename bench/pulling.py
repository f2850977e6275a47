"""What both benches of pulls need: the image in a registry, a stack on a disk of its own, and runs that take turns."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from bench.peers import Containerd, Dockerd
from bench.report import Series
from scripts.lab.disks import fresh_disk
from scripts.lab.images import Image
from scripts.lab.registry import Registry
from scripts.lab.stack import Stack, StackFailed

DISK_BYTES = 4 << 30
SETTLE_S = 1.0
PULL_TIMEOUT_S = 600.0
MB = 1_000_000

Contender = Callable[[Path], float]
"""Fetches an image to a disk and returns the seconds."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An image in a registry, and where disks are made to fetch it to."""

    registry: Registry
    reference: str
    sizes: Mapping[str, int]
    """Bytes of each blob by its digest, config and layers."""
    directory: Path

    @property
    def total_bytes(self) -> int:
        """Bytes of all blobs."""
        return sum(self.sizes.values())


def offered(image: Image, name: str, registry: Registry, directory: Path) -> Subject:
    """Push an image and return what is needed to fetch it."""
    sizes = {blob.digest: len(blob.data) for blob in image.blobs}
    return Subject(registry, registry.push(image, name), sizes, directory)


@contextmanager
def stack_on(disk: Path) -> Iterator[Stack]:
    """Run a block with a stack that keeps everything on `disk`.

    Raises:
        StackFailed: it did not start, or left something behind.
    """
    stack = Stack("fetch", root=disk / "root")
    try:
        stack.up()
        time.sleep(SETTLE_S)
        yield stack
    finally:
        left = stack.close()
    if left:
        raise StackFailed(f"the stack left behind: {'; '.join(left)}")


def pull(stack: Stack, reference: str, *flags: str) -> float:
    """Pull an image by the command; return the seconds of the whole process.

    Raises:
        StackFailed: the pull failed.
    """
    done = stack.hythe("pull", *flags, reference, timeout_s=PULL_TIMEOUT_S)
    if done.code != 0:
        raise StackFailed(f"hythe pull: exit code {done.code}\n{done.stderr}{stack.logs()}")
    return done.seconds


def interleaved(subject: Subject, runs: Mapping[str, Contender], rounds: int) -> list[Series]:
    """Run each once a round on a disk of its own, the page cache empty, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            with fresh_disk(subject.directory, DISK_BYTES) as disk:
                forget_all_but(subject.registry.directory)
                seconds = run(disk)
            if number:
                times[name].append(seconds)
    return [Series(name, tuple(seconds)) for name, seconds in times.items()]


def settled(daemon: Containerd | Dockerd, fetch: Callable[[], float]) -> float:
    """Let a daemon that has just started come to rest, then have it fetch; return the seconds."""
    with daemon:
        time.sleep(SETTLE_S)
        os.sync()
        return fetch()


def there(*contenders: tuple[str, str, Contender]) -> tuple[dict[str, Contender], list[str]]:
    """Return those of (name, why it is missing, what it does) that are here, by name, and a note for each other one."""
    found: dict[str, Contender] = {}
    notes = []
    for name, missing, run in contenders:
        if missing:
            notes.append(f"{name} was not measured: {missing}")
        else:
            found[name] = run
    return found, notes


def leave_in_order() -> None:
    """On SIGINT and SIGTERM leave by way of everything that cleans up, which a second signal must not cut short."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def forget_all_but(directory: Path) -> None:
    """Empty the page cache, which is slower when it is full, and read the files below `directory` into it again.

    Spec: proc_sys_vm(5), drop_caches.
    """
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(1 << 20):
                    pass


def say(text: str) -> None:
    """Tell what is being done."""
    print(f"{text} …", flush=True)
