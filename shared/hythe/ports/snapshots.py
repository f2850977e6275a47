"""The snapshot port: layers stacked into file systems, with containerd's verbs and rules.

Bodies live in the bundle service; the contract suite is ``tests/contract/test_snapshots.py``. A snapshot is ``committed``
(a layer, never changed again, on top of its parent), ``active`` (a place to write on top of a committed one) or ``view``
(the same, to read only). Nobody but the snapshotter touches what is behind a mount's source.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Kind = Literal["view", "active", "committed"]
NO_PARENT = ""
LIST_THEM = "`hythe snapshot ls` lists them; write the whole name"
"""What to do when there is no snapshot of a name."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount(2) call, containerd's form.

    Attributes:
        target: path relative to the root file system; empty for its root.
        options: in mount(8)'s spelling, e.g. ``ro``, ``lowerdir=…``.
    """

    type: str
    source: str
    target: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is recorded of one snapshot.

    Attributes:
        name: the key of an active snapshot or view, the chain id of a committed one.
        parent: name of the committed snapshot below it; empty for the lowest.
        created_at: RFC 3339, UTC.
        labels: text that its maker keeps with it, durable in the same commit.
        updated_at: when its labels were last changed; `created_at` where they never were.
    """

    name: str
    kind: Kind
    parent: str
    created_at: str
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    updated_at: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a snapshot takes on its disk by itself, without what lies below it; a file with several names counts once."""

    size_bytes: int
    inodes: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A place for one layer while it is applied; nothing of it outlives this process unless it is committed.

    Attributes:
        key: name of the place, never used again.
        mounts: how to write to it. A single ``bind`` gives a directory, which needs no mount.
    """

    key: str
    mounts: tuple[Mount, ...]


class Snapshotter(Protocol):
    """Keeps layers and makes file systems of them.

    All raise ResourceExhausted when the disk is full, with nothing left behind.
    """

    async def stage(self) -> Stage:
        """Make an empty place to apply a layer to. What lies below need not be there yet: layers are applied in any order."""

    async def commit_stage(
        self,
        stage: Stage,
        name: str,
        parent: str,
        *,
        implied: Sequence[bytes] = (),
        opaque: bool = False,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Make what was applied the committed snapshot `name` on top of `parent`; files and record survive power loss then.

        `parent` may itself still be waiting to be committed; this waits for it. A cancelled caller leaves the stage to be
        discarded.

        Args:
            implied: directories, relative and parents first, that the layer needs and doesn't describe: they take owner,
                mode, extended attributes and times from what lies below.
            opaque: whether the layer hides all that lies below it.

        Raises:
            AlreadyExists: there is a snapshot of that name.
        """

    async def discard(self, stage: Stage) -> None:
        """Remove a stage with all that was applied to it; nothing happens if it was committed or discarded."""

    async def prepare(self, key: str, parent: str, *, labels: Mapping[str, str] | None = None) -> tuple[Mount, ...]:
        """Make the active snapshot `key` on top of `parent` and return its mounts. One durable commit (one fsync).

        A body that copies what lies below makes the copy durable before, which takes as long as it takes.

        Raises:
            AlreadyExists: there is a snapshot of that name.
            NotFound: there is no snapshot `parent`.
            InvalidArgument: `parent` is not committed.
        """

    async def view(self, key: str, parent: str, *, labels: Mapping[str, str] | None = None) -> tuple[Mount, ...]:
        """Make the view `key` of `parent`, empty for a view of nothing, and return its mounts, all read-only.

        Raises:
            AlreadyExists, NotFound, InvalidArgument: as `prepare`.
        """

    async def commit(self, name: str, key: str, *, labels: Mapping[str, str] | None = None) -> None:
        """Make the active snapshot `key` the committed snapshot `name` on the same parent; there is no `key` any more then.

        Its files and record survive power loss when this returns. Nothing may be mounted that writes to it.

        Args:
            labels: those of `name`; the labels of `key` go with it.

        Raises:
            NotFound: there is no snapshot `key`.
            FailedPrecondition: `key` is not active, or it is mounted.
            AlreadyExists: there is a snapshot `name`.
        """

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        """Return the mounts of an active snapshot or view, the same each time.

        Raises:
            NotFound: there is none of that name.
            FailedPrecondition: it is committed.
        """

    async def stat(self, name: str) -> Snapshot:
        """Return what is recorded of a snapshot.

        Raises:
            NotFound: there is none of that name.
        """

    def walk(self) -> AsyncIterator[Snapshot]:
        """Yield all snapshots in no particular order; one that comes or goes meanwhile may be missed."""

    async def look(self, name: str) -> tuple[Mount, ...]:
        """Return read-only mounts that show what a snapshot of any kind shows, its own changes included; records nothing.

        They are for a mount namespace that nobody else sees, and for as long as the snapshot exists. Of an active
        snapshot that something writes to meanwhile they show some state of each file.

        Raises:
            NotFound: there is none of that name.
        """

    async def changes_in(self, name: str) -> Path | None:
        """Return a directory that has, in overlayfs's form, only what a snapshot changes of its parent.

        A character device 0:0 stands for what was taken away, ``trusted.overlay.opaque`` for a directory that hides what
        lies below it. None: the body keeps no such directory of it, so that the two must be compared.

        Raises:
            NotFound: there is none of that name.
        """

    async def update(self, name: str, labels: Mapping[str, str], *, only: Collection[str] | None = None) -> Snapshot:
        """Replace all labels of a snapshot, or with `only` those keys alone; one of them without a value is taken away.

        One durable commit.

        Raises:
            NotFound: there is none of that name.
        """

    async def usage(self, name: str) -> Usage:
        """Return what a snapshot takes; of an active one what it takes now.

        Raises:
            NotFound: there is none of that name.
        """

    async def cleanup(self) -> int:
        """Remove what no record speaks of, directories and the like, and return how much was removed.

        What is just being made or removed is left alone, and so is what is mounted.
        """

    async def remove(self, name: str) -> None:
        """Forget a snapshot; its files go soon after. Not durable: after a crash it may have to be repeated.

        Raises:
            NotFound: there is none of that name.
            FailedPrecondition: others lie on top of it, or it is mounted.
        """

    async def read_file(self, name: str, path: str, most_bytes: int) -> bytes | None:
        """Return a regular file of the file system that ends with the committed snapshot `name`, without mounting it.

        Symbolic links lead where they would lead in a container; nothing outside the snapshot is ever read.

        Args:
            path: absolute path in that file system.
            most_bytes: size above which it is refused.

        Returns:
            None when there is no such file.

        Raises:
            InvalidArgument: it is no regular file, or larger than `most_bytes`.
            NotFound: there is no snapshot `name`.
        """
