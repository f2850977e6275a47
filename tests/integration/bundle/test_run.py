"""A bundle made from an image runs with a real runc."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hythe_bundle.bundle import Bundle
from hythe_bundle.command import Wishes
from scripts.lab.images import ImageBuilder, busybox
from tests.fixtures.bundles import Rig, mounted


class Runc:
    """runc with a state directory of its own."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def run(self, bundle: Bundle) -> subprocess.CompletedProcess[str]:
        """Mount the bundle's root file system, run it to its end, and unmount."""
        with mounted(bundle.mounts, bundle.rootfs):
            return subprocess.run(
                ["runc", "--root", str(self._root), "run", "--bundle", str(bundle.path), bundle.path.name],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
                stdin=subprocess.DEVNULL,
            )


@pytest.fixture
def runc(tmp_path: Path) -> Iterator[Runc]:
    """A runc of this test; nothing of it is left at the end."""
    root = tmp_path / "runc"
    yield Runc(root)
    listed = subprocess.run(["runc", "--root", str(root), "list", "-q"], capture_output=True, text=True, check=False)
    assert listed.stdout.split() == []
    for path in Path("/sys/fs/cgroup").glob("*/hythe-test"):
        path.rmdir()


async def run(rig: Rig, runc: Runc, image: ImageBuilder, *args: str, **wishes: object) -> str:
    """Run `args` in `image` and return what it prints on both streams."""
    target = rig.blobs.add(image.build())
    bundle = await rig.bundles.prepare(rig.request(target, Wishes(args=args, **wishes)), rig.reports.append)  # type: ignore[arg-type]
    done = runc.run(bundle)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_busybox_says_hello(rig: Rig, runc: Runc) -> None:
    """From layers to output: unpacked, prepared, mounted, run by runc."""
    assert await run(rig, runc, busybox(), "echo", "hello") == "hello\n"
