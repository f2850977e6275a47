"""Bundles and archives where users want them: made beside their place and renamed, so that nothing is there in part."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from hythe import durable
from hythe.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from hythe.linux import mountinfo
from hythe.linux.files import sync_file_system
from hythe_bundle.adapters import disk_errors, foreign_disk
from hythe_bundle.adapters.removal import remove_tree
from hythe_bundle.ledger import partial_beside

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ARCHIVE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EBUSY)


class LocalGround:
    """Keeps the promises of `hythe_bundle.ledger.Ground` on this host."""

    def __init__(self, own_root: Path) -> None:
        """Refuse places below `own_root`, Hythe's own directory."""
        self.own_root = os.path.realpath(own_root)

    def partial_of(self, path: str) -> str:
        """See `Ground.partial_of`."""
        if os.path.normpath(path) != path or not path.startswith("/") or path in ("/", "//") or "\0" in path:
            raise InvalidArgument(f"make {path[:200]!r}: it is not an absolute path of something new")
        above = Path(os.path.realpath(Path(path).parent))
        if not above.is_dir():
            raise NotFound(f"make {path}: there is no directory {above}", next_step=f"mkdir -p {above}")
        if above == Path(self.own_root) or str(above).startswith(f"{self.own_root}/"):
            raise InvalidArgument(f"make {path}: it lies in Hythe's own directory", next_step="choose another place")
        return str(partial_beside(above / Path(path).name, os.urandom(8).hex()))

    def check_free(self, path: str) -> None:
        """See `Ground.check_free`."""
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(found.st_mode) or any(Path(path).iterdir()) or os.path.ismount(path):
            raise _taken(path)

    def let_pass(self, partial: str) -> None:
        """See `Ground.let_pass`."""
        with disk_errors.translated("make bundle", Path(partial).parent):
            Path(partial).chmod(0o711)

    def make(self, partial: str, files: Mapping[str, bytes], *directories: str) -> int:
        """See `Ground.make`."""
        with disk_errors.translated("make bundle", Path(partial).parent):
            Path(partial).mkdir(mode=0o700)
            for name in directories:
                Path(partial, name).mkdir()
                Path(partial, name).chmod(0o755)
        self.write(partial, files)
        return self.inode(partial)

    def write(self, partial: str, files: Mapping[str, bytes]) -> None:
        """See `Ground.write`."""
        with disk_errors.translated("write bundle", Path(partial).parent):
            for name, data in files.items():
                with open(os.open(Path(partial, name), _NEW_FILE, 0o644), "wb") as file:
                    os.fchmod(file.fileno(), 0o644)
                    file.write(data)

    def open_new(self, partial: str) -> int:
        """See `Ground.open_new`."""
        with disk_errors.translated("write archive", Path(partial).parent):
            return os.open(partial, _NEW_FILE, 0o600)

    def open_archive(self, path: str) -> tuple[int, int]:
        """See `Ground.open_archive`."""
        try:
            fd = os.open(path, _ARCHIVE)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"read archive {path}: there is no such file", details={"kind": "file"}) from None
        except OSError as error:
            raise disk_errors.of_os(error, f"read archive {path}", Path(path)) from error
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise InvalidArgument(f"read archive {path}: it is no regular file")
        return fd, found.st_size

    def sync(self, partial: str) -> None:
        """See `Ground.sync`."""
        with disk_errors.translated("syncfs", Path(partial).parent):
            if Path(partial).is_dir():
                sync_file_system(Path(partial))
                durable.count_sync()
                return
            fd = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
            try:
                durable.sync_file(fd)
            finally:
                os.close(fd)

    def place(self, partial: str, path: str) -> None:
        """See `Ground.place`."""
        target = Path(partial).with_name(Path(path).name)
        try:
            os.rename(partial, target)
        except OSError as error:
            if error.errno in _TAKEN:
                raise _taken(path) from error
            raise disk_errors.of_os(error, f"make {path}", target.parent) from error
        with disk_errors.translated(f"make {path}", target.parent):
            durable.sync_directory(target.parent)

    def inode(self, path: str) -> int:
        """See `Ground.inode`."""
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return 0
        return found.st_ino if stat.S_ISDIR(found.st_mode) else 0

    def real(self, path: str) -> str:
        """See `Ground.real`."""
        return os.path.realpath(path)

    def check_unmounted(self, path: str) -> None:
        """See `Ground.check_unmounted`."""
        if point := mountinfo.mounted_below(Path(path)):
            raise FailedPrecondition(f"use bundle {path}: {point} is mounted in it", next_step=f"unmount {point}")

    def remove(self, path: str) -> None:
        """See `Ground.remove`."""
        with disk_errors.translated(f"remove {path}", Path(path).parent):
            remove_tree(Path(path))

    def read_file(self, directory: str, name: str, most_bytes: int) -> bytes:
        """See `Ground.read_file`."""
        return foreign_disk.read_file(directory, name, most_bytes)

    def names(self, directory: str) -> set[str]:
        """See `Ground.names`."""
        with disk_errors.translated("read bundle", Path(directory)):
            return {entry.name for entry in Path(directory).iterdir()}

    def check_unshared(self, directory: str, name: str) -> None:
        """See `Ground.check_unshared`."""
        try:
            found = os.lstat(Path(directory, name))
        except FileNotFoundError:
            return
        if found.st_nlink > 1:
            raise InvalidArgument(
                f"read bundle {directory}: {name} has other names, by which a container may change it"
            )


def _taken(path: str) -> AlreadyExists:
    return AlreadyExists(
        f"make {path}: something is there already",
        next_step="name a directory that isn't there, or an empty one",
        details={"kind": "bundle"},
    )
