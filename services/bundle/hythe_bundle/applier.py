"""The applier port: one layer's archive becomes files in a stage of the snapshotter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hythe.digest import Digest
from hythe.ports.snapshots import Mount


@dataclass(frozen=True, slots=True)
class Limits:
    """How large one layer may be.

    Attributes:
        most_bytes: uncompressed bytes.
        most_entries: entries of the archive, directories included that only lie on the way to one.
        most_ratio: uncompressed bytes for each compressed one, beyond the first GiB.
        reserve_bytes: bytes of the file system that stay free.
    """

    most_bytes: int = 256 << 30
    most_entries: int = 4_000_000
    most_ratio: int = 400
    reserve_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of applying a layer.

    Attributes:
        diff_id: sha256 of the uncompressed archive.
        archive_bytes: its size.
        file_bytes: bytes of file data in it; a hole has none.
        entries: its entries.
        implied: directories that it needs and doesn't describe, relative, parents first.
        opaque: whether it hides all that lies below.
        elf_32: whether it has a program or library for a 32-bit processor.
        ignored_xattrs: extended attributes that were left out.
    """

    diff_id: Digest
    archive_bytes: int
    file_bytes: int
    entries: int
    implied: tuple[bytes, ...]
    opaque: bool
    elf_32: bool
    ignored_xattrs: int


class Applier(Protocol):
    """Applies archives that strangers made."""

    async def apply(
        self,
        name: str,
        blob: int,
        mounts: Sequence[Mount],
        limits: Limits,
        progress: Callable[[int], None],
        *,
        lowest: bool = False,
    ) -> Applied:
        """Apply one layer; cancelling stops it at once. What was written stays for the snapshotter to discard.

        Args:
            name: what messages call the layer.
            blob: descriptor of the layer's blob (gzip, zstd or plain tar), open at its start; stays open.
            mounts: how to write to the stage.
            limits: how large the layer may be.
            progress: told the bytes of the blob read so far, now and then.
            lowest: whether nothing lies below, so that a whiteout in it removes nothing.

        Raises:
            InvalidArgument: the archive is broken, hostile or of a form that is refused.
            DataLoss: bytes of the archive are missing or damaged.
            ResourceExhausted: a limit, the reserve or the disk is used up.
            Internal: the worker was killed or failed.

        Spec: OCI image-spec, "Image Layer Filesystem Changeset".
        """
