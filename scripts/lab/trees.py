"""A tree of files as data: all there is to say of each, so that two trees can be compared and one can be kept."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Facts = dict[str, Any]
Tree = dict[str, Facts]
_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}
_SMALL_BYTES = 32
NOW = "now"


def describe(root: Path, since_ns: int) -> Tree:
    """Return the facts of everything below `root`, itself as ``.``, by path; bytes that are no UTF-8 are surrogates.

    Type, mode, owner, time, extended attributes; the content of small files and sha256 of others; links' targets; device
    numbers; of files with several names the first of these. A name that cannot be looked at has the type ``broken``.

    Args:
        since_ns: what was changed later has the time `NOW`, so that two trees are equal that were made at different times.
    """
    found: Tree = {}
    first: dict[tuple[int, int], str] = {}
    waiting = [b""]
    while waiting:
        path = waiting.pop()
        full = os.path.join(os.fsencode(root), path) if path else os.fsencode(root)  # noqa: PTH118 (names are bytes)
        name = os.fsdecode(path) or "."
        try:
            status = os.lstat(full)
        except FileNotFoundError:
            found[name] = {"type": "broken"}
            continue
        facts = found[name] = _facts(full, status, since_ns)
        if stat.S_ISDIR(status.st_mode):
            waiting += sorted((path + b"/" + inner if path else inner for inner in os.listdir(full)), reverse=True)  # noqa: PTH208
        elif status.st_nlink > 1:
            facts["same"] = first.setdefault((status.st_dev, status.st_ino), name)
    return found


def _facts(path: bytes, status: os.stat_result, since_ns: int) -> Facts:
    time: object = NOW if status.st_mtime_ns >= since_ns else status.st_mtime_ns
    kind = _TYPES[stat.S_IFMT(status.st_mode)]
    facts: Facts = {"type": kind, "mode": oct(status.st_mode & 0o7777), "owner": [status.st_uid, status.st_gid]}
    facts["mtime_ns"] = time
    if xattrs := {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in _xattrs(path)}:
        facts["xattrs"] = xattrs
    match kind:
        case "file":
            facts |= _content(path, status.st_size)
        case "link":
            facts["to"] = os.fsdecode(os.readlink(path))  # noqa: PTH115 (names are bytes)
        case "char" | "block":
            facts["device"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    return facts


def _xattrs(path: bytes) -> list[str]:
    """Return the names of the attributes that a container sees: overlayfs's own are not among them."""
    names = os.listxattr(path, follow_symlinks=False)
    return sorted(name for name in names if not name.startswith("trusted.overlay."))


def _content(path: bytes, size: int) -> Facts:
    with open(path, "rb") as file:
        if size <= _SMALL_BYTES:
            return {"content": file.read().hex()}
        return {"size": size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def differences(ours: Mapping[str, Facts], theirs: Mapping[str, Facts]) -> dict[str, tuple[object, object]]:
    """Return what differs, ours before theirs: ``path`` where one has nothing, else ``path: fact``."""
    found: dict[str, tuple[object, object]] = {}
    for path in sorted({*ours, *theirs}):
        one, other = ours.get(path), theirs.get(path)
        if one is None or other is None:
            found[path] = (one, other)
            continue
        for fact in sorted({*one, *other}):
            if one.get(fact) != other.get(fact):
                found[f"{path}: {fact}"] = (one.get(fact), other.get(fact))
    return found


def keep(path: Path, record: object) -> None:
    """Write `record` as compressed JSON."""
    text = json.dumps(record, separators=(",", ":"), sort_keys=True)
    path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def kept(path: Path) -> Any:
    """Return what `keep` wrote."""
    return json.loads(lzma.decompress(path.read_bytes()))
