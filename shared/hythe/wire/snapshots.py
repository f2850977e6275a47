"""Snapshots of one host: requests to its bundle service under the noun ``snapshot``.

They belong to the host, not to a namespace: every namespace sees the same ones.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hythe.wire.base import Reply, Request
from hythe.wire.bundle import Mount

SnapshotName = Annotated[str, Field(min_length=1, max_length=1024)]
SnapshotKind = Literal["view", "active", "committed"]


class SnapshotInfo(Reply):
    """What is recorded of a snapshot; times are RFC 3339 UTC."""

    name: str
    kind: SnapshotKind
    parent: str = ""
    created_at: str
    updated_at: str
    labels: dict[str, str] = {}


class SnapshotList(Request):
    """``snapshot.list``: snapshots that match one of `filters` (containerd's language), by name, pages of `limit`."""

    filters: list[str] = []
    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200


class SnapshotPage(Reply):
    """One page; `next` is the `after` of the next page, empty at the end."""

    snapshots: list[SnapshotInfo]
    next: str = ""


class SnapshotInfoGet(Request):
    """``snapshot.info``: what is recorded of a snapshot. Result: `SnapshotInfo`."""

    name: SnapshotName


class SnapshotUsageGet(Request):
    """``snapshot.usage`` (operation): what a snapshot takes by itself. Result: `SnapshotUsage`."""

    name: SnapshotName


class SnapshotUsage(Reply):
    """Room on the disk, and how many files and directories; one with several names counts once."""

    size_bytes: int
    inodes: int


class SnapshotMountsGet(Request):
    """``snapshot.mounts``: how an active snapshot or view is mounted. Result: `SnapshotMounts`."""

    name: SnapshotName


class SnapshotMounts(Reply):
    """Mounts to be made one after the other."""

    mounts: list[Mount]


class SnapshotLabel(Request):
    """``snapshot.label``: set labels; an empty value takes one away. Result: `SnapshotInfo`."""

    name: SnapshotName
    labels: dict[str, str]


class SnapshotPrepare(Request):
    """``snapshot.prepare`` (operation): make the active snapshot `name` on top of `parent`. Result: `SnapshotMounts`."""

    name: SnapshotName
    parent: str = ""
    labels: dict[str, str] = {}


class SnapshotView(Request):
    """``snapshot.view``: make the view `name` of `parent`. Result: `SnapshotMounts`."""

    name: SnapshotName
    parent: str = ""
    labels: dict[str, str] = {}


class SnapshotCommit(Request):
    """``snapshot.commit`` (operation): make the active snapshot `key` the committed one `name`. Result: `Empty`."""

    name: SnapshotName
    key: SnapshotName
    labels: dict[str, str] = {}


class SnapshotRemove(Request):
    """``snapshot.remove``: remove a snapshot that nothing lies on or uses. Result: `Empty`."""

    name: SnapshotName


class SnapshotCleanup(Request):
    """``snapshot.cleanup`` (operation): remove what no record speaks of. Result: `SnapshotCleaned`."""


class SnapshotCleaned(Reply):
    """How many directories without a record were removed."""

    removed: int
