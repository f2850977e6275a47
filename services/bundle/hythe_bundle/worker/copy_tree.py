"""Copy a directory of an image into a new volume: order on stdin, an open directory as target, one line as report on stdout.

The image's file system is mounted where only this process sees it, and becomes its root directory, so that each link on
the way leads where it leads in a container. From there on nothing is opened through a link.
"""

from __future__ import annotations

import os

from hythe.archive import sandbox
from hythe.archive.ending import end_with
from hythe.archive.failures import ReserveError
from hythe.linux import mounting
from hythe_bundle.worker import report
from hythe_bundle.worker.copying import READ, Copy, Manner, open_quietly
from hythe_bundle.worker.marks import is_whiteout
from hythe_bundle.worker.watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    Ids = Sequence[tuple[int, int, int]]

DONE, NOTHING = b"done\n", b"nothing\n"
NOT_A_DIRECTORY = "file"
_OVERLAYS_OWN = ("trusted.overlay.", "user.overlay.")


def run(arguments: list[str]) -> NoReturn:
    """Do `main` and end at once; see `end_with`."""
    end_with(main, arguments)


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
            self.mounts.append(
                mounting.Described(texts[at], texts[at + 1], texts[at + 2], texts[at + 4 : at + 4 + count])
            )
            at += 4 + count


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
        mounting.mount_all(order.mounts, order.point)
        os.chdir(order.point)
        sandbox.enter(parent)
        copied = fill(into, order.target, Filling(reserve, order.users, order.groups))
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


class Filling(Manner):
    """A copy whose owners are those that the image's are to a container with these maps of ids."""

    def __init__(self, reserve: int, users: Ids, groups: Ids) -> None:
        self._users = users
        self._groups = groups
        self._watch = Watch(reserve)

    def owner(self, found: os.stat_result) -> tuple[int, int]:
        """See `Taken.owner`."""
        return _mapped(found.st_uid, self._users), _mapped(found.st_gid, self._groups)

    def keeps(self, xattr: str) -> bool:
        """See `Taken.keeps`."""
        return not xattr.startswith(_OVERLAYS_OWN)

    def path(self, directory: int, name: bytes) -> bytes:
        """See `Taken.path`: what is at ``/proc`` is the image's."""
        os.fchdir(directory)
        return name

    def open(self, directory: int, name: bytes) -> int:
        """See `Manner.open`: nobody changes an image, so what was a file is one."""
        return open_quietly(name, READ | os.O_NOFOLLOW, directory)

    def wants(self, found: os.stat_result) -> bool:
        """See `Manner.wants`: overlayfs's mark for "nothing is here" is nothing."""
        return not is_whiteout(found)

    def wrote(self, fd: int, size: int) -> None:
        """See `Manner.wrote`."""
        self._watch.wrote(fd, size)


def fill(into: int, target: bytes, manner: Manner) -> bool:
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
    Copy(into, manner).tree(top)
    return True


def _mapped(number: int, ranges: Ids) -> int:
    """Return the host's id for a container's; one that is not mapped is nobody there, whatever it is here."""
    for inside, outside, size in ranges:
        if inside <= number < inside + size:
            return outside + number - inside
    return number
