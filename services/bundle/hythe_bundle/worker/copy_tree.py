"""Copy a directory of an image into a new volume: order on stdin, an open directory as target, one line as report on stdout.

The image's file system is mounted where only this process sees it, and becomes its root directory, so that each link on
the way leads where it leads in a container. From there on nothing is opened through a link.
"""

from __future__ import annotations

import os
import stat

from hythe.archive import sandbox
from hythe.archive.failures import ReserveError
from hythe.linux import mounting
from hythe.linux.files import open_beneath
from hythe_bundle.worker import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    Ids = Sequence[tuple[int, int, int]]

FAULT_CODE = 2
DONE, NOTHING = b"done\n", b"nothing\n"
NOT_A_DIRECTORY = "file"
WATCHED_BYTES = 8 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OVERLAYS_OWN = ("trusted.overlay.", "user.overlay.")


def run(arguments: list[str]) -> NoReturn:
    """Do `main` and end at once with its code, or with `FAULT_CODE` and a line on stderr; see `hythe_bundle.worker.main`."""
    code = FAULT_CODE
    try:
        code = main(arguments)
    except BaseException as error:  # noqa: BLE001 (nobody above may see it: the root directory is a stranger's)
        os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(code)


class Order:
    """What is to be copied, as it comes on stdin: fields that end with a NUL. Reading JSON would cost as much as the copy.

    Attributes:
        point: directory to mount the image at.
        target: path in the image.
        users: (container's id, host's id, size) of each range that is mapped; `groups` likewise.
        mounts: what makes the image's file system.
    """

    __slots__ = ("groups", "mounts", "point", "target", "users")

    def __init__(self, data: bytes) -> None:
        """Read an order."""
        texts = [os.fsdecode(field) for field in data.split(b"\0")[:-1]]
        self.point, self.target = texts[0], os.fsencode(texts[1])
        self.users, self.groups = _ranges(texts[2]), _ranges(texts[3])
        self.mounts = []
        at = 4
        while at < len(texts):
            count = int(texts[at + 3])
            self.mounts.append(OrderedMount(texts[at], texts[at + 1], texts[at + 2], texts[at + 4 : at + 4 + count]))
            at += 4 + count


class OrderedMount:
    """A mount with the fields of `hythe.ports.snapshots.Mount`, whose module takes long to import."""

    __slots__ = ("options", "source", "target", "type")

    def __init__(self, kind: str, source: str, target: str, options: Sequence[str]) -> None:
        self.type = kind
        self.source = source
        self.target = target
        self.options = tuple(options)


def _ranges(text: str) -> Ids:
    numbers = [int(number) for number in text.split()]
    return list(zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True))


def main(arguments: list[str]) -> int:
    """Copy and return the exit code: 0 when the line says ``done`` or ``nothing``, 1 when it says ``failed``.

    Args:
        arguments: parent's pid, descriptor of the directory to fill, bytes of free space to leave.
    """
    parent, into, reserve = (int(argument) for argument in arguments)
    with open(0, "rb") as stdin:
        order = Order(stdin.read())
    try:
        mounting.enter_private_namespace()
        mounting.mount_all(order.mounts, order.point)  # type: ignore[arg-type]  # see OrderedMount
        os.chdir(order.point)
        sandbox.enter(parent)
        copied = Copy(into, reserve, order.users, order.groups).run(order.target)
    except NotADirectoryError:
        line, code = report.failed(NOT_A_DIRECTORY, 0, ""), 1
    except ReserveError as error:
        line, code = report.failed(error.kind, 0, str(error)), 1
    except OSError as error:
        line, code = report.failed("os", error.errno or 0, error.strerror or str(error)), 1
    else:
        line, code = DONE if copied else NOTHING, 0
    os.write(1, line)
    return code


