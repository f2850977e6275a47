"""The carrier port: trees of strangers copied, packed and unpacked, whole and exactly."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from hythe.ports.snapshots import Mount

Compression = Literal["none", "gzip", "zstd"]


@dataclass(frozen=True, slots=True)
class Sight:
    """A tree to be read: mounts that show it in a namespace that nobody else sees, or without any, a directory."""

    name: str
    mounts: tuple[Mount, ...] = ()
    directory: str = ""


@dataclass(frozen=True, slots=True)
class Packing:
    """How a tree becomes an archive.

    Attributes:
        prefix: name of its top in the archive; empty for ``.``.
        as_layer: the archive will be read as a layer: names that would hide others are refused.
        epoch_s: no time in it is later.
    """

    compression: Compression
    prefix: str = ""
    as_layer: bool = False
    epoch_s: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it.

    Attributes:
        file_bytes: bytes of file data.
        changed: files that somebody changed or removed while they were read.
        sockets: how many were left out of an archive.
        digest: sha256 of the archive's bytes, 64 hex digits.
        size_bytes: their number.
    """

    file_bytes: int = 0
    changed: int = 0
    sockets: int = 0
    digest: str = ""
    size_bytes: int = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know."""
        found = []
        if self.changed:
            found.append(f"{self.changed} files changed while they were read")
        if self.sockets:
            found.append(f"{self.sockets} sockets were left out: an archive holds none")
        return tuple(found)


class Carrier(Protocol):
    """Works on whole trees. Cancelling stops at once; what was written is the caller's to remove.

    All raise ResourceExhausted when the disk or its reserve is used up, and others of the closed set.
    """

    async def copy(self, sight: Sight, target: Path, progress: Callable[[int], None]) -> Result:
        """Make `target`, an empty directory, the same as a tree: owner, mode, extended attributes, times, hard links, holes.

        Args:
            progress: told the bytes copied so far, now and then.
        """

    async def pack(
        self, sight: Sight, files: Mapping[str, bytes], packing: Packing, archive: int, progress: Callable[[int], None]
    ) -> Result:
        """Write an archive of small `files` and a tree to the descriptor `archive`. The same tree gives the same bytes.

        Raises:
            FailedPrecondition: a name can't stand in such an archive.
        """

    async def pack_into(
        self, sight: Sight, packing: Packing, sink: Callable[[bytes], Awaitable[None]], progress: Callable[[int], None]
    ) -> Result:
        """Hand the archive of a tree to `sink`, some MiB at a time, while it is made; it is on no disk. As `pack` otherwise."""

    async def unpack(
        self, name: str, archive: int, target: Path, progress: Callable[[int], None], *, below_root: bool
    ) -> Result:
        """Unpack an archive that a stranger made into `target`, or into ``rootfs`` in it with `below_root`.

        Nothing outside `target` is reached. No name in the archive takes another away.

        Args:
            archive: descriptor of it, plain or compressed, open at its start.

        Raises:
            InvalidArgument, DataLoss: it is broken, hostile or damaged.
        """
