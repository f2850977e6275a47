"""Mounts below a directory that is reached by a symbolic link, as a root on another disk may be."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hythe.linux import mountinfo
from hythe_runtime.agent.adapters.mounts import KernelMounts


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Path]:
    """A link to a directory in which something is mounted at ``default/c/rootfs``."""
    point = tmp_path / "disk" / "default" / "c" / "rootfs"
    point.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    yield tmp_path / "link"
    subprocess.run(["umount", point], check=False, capture_output=True)


async def test_mount_below_a_link_is_found_and_unmounted(link: Path) -> None:
    """The kernel spells mount points without links; what the agent asks for may have some."""
    mounts = KernelMounts()
    assert await mounts.points_below(link) == [link / "default" / "c" / "rootfs"]
    await mounts.unmount_below(link / "default" / "c")
    assert await mounts.points_below(link) == []


def test_bundle_behind_a_link_is_not_removed_while_mounted(link: Path) -> None:
    """Removing it would delete the files of the container through the mount."""
    assert mountinfo.mounted_below(link / "default" / "c").endswith("/disk/default/c/rootfs")
