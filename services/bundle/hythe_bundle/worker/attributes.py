"""What a file is besides its content: owner, mode, extended attributes and times, taken over from another."""

# Names on a disk are bytes, which pathlib does not take.

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def is_portable(xattr: str) -> bool:
    """Tell whether an extended attribute belongs to a tree, and not to the host's kernel alone."""
    return not xattr.startswith("trusted.")


class Taken:
    """What is taken over, and how: everything, as it is. A copy that is to differ has a class of its own."""

    lossy = False
    """Whether an extended attribute that the target's file system does not take is left out; otherwise that is an error."""

    def owner(self, found: os.stat_result) -> tuple[int, int]:
        """Return the user and group that the copy belongs to."""
        return found.st_uid, found.st_gid

    def keeps(self, xattr: str) -> bool:
        """Tell whether an extended attribute is taken over."""
        return True

    def path(self, directory: int, name: bytes) -> bytes:
        """Return a path that leads to `name` in an open directory, up to the next call; for calls that take no descriptor."""
        return b"/proc/self/fd/%d/%s" % (directory, name)


class Inherited(Taken):
    """What one layer takes over from another: all that is not overlayfs's own, as far as the file system takes it."""

    lossy = True

    def keeps(self, xattr: str) -> bool:
        """See `Taken.keeps`."""
        return is_portable(xattr)


EVERYTHING = Taken()


def copy(pattern: int, target: int, found: os.stat_result, taken: Taken = EVERYTHING) -> None:
    """Give the open file or directory `target` the attributes of `pattern`; `found` is what stat(2) said of that.

    The owner comes first, for a change of it takes set-id bits and capabilities away; then what chmod(2) would change.

    Raises:
        OSError: the kernel refuses.
    """
    os.fchown(target, *taken.owner(found))
    _put_xattrs(target, xattrs_of(pattern, taken.keeps), taken)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def copy_named(name: bytes, source: int, target: int, found: os.stat_result, taken: Taken = EVERYTHING) -> None:
    """Give `name` in the open directory `target` the attributes of `name` in `source`: something that can't be opened.

    Raises:
        OSError: the kernel refuses.
    """
    os.chown(name, *taken.owner(found), dir_fd=target, follow_symlinks=False)
    xattrs = xattrs_of(taken.path(source, name), taken.keeps)
    if xattrs:
        _put_xattrs(taken.path(target, name), xattrs, taken)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=target)
    os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def xattrs_of(target: int | bytes, keeps: Callable[[str], bool]) -> dict[str, bytes]:
    """Return those extended attributes that `keeps` is for of an open file, or of a name (a link itself), sorted.

    Raises:
        OSError: they can't be read; where there are none for whatever reason, that is no error.
    """
    follow = isinstance(target, int)
    try:
        names: Iterable[str] = sorted(os.listxattr(target, follow_symlinks=follow))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOENT):
            raise
        return {}
    found = {}
    for name in filter(keeps, names):
        try:
            found[name] = os.getxattr(target, name, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENODATA, errno.ENOENT):
                raise
    return found


def _put_xattrs(target: int | bytes, xattrs: dict[str, bytes], taken: Taken) -> None:
    for name, value in xattrs.items():
        try:
            os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
        except OSError as error:
            if not taken.lossy or error.errno != errno.EOPNOTSUPP:
                raise
