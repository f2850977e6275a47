"""Ports of what lies in places that users choose: which directories Hythe made, and making them whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Created:
    """A bundle directory that Hythe made.

    Attributes:
        path: absolute, as it was asked for.
        inode: number of the directory on its file system, by which it is known again.
        image: reference of the image or artifact that it was made from; empty where that is not known.
        digest: of that; empty where it is not known.
        created_at: RFC 3339, UTC.
    """

    path: str
    namespace: str
    inode: int
    image: str
    digest: str
    created_at: str


class Ledger(Protocol):
    """Durable records of what Hythe made in places of others, and of what it is just making."""

    async def begin(self, partial: str, path: str) -> None:
        """Note that something for `path` will be at `partial`, unfinished, so that the next start removes it."""

    async def end(self, partial: str) -> None:
        """Note that nothing is at `partial` any more."""

    def unfinished(self) -> list[tuple[str, str]]:
        """Return (partial, path) of what was begun and not ended."""

    async def put(self, created: Created) -> None:
        """Record a directory, in place of another that had its path."""

    async def forget(self, path: str, inode: int) -> None:
        """Forget a directory; nothing happens if it isn't recorded."""

    def find(self, path: str) -> Created | None:
        """Return the directory recorded for a path."""

    def all(self, namespace: str) -> list[Created]:
        """Return all directories of a namespace."""


class Ground(Protocol):
    """The disk where users want bundles and archives. All methods block: call them in a thread."""

    def partial_of(self, path: str) -> str:
        """Return where something for `path` is made first: beside it, under a name that nobody has and that tells of Hythe.

        Raises:
            InvalidArgument: it is no absolute path of a new name, or lies in Hythe's own directory.
            NotFound: the directory above isn't there.
        """

    def check_free(self, path: str) -> None:
        """Return if a directory can be made at `path`: nothing is there, or an empty directory that isn't mounted.

        Raises:
            AlreadyExists: something is there.
        """

    def make(self, partial: str, files: Mapping[str, bytes], *directories: str) -> int:
        """Make the directory `partial`, for root alone, with files and directories; return its inode's number.

        Raises:
            ResourceExhausted, HytheError: the disk refuses.
        """

    def let_pass(self, partial: str) -> None:
        """Let all users of the host pass through the directory `partial`, to what they know the name of.

        Raises:
            HytheError: the disk refuses.
        """

    def write(self, partial: str, files: Mapping[str, bytes]) -> None:
        """Write small files into a directory that is being made."""

    def open_new(self, partial: str) -> int:
        """Return a descriptor of a new file, for its owner alone."""

    def open_archive(self, path: str) -> tuple[int, int]:
        """Return a descriptor of a regular file and its size.

        Raises:
            NotFound, InvalidArgument: there is no such file.
        """

    def sync(self, partial: str) -> None:
        """Make all that was written there durable."""

    def place(self, partial: str, path: str) -> None:
        """Give what was made its name, durably; a file replaces one of that name, a directory an empty one.

        Raises:
            AlreadyExists: another directory is there by now.
        """

    def inode(self, path: str) -> int:
        """Return the number of the directory at `path`; 0 if there is none."""

    def real(self, path: str) -> str:
        """Return `path` with all links resolved."""

    def check_unmounted(self, path: str) -> None:
        """Return if nothing is mounted in the directory.

        Raises:
            FailedPrecondition: something is.
        """

    def remove(self, path: str) -> None:
        """Remove a file or a directory with all in it; nothing happens if it isn't there."""

    def read_file(self, directory: str, name: str, most_bytes: int) -> bytes:
        """Return a small regular file of a directory.

        Raises:
            NotFound, InvalidArgument: see `hythe_bundle.foreign.ForeignDisk.read_config`.
        """

    def names(self, directory: str) -> set[str]:
        """Return what is in a directory."""

    def check_unshared(self, directory: str, name: str) -> None:
        """Return if a file in a directory is missing, or has this name alone.

        Raises:
            InvalidArgument: it has others, by which it can be changed.
        """


def partial_beside(path: Path, token: str) -> Path:
    """Return the name under which something for `path` is made."""
    return path.with_name(f".{path.name[:180]}.hythe-unfinished-{token}")
