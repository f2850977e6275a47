"""File systems for tests: made and changed by lists of small acts, and described so that two can be compared."""

# Names in a tree are bytes, which pathlib does not take.
# ruff: noqa: PTH101, PTH103, PTH115, PTH118, PTH120, PTH211

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "file",
    "directory",
    "symlink",
    "link",
    "fifo",
    "device",
    "remove",
    "rename",
    "mode",
    "owner",
    "xattr",
    "touch",
    "copy up",
]
KEPT_XATTRS = ("user.", "security.capability")


@dataclass(frozen=True, slots=True)
class Act:
    """One act on a tree: `path` and `other` are relative; `number` stands for size, mode, owner or time."""

    kind: Kind
    path: bytes
    other: bytes = b""
    number: int = 0


def act_on(root: bytes, acts: Sequence[Act]) -> None:
    """Do all acts below `root`, one after the other; what the kernel refuses is passed over."""
    for act in acts:
        try:
            _do(root, act)
        except OSError:
            continue


def _do(root: bytes, act: Act) -> None:
    at, other = os.path.join(root, act.path), os.path.join(root, act.other)
    found = os.lstat(at) if os.path.lexists(at) else None
    is_link = found is not None and stat.S_ISLNK(found.st_mode)
    match act.kind:
        case "file":
            os.makedirs(os.path.dirname(at), exist_ok=True)
            if found is not None and not stat.S_ISREG(found.st_mode):
                return
            with open(at, "wb") as file:
                file.write(bytes([act.number % 251]) * (act.number * 37 % 5000))
        case "directory":
            os.makedirs(at, exist_ok=True)
        case "symlink":
            os.symlink(act.other, at)
        case "link":
            os.link(other, at, follow_symlinks=False)
        case "fifo":
            os.mkfifo(at)
        case "device":
            os.mknod(at, stat.S_IFCHR | 0o600, os.makedev(1, act.number % 10 + 1))
        case "remove":
            if found is not None and stat.S_ISDIR(found.st_mode):
                shutil.rmtree(at)
            else:
                os.unlink(at)
        case "rename":
            os.rename(at, other)
        case "mode":
            if not is_link:
                os.chmod(at, act.number & 0o7777)
        case "owner":
            os.chown(at, act.number % 4, act.number % 3, follow_symlinks=False)
        case "xattr":
            if act.number % 5:
                os.setxattr(at, f"user.{act.number % 3}", act.other or b"\0", follow_symlinks=False)
            else:
                os.removexattr(at, "user.1", follow_symlinks=False)
        case "touch":
            time_ns = act.number * 10**9 + (act.number % 3) * 1234567
            os.utime(at, ns=(time_ns, time_ns), follow_symlinks=False)
        case "copy up":
            if found is not None and not is_link:
                os.chmod(at, stat.S_IMODE(found.st_mode))


def describe(root: bytes, *, times_of_directories: bool = True) -> dict[bytes, tuple[Any, ...]]:
    """Return everything that a layer can carry of the tree below `root`, by path; names of one file share their first one."""
    tree: dict[bytes, tuple[Any, ...]] = {}
    first: dict[tuple[int, int], bytes] = {}
    for directory, names, files in os.walk(root):
        for name in sorted([*names, *files]):
            path = os.path.join(directory, name)
            found = os.lstat(path)
            if stat.S_ISSOCK(found.st_mode):
                continue
            relative = os.path.relpath(path, root)
            is_directory = stat.S_ISDIR(found.st_mode)
            data: object = found.st_rdev
            if stat.S_ISREG(found.st_mode):
                with open(path, "rb") as file:
                    data = file.read()
            elif stat.S_ISLNK(found.st_mode):
                data = os.readlink(path)
            keys = [key for key in os.listxattr(path, follow_symlinks=False) if key.startswith(KEPT_XATTRS)]
            tree[relative] = (
                found.st_mode,
                found.st_uid,
                found.st_gid,
                found.st_mtime_ns if times_of_directories or not is_directory else 0,
                data,
                {key: os.getxattr(path, key, follow_symlinks=False) for key in keys},
                relative if is_directory else (found.st_dev, found.st_ino),
            )
    for path in sorted(tree):
        *facts, inode = tree[path]
        tree[path] = (*facts, first.setdefault(inode, path) if isinstance(inode, tuple) else path)
    return tree
