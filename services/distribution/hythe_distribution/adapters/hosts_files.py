"""Directories of ``hosts.toml`` files as containerd lays them out; a file is read again when it has changed."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hythe.errors import FailedPrecondition
from hythe_distribution.hosts_file import parse_hosts_file
from hythe_distribution.mirrors import Entry

MAX_FILE_BYTES = 1 << 20
MAX_FILES = 1000

_HOST_PORT = re.compile(r"(.+):(\d+)")


@dataclass(frozen=True, slots=True)
class _Read:
    stamp: tuple[int, int, int]
    entries: tuple[Entry, ...]


class HostsDirectories:
    """A body of `hythe_distribution.adapters.registry.asking.HostsFiles`; safe to use from several threads."""

    def __init__(self, directories: Sequence[Path]) -> None:
        """Look into `directories` in order, with each request anew."""
        self._directories = tuple(directories)
        self._lock = threading.Lock()
        self._known: dict[Path, _Read] = {}

    def entries(self, host: str) -> tuple[Entry, ...] | None:
        """Return what the first directory that has something about the registry `host` says; None if none has.

        Within a directory, ``<host>_<port>_`` and ``<host>:<port>`` come before ``_default``.

        Raises:
            FailedPrecondition: the file cannot be read or understood.

        Spec: containerd, docs/hosts.md.
        """
        for directory in self._directories:
            for name in _names(host):
                path = directory / name / "hosts.toml"
                try:
                    status = path.stat()
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as error:
                    raise _unreadable(path, error.strerror or str(error)) from error
                return self._read(path, (status.st_mtime_ns, status.st_size, status.st_ino))
        return None

    def _read(self, path: Path, stamp: tuple[int, int, int]) -> tuple[Entry, ...]:
        with self._lock:
            known = self._known.get(path)
            if known is not None and known.stamp == stamp:
                return known.entries
        if stamp[1] > MAX_FILE_BYTES:
            raise _unreadable(path, f"it has {stamp[1]} bytes, more than {MAX_FILE_BYTES}")
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error)) from error
        entries = parse_hosts_file(raw, str(path))
        with self._lock:
            if len(self._known) >= MAX_FILES:
                self._known.clear()
            self._known[path] = _Read(stamp, entries)
        return entries


def _names(host: str) -> tuple[str, ...]:
    """Return the names of directories that are about `host`; a host that is no plain name has none of its own."""
    if "/" in host or host in ("", ".", "..") or "\0" in host:
        return ("_default",)
    found = _HOST_PORT.fullmatch(host)
    own = (f"{found[1]}_{found[2]}_", host) if found else (host,)
    return (*own, "_default")


def _unreadable(path: Path, cause: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"read {path}: it cannot be read", cause=cause, next_step="let the distribution service read it, or remove it"
    )