class Copy:
    """One copy into an open directory. Owners are those that the image's are to a container with these maps of ids."""

    def __init__(self, into: int, reserve: int, users: Ids, groups: Ids) -> None:
        self._into = into
        self._reserve = reserve
        self._users = users
        self._groups = groups
        self._since_look = 0
        self._links: dict[tuple[int, int], bytes] = {}

    def run(self, target: bytes) -> bool:
        """Copy what lies in the directory `target`, and what is known of it; False if nothing is there.

        Raises:
            NotADirectoryError: it, or a part of the way to it, is something else.
            ReserveError: less than the reserve would stay free.
            OSError: the kernel refuses.
        """
        try:
            top = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        found = [(b"", os.fstat(top))]
        for path, _ in found:  # grows while it is walked
            source, into = self._open(top, path), self._open(self._into, path)
            try:
                with os.scandir(source) as items:
                    names = [os.fsencode(item.name) for item in items]
                for name in names:
                    known = os.stat(name, dir_fd=source, follow_symlinks=False)
                    below = path + b"/" + name if path else name
                    if stat.S_ISDIR(known.st_mode):
                        os.mkdir(name, 0o700, dir_fd=into)
                        found.append((below, known))
                    else:
                        self._copy(source, into, name, below, known)
            finally:
                os.close(source)
                os.close(into)
        for path, known in reversed(found):
            self._finish(top, path, known)
        return True

    @staticmethod
    def _open(top: int, path: bytes) -> int:
        return open_beneath(top, path, _DIRECTORY) if path else os.dup(top)

    def _copy(self, source: int, into: int, name: bytes, below: bytes, known: os.stat_result) -> None:
        """Copy one that is no directory."""
        inode = (known.st_dev, known.st_ino)
        if inode in self._links:
            os.link(self._links[inode], name, src_dir_fd=self._into, dst_dir_fd=into, follow_symlinks=False)
            return
        if stat.S_ISREG(known.st_mode):
            self._copy_file(source, into, name, known)
        elif stat.S_ISLNK(known.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=into)
            os.chown(name, *self._owner(known), dir_fd=into, follow_symlinks=False)
            self._date(into, name, known)
        elif stat.S_ISCHR(known.st_mode) and known.st_rdev == 0:
            return  # overlayfs's mark for: nothing is here
        else:
            os.mknod(name, stat.S_IFMT(known.st_mode) | 0o600, known.st_rdev, dir_fd=into)
            os.chown(name, *self._owner(known), dir_fd=into, follow_symlinks=False)
            os.chmod(name, stat.S_IMODE(known.st_mode), dir_fd=into)
            self._date(into, name, known)
        if known.st_nlink > 1:
            self._links[inode] = below

    def _copy_file(self, source: int, into: int, name: bytes, known: os.stat_result) -> None:
        reading = os.open(name, _READ, dir_fd=source)
        try:
            writing = os.open(name, _WRITE, 0o600, dir_fd=into)
            try:
                self._copy_data(reading, writing, known.st_size)
                self._own(reading, writing, known)
                os.utime(writing, ns=(known.st_atime_ns, known.st_mtime_ns))
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    def _copy_data(self, reading: int, writing: int, size: int) -> None:
        """Copy the bytes of a file and leave holes where they are."""
        offset = 0
        while offset < size:
            try:
                start = os.lseek(reading, offset, os.SEEK_DATA)
            except OSError:
                break  # nothing but a hole up to the end
            end = min(os.lseek(reading, start, os.SEEK_HOLE), size)
            offset = start
            os.lseek(writing, start, os.SEEK_SET)
            while offset < end:
                count = os.sendfile(writing, reading, offset, min(end - offset, WATCHED_BYTES))
                if not count:
                    raise OSError(5, "a file of the image is shorter than it says")
                offset += count
                self._watch(writing, count)
        os.ftruncate(writing, size)

    def _watch(self, fd: int, count: int) -> None:
        self._since_look += count
        if self._since_look < WATCHED_BYTES:
            return
        self._since_look = 0
        sandbox.start_write_back(fd)
        free = os.fstatvfs(fd)
        if free.f_bavail * free.f_frsize < self._reserve:
            raise ReserveError(f"less than {self._reserve} bytes would stay free")

    def _finish(self, top: int, path: bytes, known: os.stat_result) -> None:
        """Give a directory what the image's has; its time last, for making files in it has moved that."""
        source, into = self._open(top, path), self._open(self._into, path)
        try:
            self._own(source, into, known)
            os.utime(into, ns=(known.st_atime_ns, known.st_mtime_ns))
        finally:
            os.close(source)
            os.close(into)

    @staticmethod
    def _date(into: int, name: bytes, known: os.stat_result) -> None:
        os.utime(name, ns=(known.st_atime_ns, known.st_mtime_ns), dir_fd=into, follow_symlinks=False)

    def _owner(self, known: os.stat_result) -> tuple[int, int]:
        return _mapped(known.st_uid, self._users), _mapped(known.st_gid, self._groups)

    def _own(self, source: int, into: int, known: os.stat_result) -> None:
        """Give a file owner, mode and attributes, in this order: a new owner takes setuid bits and capabilities away."""
        os.fchown(into, *self._owner(known))
        os.fchmod(into, stat.S_IMODE(known.st_mode))
        for name in os.listxattr(source):
            if not name.startswith(_OVERLAYS_OWN):
                os.setxattr(into, name, os.getxattr(source, name))


def _mapped(number: int, ranges: Ids) -> int:
    """Return the host's id for a container's; one that is not mapped is nobody there, whatever it is here."""
    for inside, outside, size in ranges:
        if inside <= number < inside + size:
            return outside + number - inside
    return number
