"""File systems of the lab are new, of the size that was asked for, and gone afterwards."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from scripts.lab.disks import fresh_disk

MIB = 1 << 20


def loops(directory: Path) -> str:
    """Return what losetup tells of loop devices of files below `directory`."""
    shown = subprocess.run(["losetup", "--list", "--noheadings"], check=True, capture_output=True, text=True).stdout
    return "\n".join(line for line in shown.splitlines() if str(directory) in line)


def test_disk_is_an_ext4_of_its_own_of_the_wanted_size(tmp_path: Path) -> None:
    """What is measured on a fresh disk shares no file system, and nothing is on it."""
    with fresh_disk(tmp_path, 32 * MIB) as disk:
        found = os.statvfs(disk)
        assert 16 * MIB < found.f_blocks * found.f_frsize <= 32 * MIB
        assert disk.stat().st_dev != tmp_path.stat().st_dev
        assert [path.name for path in disk.iterdir()] == ["lost+found"]
        assert loops(tmp_path)


def test_interrupted_work_leaves_neither_mount_nor_loop_device_nor_file(tmp_path: Path) -> None:
    """Ctrl-C while something is measured leaves nothing behind."""
    with pytest.raises(KeyboardInterrupt), fresh_disk(tmp_path, 16 * MIB) as disk:
        (disk / "file").write_bytes(b"x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert loops(tmp_path) == ""


def test_disk_that_is_used_for_a_moment_longer_is_unmounted_then(tmp_path: Path) -> None:
    """A process that is about to end does not keep a disk from being taken away."""
    with fresh_disk(tmp_path, 16 * MIB) as disk:
        user = subprocess.Popen(["sleep", "0.3"], cwd=disk)
    assert user.wait() == 0
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
