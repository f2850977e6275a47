"""The way into a container's root, and what paths mean there."""

# Names in a container are bytes, which pathlib does not take.
# ruff: noqa: PTH115, PTH116

from __future__ import annotations

import ctypes
import errno
import os
import stat

from hythe.archive import sandbox
from hythe.archive.placing import Destination, asserts_directory, top_name, wants_contents
from hythe.errors import InvalidArgument
from hythe.linux import libc, mounting
from hythe.linux.files import open_beneath, open_in_root, open_real

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hythe_runtime.agent.worker.order import Order

_CHOWN, _DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER, _FSETID, _MKNOD, _SETFCAP = 0, 1, 2, 3, 4, 27, 31
KEPT_OUTWARD = (_DAC_READ_SEARCH,)
KEPT_INWARD = (_CHOWN, _DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER, _FSETID, _MKNOD, _SETFCAP)
NOBODY = 65534
_MAX_LINKS = 40

_libc = ctypes.CDLL(None, use_errno=True)


def enter(order: Order, ids: Ids) -> None:
    """Make the container's root this process's own for good, and give up all that the copy does not need.

    The mounts of a container that does not run are made in a mount namespace of this process's own: nobody else sees
    them, and they are gone with it, however it ends. What is made belongs to the container's root user from now on.

    Raises:
        OSError: the kernel refuses one of the steps.
    """
    if order.root >= 0:
        os.fchdir(order.root)
        os.close(order.root)
    else:
        mounting.enter_private_namespace()
        _mount(order)
        if order.mounts:
            os.chdir(order.rootfs)
        else:
            _go_to(order.rootfs)
    if ids.mapped:
        _libc.setfsgid(ids.outside_gid(0))
        _libc.setfsuid(ids.outside_uid(0))
    sandbox.enter(order.parent, KEPT_INWARD if order.inward else KEPT_OUTWARD)


