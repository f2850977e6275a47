"""The differ port: what one file system changes of another, as a list or as a layer's archive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from hythe.digest import Digest
from hythe.ports.snapshots import Mount

ChangeKind = Literal["added", "changed", "deleted"]
Compression = Literal["gzip", "zstd", "none"]
Sink = Callable[[bytes], Awaitable[None]]

SHRANK = "shrank"
"""Details ``kind`` of the error for a file that became shorter while it was read: another try may succeed."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change; `path` is relative, any bytes. A directory in which something changed is itself changed."""

    kind: ChangeKind
    path: bytes


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two file systems to compare.

    Attributes:
        name: what messages call the newer one.
        base: mounts of the older one; none for nothing at all.
        new: mounts of the newer one; not used where there are `changes`.
        changes: directory that has, in overlayfs's form, only what the newer one changes.
        changes_options: mount options that show the owners in it as they are in the newer one.
        skip_runtime_made: pass over the empty files and directories that a runtime mounts its own things on.
    """

    name: str
    base: tuple[Mount, ...]
    new: tuple[Mount, ...]
    changes: Path | None = None
    changes_options: tuple[str, ...] = ()
    skip_runtime_made: bool = False


@dataclass(frozen=True, slots=True)
class LayerForm:
    """How a layer is written.

    Attributes:
        latest_s: seconds since 1970; later times of files become this one. None keeps all.
    """

    compression: Compression = "gzip"
    latest_s: int | None = None


@dataclass(frozen=True, slots=True)
class WrittenLayer:
    """A layer that was written.

    Attributes:
        diff_id: sha256 of the uncompressed archive.
        archive_bytes: its size.
        digest: sha256 of what was written.
        size_bytes: its size.
        entries: entries of the archive.
        compress_ms: how long hashing and compressing took, beside the reading of files.
    """

    diff_id: Digest
    archive_bytes: int
    digest: Digest
    size_bytes: int
    entries: int
    compress_ms: int = 0


class Differ(Protocol):
    """Compares file systems that strangers wrote. Both verbs stop at once when they are cancelled, and leave nothing.

    Both raise FailedPrecondition where a file system has what cannot be compared or written, ResourceExhausted where a path or
    attribute is too long for an archive or memory is used up, Internal where the worker was killed, and what a failing disk
    gives.
    """

    def changes(self, comparison: Comparison) -> AsyncIterator[Sequence[Change]]:
        """Yield all changes in the order of their paths, some at a time; what is in a new directory is new."""

    async def write(
        self, comparison: Comparison, form: LayerForm, sink: Sink, progress: Callable[[int], None]
    ) -> WrittenLayer:
        """Write the changes as a layer's archive; equal file systems give equal bytes.

        Files are read as they are: what one grows by while it is read is left out.

        Args:
            sink: awaited with each piece of the layer, in order.
            progress: told the bytes of the archive written so far, now and then.

        Raises:
            FailedPrecondition: also, with details ``kind`` `SHRANK`, a file that became shorter while it was read.

        Spec: OCI image-spec, "Image Layer Filesystem Changeset".
        """
