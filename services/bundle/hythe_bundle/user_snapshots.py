"""Snapshots as users have them: all may be seen, but what Hythe keeps with them and needs of them is left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hythe.errors import FailedPrecondition, InvalidArgument, NotFound
from hythe.filters import Field, fields_of, parse_filters
from hythe.labels import check_labels
from hythe.ports.snapshots import Mount, Snapshot, Snapshotter, Usage
from hythe_bundle import own_labels
from hythe_bundle.snapshot_graph import Node, references_of

_DETAILS = {"kind": "snapshot"}


class UserSnapshots:
    """The verbs of a snapshotter for users. What isn't said here is as in `hythe.ports.snapshots.Snapshotter`.

    Snapshots that labels refer to are looked at before: a collection in progress leaves them alone then.
    """

    def __init__(self, snapshots: Snapshotter) -> None:
        self._snapshots = snapshots

    async def page(self, filters: Sequence[str], after: str, limit: int) -> tuple[list[Snapshot], bool]:
        """Return up to `limit` snapshots by name, from the one that follows `after`, and whether there are more.

        Args:
            filters: containerd's language, with the fields name, parent, kind and labels; one of them must match.

        Raises:
            InvalidArgument: a filter can't be read.
        """
        wanted = parse_filters(filters)
        found = [snapshot async for snapshot in self._snapshots.walk() if snapshot.name > after]
        seen = (_as_seen(snapshot) for snapshot in sorted(found, key=lambda snapshot: snapshot.name))
        matching = [snapshot for snapshot in seen if wanted.matches(_fields(snapshot))]
        return matching[:limit], len(matching) > limit

    async def info(self, name: str) -> Snapshot:
        """Return what is recorded of a snapshot."""
        return _as_seen(await self._snapshots.stat(name))

    async def usage(self, name: str) -> Usage:
        """Return what a snapshot takes."""
        return await self._snapshots.usage(name)

    async def mounts(self, name: str) -> tuple[Mount, ...]:
        """Return the mounts of an active snapshot or view."""
        return await self._snapshots.mounts(name)

    async def label(self, name: str, changes: Mapping[str, str]) -> Snapshot:
        """Set labels; an empty value takes one away.

        Raises:
            InvalidArgument: one is Hythe's own, or breaks containerd's rule.
        """
        _check_labels(changes)
        await self._look_at_referred(changes)
        return _as_seen(await self._snapshots.update(name, changes, only=changes.keys()))

    async def prepare(self, name: str, parent: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """Make an active snapshot.

        Raises:
            InvalidArgument: see `label`.
        """
        _check_labels(labels)
        await self._look_at_referred(labels)
        return await self._snapshots.prepare(name, parent, labels=labels)

    async def view(self, name: str, parent: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """Make a view.

        Raises:
            InvalidArgument: see `label`.
        """
        _check_labels(labels)
        await self._look_at_referred(labels)
        return await self._snapshots.view(name, parent, labels=labels)

    async def commit(self, name: str, key: str, labels: Mapping[str, str]) -> None:
        """Commit an active snapshot.

        Raises:
            FailedPrecondition: it is a container's.
            InvalidArgument: see `label`.
        """
        _check_labels(labels)
        await self._look_at_referred(labels)
        await self._check_free("commit", key)
        await self._snapshots.commit(name, key, labels=labels)

    async def remove(self, name: str) -> None:
        """Remove a snapshot.

        Raises:
            FailedPrecondition: it is a container's.
        """
        await self._check_free("remove", name)
        await self._snapshots.remove(name)

    async def cleanup(self) -> int:
        """Remove what no record speaks of, and return how much that was."""
        return await self._snapshots.cleanup()

    async def _look_at_referred(self, labels: Mapping[str, str]) -> None:
        for reference in references_of(Node(0, "", "committed", labels=labels)):
            if reference.kind.startswith("snapshot/"):
                try:
                    await self._snapshots.stat(reference.name)
                except NotFound:
                    continue  # a label may speak of what doesn't exist

    async def _check_free(self, step: str, name: str) -> None:
        if own_labels.are_a_bundle((await self._snapshots.stat(name)).labels):
            raise FailedPrecondition(
                f"{step} snapshot {name}: it is the root file system of a container",
                next_step=f"`hythe rm {name}` removes both"
                if step == "remove"
                else "`hythe commit` makes an image of it",
                details=_DETAILS,
            )


def _as_seen(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, labels=own_labels.of_users(snapshot.labels))


def _fields(snapshot: Snapshot) -> Field:
    values = {"name": snapshot.name, "parent": snapshot.parent, "kind": snapshot.kind}
    return fields_of(values, snapshot.labels.get)


def _check_labels(labels: Mapping[str, str]) -> None:
    """Return if users may have these labels.

    Raises:
        InvalidArgument: one is Hythe's own, has no key, or key and value have more than 4096 bytes together.
    """
    for key in labels:
        if own_labels.is_own(key):
            raise InvalidArgument(f"check label {key!r}: it is Hythe's own", next_step="choose another key")
    check_labels(labels)
