"""What is found out about a layer while it is applied, and who looks after what is written."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Watch(Protocol):
        """Looks after what is written."""

        def wrote(self, fd: int, size: int) -> None:
            """Take note of `size` bytes written to `fd`."""

        def check_room(self) -> None:
            """Return if more may be written.

            Raises:
                ReserveError: less than the reserve is free.
            """


class Layer:
    """What applying a layer found out.

    Attributes:
        entries: how many entries the archive has.
        file_bytes: bytes of file data written; a hole has none.
        implied: directories made because something lies in them although the archive doesn't name them, parents first.
        opaque: whether the layer hides everything below it. overlayfs has no mark for that: the stack has to end here.
        elf_32: whether a program or library for a 32-bit processor is among the files.
        ignored_xattrs: extended attributes that this file system or Hythe doesn't take.
    """

    __slots__ = ("elf_32", "entries", "file_bytes", "ignored_xattrs", "implied", "opaque")

    def __init__(self) -> None:
        self.entries = 0
        self.file_bytes = 0
        self.implied: list[bytes] = []
        self.opaque = False
        self.elf_32 = False
        self.ignored_xattrs = 0