def _mount(order: Order) -> None:
    """Make the root file system of a container that does not run, with the volumes and directories bound into it."""
    if order.mounts:
        mounting.mount_all([mounting.Described(*each) for each in order.mounts], order.rootfs)
    else:
        _go_to(order.rootfs)
        libc.mount(".", order.rootfs, "", libc.MS_BIND, "")
    root = os.open(order.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if order.read_only:
        libc.mount("", order.rootfs, "", libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY, "")
    for from_path, to_path, read_only in order.binds:
        try:
            target = open_in_root(root, os.fsencode(to_path), os.O_PATH)
        except OSError:
            continue  # runc makes what is missing, when it is started
        place = f"/proc/self/fd/{target}"
        try:
            libc.mount(from_path, place, "", libc.MS_BIND | libc.MS_REC, "")
            if read_only:
                here = os.readlink(place)
                libc.mount("", here, "", libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY, "")
        except FileNotFoundError:
            pass  # gone since
        finally:
            os.close(target)
    os.close(root)


def _go_to(rootfs: str) -> None:
    """Make a directory of others the current one; whoever owns it may have put a link in its place since it was looked at."""
    place = open_real(os.fsencode(rootfs))
    os.fchdir(place)
    os.close(place)


class Ids:
    """Users and groups inside a container and on its host, the same but for a container with a user namespace."""

    def __init__(self, uids: list[tuple[int, int, int]], gids: list[tuple[int, int, int]]) -> None:
        self._uids = uids
        self._gids = gids or uids
        self.mapped = bool(uids)

    def inside(self, uid: int, gid: int) -> tuple[int, int]:
        """Return (uid, gid) as the container sees it."""
        if not self.mapped:
            return uid, gid
        return _mapped(self._uids, uid, 1, 0, NOBODY), _mapped(self._gids, gid, 1, 0, NOBODY)

    def foreign(self, found: os.stat_result) -> bool:
        """Tell whether something belongs to no user of the container: there its root has no more rights than anybody.

        Spec: user_namespaces(7), "Capabilities".
        """
        return self.mapped and (
            _mapped(self._uids, found.st_uid, 1, 0, -1) < 0 or _mapped(self._gids, found.st_gid, 1, 0, -1) < 0
        )

    def outside_uid(self, uid: int) -> int:
        """Return a user of the container as the host sees him; one that it does not have is its root."""
        return _mapped(self._uids, uid, 0, 1, -1) if self.mapped else uid

    def outside_gid(self, gid: int) -> int:
        """Return a group of the container as the host sees it."""
        return _mapped(self._gids, gid, 0, 1, -1) if self.mapped else gid

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """Return (uid, gid) as the host sees it.

        Raises:
            InvalidArgument: the container has no such user or group.
        """
        found = self.outside_uid(uid), self.outside_gid(gid)
        if -1 in found:
            raise InvalidArgument(
                f"the container's user namespace has no owner {uid}:{gid}", next_step="leave out --archive"
            )
        return found


def _mapped(ranges: list[tuple[int, int, int]], number: int, there: int, here: int, none: int) -> int:
    for each in ranges:
        if each[there] <= number < each[there] + each[2]:
            return each[here] + number - each[there]
    return none


def source(path: bytes, *, follow_link: bool) -> tuple[bytes, bytes, bytes]:
    """Return (directory, name in it, name in the archive) of what `path` means as a source.

    The directory's path has no link in it. A link at the end stays one, unless `follow_link`, a ``/`` or ``/.`` says no.

    Raises:
        OSError: it is not there, or has links in a circle.
    """
    name = top_name(path)
    clean = os.path.normpath(path)
    if follow_link or asserts_directory(path):
        real = os.path.realpath(clean, strict=True)
        is_directory = stat.S_ISDIR(os.stat(real, follow_symlinks=False).st_mode)
        if asserts_directory(path) and not is_directory:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if wants_contents(path) or real == b"/":
            return real, b".", name
    else:
        above, base = os.path.split(clean)
        if not base:
            return b"/", b".", b"."
        real = os.path.join(os.path.realpath(above, strict=True), base)  # noqa: PTH118 (bytes)
        os.stat(real, follow_symlinks=False)
    above, base = os.path.split(real)
    return above, base, name


def destination(path: bytes) -> Destination:
    """Return what `path` means as a destination: links are followed to their end, also one that leads nowhere yet.

    Raises:
        InvalidArgument: something is there that is neither a directory nor a regular file.
        OSError: there are links in a circle.
    """
    real = os.path.realpath(path)
    end = b"/" if asserts_directory(path) and real != b"/" else b""
    try:
        found = os.stat(real, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return Destination(real + end, exists=False, is_directory=False)
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    is_directory = stat.S_ISDIR(found.st_mode)
    if not is_directory and not stat.S_ISREG(found.st_mode):
        raise InvalidArgument(f"copy to {os.fsdecode(path)}: it must be a directory or a regular file")
    return Destination(real if is_directory else real + end, exists=True, is_directory=is_directory)


class Through:
    """Opens directories below one inside the root, through links that were there before, but none that the archive made."""

    def __init__(self, root: int, top: bytes) -> None:
        """Work below the directory `top`, a path from the open `root` without links, which is this process's root."""
        self._root = root
        self._top = [part for part in top.split(b"/") if part]
        self._made: set[tuple[int, int]] = set()

    def made_link(self, found: os.stat_result) -> None:
        """Take note of a symbolic link that the archive made."""
        self._made.add((found.st_dev, found.st_ino))

    def open(self, path: bytes, flags: int) -> int:
        """Open the directory at the relative `path`.

        Raises:
            OSError: as openat2(2); ELOOP for a link of the archive's own in the way.
        """
        try:
            return open_beneath(self._root, b"/".join([*self._top, path]) or b".", flags)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EXDEV):
                raise
        return open_beneath(self._root, self._resolve(path) or b".", flags)

    def _resolve(self, path: bytes) -> bytes:
        """Return `path` from the root with links resolved; if somebody changes one meanwhile, opening it fails."""
        at, waiting, links = list(self._top), path.split(b"/")[::-1], 0
        while waiting:
            part = waiting.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                del at[-1:]
                continue
            here = b"/" + b"/".join([*at, part])
            found = os.stat(here, follow_symlinks=False)
            if not stat.S_ISLNK(found.st_mode):
                at.append(part)
                continue
            links += 1
            if links > _MAX_LINKS or (found.st_dev, found.st_ino) in self._made:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = os.readlink(here)
            if target.startswith(b"/"):
                at = []
            waiting += target.split(b"/")[::-1]
        return b"/".join(at)
