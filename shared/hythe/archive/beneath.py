"""How an extraction opens the directories that it writes to: below one, through no link, whoever puts one there meanwhile."""

from __future__ import annotations

import os

from hythe.linux.files import open_beneath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Directories(Protocol):
        """Opens directories of the tree that is written to."""

        def open(self, path: bytes, flags: int) -> int:
            """Open the directory at the relative `path`; see `Beneath.open`."""

        def made_link(self, found: os.stat_result) -> None:
            """Take note of a symbolic link that the archive made: no later entry goes through it."""


class Beneath:
    """Opens directories below one, through no link at all."""

    def __init__(self, top: int) -> None:
        self._top = top

    def open(self, path: bytes, flags: int) -> int:
        """Open the directory at the relative `path`.

        Raises:
            OSError: as openat2(2); ELOOP for a link in the way.
        """
        return open_beneath(self._top, path or b".", flags)

    def made_link(self, found: os.stat_result) -> None:
        """No link is passed, whoever made it."""
