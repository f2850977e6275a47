"""Removing what strangers made."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from hythe_bundle.adapters.removal import remove_tree


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    """A link in a container's files leads the removal nowhere."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "canary").write_text("alive")
    (tmp_path / "doomed" / "d").mkdir(parents=True)
    (tmp_path / "doomed" / "l").symlink_to(tmp_path / "outside")
    (tmp_path / "doomed" / "d" / "l").symlink_to(tmp_path / "outside" / "canary")
    remove_tree(tmp_path / "doomed")
    assert not (tmp_path / "doomed").exists() and (tmp_path / "outside" / "canary").read_text() == "alive"


def test_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    """A tree of thousands of levels needs neither recursion nor a descriptor for each."""
    depth = 3000
    fd = os.open(tmp_path, os.O_RDONLY)
    name = "doomed"
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd, name = inner, "d" * 20
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    assert depth > resource.getrlimit(resource.RLIMIT_NOFILE)[0] or depth * 21 > 4096
    remove_tree(tmp_path / "doomed")
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_remove_is_no_error(tmp_path: Path) -> None:
    """Repeating a removal changes nothing; a file in the place of a tree goes too."""
    remove_tree(tmp_path / "missing")
    (tmp_path / "file").write_text("x")
    remove_tree(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
