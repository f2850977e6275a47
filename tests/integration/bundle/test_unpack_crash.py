"""Unpacking is killed at every point where that is interesting: no half layer is ever taken for a whole one."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

import hythe_bundle
from hythe.digest import Digest
from hythe.errors import Internal
from hythe.oci import chain_ids, default_platform, parse_config
from hythe_bundle.unpacker import Unpacked
from scripts.lab import trees
from scripts.lab.images import Image, ImageBuilder, Layer
from tests.fakes.blobs import LocalBlobs
from tests.fixtures.bundles import ORIGIN, Rig, mounted
from tests.fixtures.waiting import eventually, until

SCRIPT = Path(__file__).with_name("unpacking.py")
SOURCES = Path(hythe_bundle.__file__).parent
POINTS = sorted(
    name
    for path in ("unpacker.py", "adapters/snapshotter.py", "adapters/commits.py", "adapters/worker.py")
    for name in re.findall(
        r'failpoints\.reach\("(bundle\.(?:layer|image|snapshot)\.[^"]+)"\)', (SOURCES / path).read_text()
    )
)
"""Every failpoint that the process passes."""

CONTAINER = "container"
"""The active snapshot that the process makes on the image and removes again."""

EACH_LAYERS = [f"bundle.layer.{step}" for step in ("stage", "apply", "applied", "commit")]
"""Those that are passed for each layer by itself."""


class Site:
    """An image, its blobs, and the directory of a service that unpacks it."""

    def __init__(self, directory: Path) -> None:
        """Make the image: three layers that need each other."""
        lowest = Layer().directory("tmp", mode=0o1777).directory("home/u", mode=0o700, uid=5).file("gone", b"x")
        middle = Layer().file("tmp/first", b"1").file("home/u/f", os.urandom(300_000)).whiteout("gone")
        top = Layer().symlink("l", "tmp/first").file("last", b"3").hardlink("again", "last")
        builder = ImageBuilder().config(Cmd=["sh"])
        for layer in (lowest, middle, top):
            builder = builder.layer(layer, "none")
        self.directory = directory
        self.image: Image = builder.build()
        self.names = [str(name) for name in chain_ids(parse_config(self.image.config.data).diff_ids)]
        self.blobs = LocalBlobs(directory / "blobs")
        self.digest: Digest = self.blobs.add(self.image)
        self.since_ns = time.time_ns()

    def command(self) -> list[str]:
        """Return how the service's process is started."""
        return [
            sys.executable,
            str(SCRIPT),
            str(self.directory / "bundle"),
            str(self.directory / "blobs"),
            self.digest.hex,
        ]

    @asynccontextmanager
    async def rig(self, name: str = "bundle") -> AsyncIterator[Rig]:
        """Start the service in this process while the block runs."""
        rig = Rig(self.directory / name, self.blobs)
        try:
            yield rig
        finally:
            await rig.close()

    async def unpack(self, rig: Rig) -> Unpacked:
        """Unpack the image."""
        return await rig.unpacker.unpack(ORIGIN, self.digest, default_platform(), rig.reports.append)

    async def tree(self, rig: Rig, name: str) -> trees.Tree:
        """Return what a snapshot shows."""
        with mounted(await rig.snapshots.look(name), self.directory / "view") as point:
            return trees.describe(point, self.since_ns)

    async def check(self) -> None:
        """Start anew after a crash: what is recorded is whole, nothing else is left, and unpacking again gives all of it."""
        async with self.rig("undisturbed") as undisturbed:
            await self.unpack(undisturbed)
            whole = {name: await self.tree(undisturbed, name) for name in self.names}
        async with self.rig() as rig:
            recorded = [snapshot.name async for snapshot in rig.snapshots.walk()]
            layers = [name for name in recorded if name != CONTAINER]
            assert layers == self.names[: len(layers)]
            assert len(rig.layer_directories()) == len(recorded)
            whole[CONTAINER] = whole[self.names[-1]]
            assert {name: await self.tree(rig, name) for name in recorded} == {name: whole[name] for name in recorded}
            assert (await self.unpack(rig)).image.chain_id == self.names[-1]
            assert await self.tree(rig, self.names[-1]) == whole[self.names[-1]]

    def layer_file(self, number: int) -> Path:
        """Return where a layer's blob lies."""
        return self.directory / "blobs" / self.image.layers[number].digest

    @contextmanager
    def stalled_layer(self, number: int) -> Iterator[None]:
        """Have the blob of a layer come only in part while the block runs."""
        whole = self.layer_file(number).read_bytes()
        self.layer_file(number).unlink()
        os.mkfifo(self.layer_file(number))
        pipe = os.open(self.layer_file(number), os.O_RDWR)
        try:
            os.write(pipe, whole[:50_000])
            yield
        finally:
            os.close(pipe)
            self.layer_file(number).unlink()
            self.layer_file(number).write_bytes(whole)

    def half_made(self) -> list[Path]:
        """Return the file of the stalled layer that is there in part."""
        return [path for path in (self.directory / "bundle/snapshots").glob("*/fs/home/u/f") if path.stat().st_size]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A fresh site."""
    return Site(tmp_path)


@pytest.mark.parametrize("point", [*POINTS, *(f"{point}, of the last" for point in EACH_LAYERS)])
async def test_service_killed_at_a_failpoint_leaves_no_half_layer(site: Site, point: str) -> None:
    """Wherever the service dies, each record left is of a whole layer, and all else is cleared up and made again."""
    name, _, last = point.partition(",")
    variables = {**os.environ, "HYTHE_FAILPOINTS": f"{name}={'2*off->' if last else ''}kill"}
    done = subprocess.run(site.command(), env=variables, capture_output=True, timeout=60, check=False)  # noqa: ASYNC221
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    await site.check()


def workers_of(parent: int) -> list[int]:
    """Return the process ids of a process's unpack workers."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if b"hythe_bundle.worker" in (path / "cmdline").read_bytes():
                status = (path / "status").read_text()
                if f"PPid:\t{parent}\n" in status and "State:\tZ" not in status:
                    found.append(int(path.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


async def test_service_killed_while_a_worker_writes_takes_it_along(site: Site) -> None:
    """The worker of a service that is gone doesn't go on writing to a directory that the next one clears."""
    with site.stalled_layer(1):
        service = subprocess.Popen(site.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: ASYNC220
        try:
            eventually(site.half_made, what="the layer is made in part")
            workers = eventually(lambda: workers_of(service.pid), what="a worker waits for the rest")
        finally:
            service.kill()
            service.communicate()
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), what="the worker is gone, too")
    await site.check()


async def test_worker_killed_while_it_writes_leaves_nothing_of_its_layer(site: Site) -> None:
    """The kernel that kills a worker for want of memory, say, costs the attempt and nothing else; the next one succeeds."""
    async with site.rig() as rig:
        with site.stalled_layer(1):
            unpacking = asyncio.create_task(site.unpack(rig))
            await until(site.half_made, what="the layer is made in part")
            for worker in await until(lambda: workers_of(os.getpid()), what="a worker waits for the rest"):
                with suppress(ProcessLookupError):  # one of another layer may just have ended
                    os.kill(worker, signal.SIGKILL)
            with pytest.raises(Internal, match="killed by SIGKILL"):
                await unpacking
            assert not site.half_made()
    await site.check()


def test_layer_is_synced_before_its_record(site: Site, tmp_path: Path) -> None:
    """A layer's files are on the disk before the record that speaks of them: worker's end, syncfs, the record's fsync."""
    trace = tmp_path / "strace"
    calls = "trace=syncfs,fsync,fdatasync,chroot"
    subprocess.run(
        ["strace", "-f", "-y", "-o", str(trace), "-e", calls, *site.command()],
        check=True,
        capture_output=True,
        timeout=60,
    )
    lines = [line.split(maxsplit=1) for line in trace.read_text().splitlines()]
    workers = {pid for pid, call in lines if call.startswith("chroot(")}
    assert len(workers) == 3
    events = []
    for pid, call in lines:
        if pid in workers and call.startswith("+++ exited"):
            events.append("applied")
        elif re.match(r"syncfs\(.* = 0", call) or re.search(r"syncfs resumed.* = 0", call):
            events.append("synced")
        elif re.match(r"(fsync|fdatasync)\(\d+<[^>]*snapshots\.db", call):
            events.append("recorded")
    events = events[events.index("applied") :]  # before it, the database was made
    assert events.count("applied") == 3
    assert events.index("synced") < events.index("recorded")
    after_all = events[len(events) - events[::-1].index("applied") :]
    assert "synced" in after_all and "recorded" in after_all[after_all.index("synced") :]
