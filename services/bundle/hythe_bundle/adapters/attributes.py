"""What a file is besides its content: owner, mode, extended attributes and times, taken over from another."""

from __future__ import annotations

import errno
import os
import stat


def copy(pattern: int, target: int, *, leave_out: str = "") -> os.stat_result:
    """Give the open file or directory `target` all attributes of `pattern`, and return those that stat(2) knows.

    Args:
        leave_out: beginning of the names of extended attributes that are not taken over.

    Raises:
        OSError: the kernel refuses.
    """
    found = os.fstat(pattern)
    os.fchown(target, found.st_uid, found.st_gid)
    _copy_xattrs(pattern, target, leave_out)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
    return found


def copy_named(name: bytes, source: int, target: int, found: os.stat_result) -> None:
    """Give `name` in the open directory `target` the attributes of `name` in `source`: something that can't be opened.

    Raises:
        OSError: the kernel refuses.
    """
    os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
    # there is no call for the attributes of a name in an open directory, and a link must not be followed
    _copy_xattrs(_path(source, name), _path(target, name), "", follow=False)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=target)
    os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def _path(directory: int, name: bytes) -> bytes:
    return b"/proc/self/fd/%d/%s" % (directory, name)


def _copy_xattrs(pattern: int | bytes, target: int | bytes, leave_out: str, *, follow: bool = True) -> None:
    try:
        names = os.listxattr(pattern, follow_symlinks=follow)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return
    for name in names:
        if leave_out and name.startswith(leave_out):
            continue
        try:
            value = os.getxattr(pattern, name, follow_symlinks=follow)
            os.setxattr(target, name, value, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENODATA):
                raise
