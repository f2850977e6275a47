"""Two trees that strangers made, looked at one name at a time: never through a link, and without waiting for anybody."""

# Names in a tree are bytes, which pathlib does not take.

from __future__ import annotations

import errno
import os
import stat

from hythe.archive.failures import LimitError
from hythe.archive.tar import MAX_PATH_BYTES, show
from hythe.linux.files import open_beneath
from hythe_bundle.worker.marks import is_whiteout

READ_BYTES = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_GONE = (FileNotFoundError, NotADirectoryError)
_KEPT_PREFIXES = ("user.", "system.posix_acl_")
_KEPT_NAMES = frozenset(("security.capability",))
_OVERLAY_USER = "user.overlay."


class Root:
    """One tree."""

    def __init__(self, path: bytes) -> None:
        self._fd = os.open(path, _DIRECTORY)

    def directory(self, path: bytes) -> Directory | None:
        """Return the directory at the relative `path`, empty for the root; None if there is none, or a link on the way.

        Raises:
            LimitError: the path is longer than any archive may have it.
        """
        if len(path) > MAX_PATH_BYTES:
            raise LimitError(f"the path {show(path)} is longer than {MAX_PATH_BYTES} bytes")
        try:
            return Directory(open_beneath(self._fd, path or b".", _DIRECTORY))
        except _GONE:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EXDEV):
                return None  # something else was put there meanwhile
            raise


class Directory:
    """An open directory."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)

    def names(self, *, sockets: bool) -> tuple[list[bytes], list[bytes]]:
        """Return the names in it, and apart from them those of whiteouts.

        Args:
            sockets: whether names of sockets, which no archive can hold, are among them.
        """
        names: list[bytes] = []
        whiteouts: list[bytes] = []
        with os.scandir(self._fd) as items:
            for item in items:
                name = os.fsencode(item.name)
                if item.is_file(follow_symlinks=False) or item.is_dir(follow_symlinks=False) or item.is_symlink():
                    names.append(name)
                    continue
                found = self._stat(name)
                if found is None or (not sockets and stat.S_ISSOCK(found.st_mode)):
                    continue
                (whiteouts if is_whiteout(found) else names).append(name)
        return names, whiteouts

    def stat(self, name: bytes) -> os.stat_result | None:
        """Return what is known of a name; None if there is none, or a whiteout."""
        found = self._stat(name)
        return None if found is None or is_whiteout(found) else found

    def _stat(self, name: bytes) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_file(self, name: bytes) -> int | None:
        """Return a descriptor of a regular file; None if there is none by now. Nothing is waited for."""
        try:
            fd = os.open(name, _FILE, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EACCES):
                return None  # a link, a socket or a device was put there meanwhile
            raise
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        return None

    def link(self, name: bytes) -> bytes | None:
        """Return where a symbolic link leads; None if there is none by now."""
        try:
            return os.readlink(name, dir_fd=self._fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):
                return None
            raise

    def xattrs(self, name: bytes) -> dict[bytes, bytes]:
        """Return those extended attributes that belong to the tree and not to the host or to overlayfs."""
        found: dict[bytes, bytes] = {}
        for key in self._keys(name):
            if _is_kept(key) and (value := self.xattr(name, key)) is not None:
                found[os.fsencode(key)] = value
        return found

    def overlay_marks(self, name: bytes) -> list[str]:
        """Return the names of those extended attributes that are overlayfs's own."""
        return [key for key in self._keys(name) if key.startswith("trusted.overlay.")]

    def _keys(self, name: bytes) -> list[str]:
        os.fchdir(self._fd)
        try:
            return os.listxattr(name, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOENT):
                return []
            raise

    def xattr(self, name: bytes, key: str) -> bytes | None:
        """Return one extended attribute; None if it has none of that name."""
        os.fchdir(self._fd)
        try:
            return os.getxattr(name, key, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENODATA, errno.ENOENT):
                return None
            raise


def _is_kept(key: str) -> bool:
    """Tell whether an extended attribute is the tree's: labels of the host's security modules and overlay's marks are not."""
    return key in _KEPT_NAMES or (key.startswith(_KEPT_PREFIXES) and not key.startswith(_OVERLAY_USER))


def same(base: Directory, base_stat: os.stat_result, new: Directory, new_stat: os.stat_result, name: bytes) -> bool:
    """Tell whether a name means the same in both trees.

    Type, mode, owner, device number and extended attributes always count; of all but directories also size and time, which
    for a time without fractions, as archives have it, is not enough: then content counts.

    containerd's rule (continuity, ``fs.sameFile``), but for its extended attributes: there capabilities alone.
    """
    if (
        base_stat.st_mode != new_stat.st_mode
        or base_stat.st_uid != new_stat.st_uid
        or base_stat.st_gid != new_stat.st_gid
        or base_stat.st_rdev != new_stat.st_rdev
    ):
        return False
    if not stat.S_ISDIR(new_stat.st_mode) and (
        base_stat.st_size != new_stat.st_size or base_stat.st_mtime_ns != new_stat.st_mtime_ns
    ):
        return False
    if base.xattrs(name) != new.xattrs(name):
        return False
    if stat.S_ISLNK(new_stat.st_mode):
        return base.link(name) == new.link(name)
    if stat.S_ISREG(new_stat.st_mode) and new_stat.st_size and new_stat.st_mtime_ns % 10**9 == 0:
        return _same_content(base.open_file(name), new.open_file(name))
    return True


def _same_content(one: int | None, other: int | None) -> bool:
    try:
        if one is None or other is None:
            return False
        while True:
            data = os.read(one, READ_BYTES)
            if data != read_up_to(other, len(data) or 1):
                return False
            if not data:
                return True
    finally:
        for fd in (one, other):
            if fd is not None:
                os.close(fd)


def read_up_to(fd: int, size: int) -> bytes:
    """Return the next `size` bytes of a file, fewer only where it ends."""
    data = os.read(fd, size)
    if len(data) == size or not data:
        return data
    pieces = [data]
    missing = size - len(data)
    while missing and (data := os.read(fd, missing)):
        pieces.append(data)
        missing -= len(data)
    return b"".join(pieces)
