"""Directories that others made, read so that neither a link, a pipe nor a huge file in them does harm."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from hythe.errors import HytheError, InvalidArgument, NotFound
from hythe_bundle.adapters import disk_errors
from hythe_bundle.foreign import CONFIG, MAX_CONFIG_BYTES

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class LocalForeignDisk:
    """Keeps the promises of `hythe_bundle.foreign.ForeignDisk` on this host."""

    def read_config(self, directory: str) -> bytes:
        """See `ForeignDisk.read_config`."""
        return read_file(directory, CONFIG, MAX_CONFIG_BYTES)

    def find_root(self, directory: str, root: str) -> tuple[str, str]:
        """See `ForeignDisk.find_root`."""
        where = os.path.realpath(directory)
        path = os.path.normpath(os.path.join(where, root))  # noqa: PTH118 (a path of the spec, joined by its rule)
        try:
            real = os.path.realpath(path)
            is_directory = Path(real).is_dir()
        except (OSError, ValueError) as error:
            raise InvalidArgument(
                f"read bundle {directory}: its root file system {path[:200]!r} cannot be looked at",
                cause=str(error)[:200],
            ) from error
        if not is_directory:
            raise InvalidArgument(f"read bundle {directory}: its root file system {path} is no directory")
        if real != path:
            raise InvalidArgument(
                f"read bundle {directory}: links lead to its root file system: {path} is {real}",
                next_step="write the directory itself as root.path in config.json",
            )
        return where, real


def read_file(directory: str, name: str, most_bytes: int) -> bytes:
    """Return a small regular file of a bundle directory. Blocks, but never for somebody at the other end of a pipe.

    Raises:
        NotFound: there is no such directory (``kind=bundle``), or no such file in it (``kind=file``).
        InvalidArgument: the file is a link, no regular file, or larger than `most_bytes`; or the directory is none.
        HytheError: see `disk_errors.of_os`.
    """
    try:
        place = os.open(directory, _DIRECTORY)
    except OSError as error:
        raise _unreadable(error, directory) from error
    try:
        fd = os.open(name, _FILE, dir_fd=place)
    except OSError as error:
        raise _unreadable_file(error, directory, name) from error
    finally:
        os.close(place)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise InvalidArgument(f"read bundle {directory}: {name} is no regular file")
    with open(fd, "rb") as file:
        try:
            data = file.read(most_bytes + 1) if found.st_size <= most_bytes else b""
        except OSError as error:
            raise disk_errors.of_os(error, f"read bundle {directory}", Path(directory)) from error
        if found.st_size > most_bytes or len(data) > most_bytes:
            raise InvalidArgument(f"read bundle {directory}: {name} is larger than {most_bytes} bytes")
        return data


def _unreadable(error: OSError, directory: str) -> HytheError:
    if error.errno == errno.ENOENT:
        return NotFound(f"read bundle {directory}: there is no such directory", details={"kind": "bundle"})
    if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
        return InvalidArgument(f"read bundle {directory}: it is no directory", cause=error.strerror or "")
    return disk_errors.of_os(error, f"read bundle {directory}", Path(directory))


def _unreadable_file(error: OSError, directory: str, name: str) -> HytheError:
    if error.errno == errno.ENOENT:
        return NotFound(f"read bundle {directory}: there is no {name} in it", details={"kind": "file"})
    if error.errno == errno.ELOOP:
        return InvalidArgument(f"read bundle {directory}: {name} is a symbolic link")
    if error.errno in (errno.ENXIO, errno.ENODEV):
        return InvalidArgument(f"read bundle {directory}: {name} is no regular file")
    return disk_errors.of_os(error, f"read bundle {directory}", Path(directory))
