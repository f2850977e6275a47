"""Volumes of one host: requests to its bundle service under the noun ``volume``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hythe.wire.base import Reply, Request


class VolumeCreate(Request):
    """``volume.create``: make a volume, or answer the one that there is; an empty name gets a random one.

    Result: `VolumeInfo`.
    """

    name: str = ""
    labels: dict[str, str] = {}


class VolumeInspect(Request):
    """``volume.inspect``: what is known of a volume. Result: `VolumeInfo`."""

    name: str


class VolumeInfo(Reply):
    """A volume. `mountpoint` is a directory of the host; `containers` are the ids of those that use it.

    `anonymous`: nobody chose its name. `container` is the one that it was made for and goes with; empty for one that stays.
    """

    name: str
    namespace: str
    host: str
    driver: str = "local"
    created_at: str
    mountpoint: str
    labels: dict[str, str] = {}
    anonymous: bool = False
    container: str = ""
    containers: list[str] = []


class VolumeList(Request):
    """``volume.list``: the volumes of the namespace by name, pages of `limit`. Result: `VolumePage`."""

    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200


class VolumePage(Reply):
    """One page; `next` is the `after` of the next page, empty at the end."""

    volumes: list[VolumeInfo]
    next: str = ""


class VolumeRemove(Request):
    """``volume.remove``: remove a volume that no container uses, with all that is in it. Result: `Empty`."""

    name: str


class VolumePrune(Request):
    """``volume.prune`` (operation): remove the volumes that no container uses and nobody named; with `all` named ones, too.

    With `labels` (``NAME`` or ``NAME=VALUE``) only those that have all of them. `dry_run` removes nothing.

    Result: `VolumesPruned`.
    """

    all: bool = False
    labels: list[str] = []
    dry_run: bool = False


class VolumesPruned(Reply):
    """The names of the volumes that went, or would go, and what they took on the disk."""

    removed: list[str]
    reclaimed_bytes: int
