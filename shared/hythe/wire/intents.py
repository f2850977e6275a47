"""Networks and volumes as they are intended.

Subjects at metadata: ``network.create|get|list|label|remove``, ``volume.record|get|list|label|remove``. What a host really
has of them is known there.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hythe.wire.base import Reply, Request
from hythe.wire.records import HostName, Revision


class NetworkRecord(Reply):
    """A network of the cluster. `subnet` is a CIDR block, empty for one that nobody has chosen. Times are RFC 3339 UTC."""

    name: str
    driver: str
    subnet: str = ""
    labels: dict[str, str] = {}
    revision: int
    created_at: str
    updated_at: str


class NetworkCreate(Request):
    """``network.create``: AlreadyExists if there is one of that name, or with some of its addresses. Result: `NetworkRecord`."""

    name: str
    driver: str = "bridge"
    subnet: Annotated[str, Field(max_length=64)] = ""
    labels: dict[str, str] = {}


class NetworkGet(Request):
    """``network.get``. Result: `NetworkRecord`."""

    name: str


class NetworkList(Request):
    """``network.list``: networks that match one of `filters` (containerd's language), by name, pages of `limit`."""

    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200
    filters: Annotated[list[str], Field(max_length=64)] = []


class NetworkPage(Reply):
    """One page; `next` is the `after` of the next page, empty at the end."""

    networks: list[NetworkRecord]
    next: str = ""


class NetworkLabel(Request):
    """``network.label``: set labels; an empty value takes one away. Result: `NetworkRecord`.

    With `if_revision` only if the record still has that revision, else Conflict.
    """

    name: str
    labels: dict[str, str]
    if_revision: Revision | None = None


class NetworkRemove(Request):
    """``network.remove``: forget a network; with `if_revision` only if nobody changed it since. Result: `Empty`."""

    name: str
    if_revision: Revision | None = None


class VolumeRecord(Reply):
    """That a host has a volume of that name in a namespace. Times are RFC 3339 UTC."""

    namespace: str
    name: str
    host: str
    labels: dict[str, str] = {}
    revision: int
    created_at: str
    updated_at: str


class VolumeRecordPut(Request):
    """``volume.record``: a host has a volume of that name. Repeating it changes nothing. Result: `VolumeRecord`.

    AlreadyExists if another host has one of that name.
    """

    name: str
    host: HostName
    labels: dict[str, str] = {}


class VolumeRecordGet(Request):
    """``volume.get``. Result: `VolumeRecord`."""

    name: str


class VolumeRecordList(Request):
    """``volume.list``: volumes of the namespace that match one of `filters`, by name, pages of `limit`.

    Empty namespace token lists all namespaces.
    """

    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200
    filters: Annotated[list[str], Field(max_length=64)] = []


class VolumeRecordPage(Reply):
    """One page; `next` is the `after` of the next page, empty at the end."""

    volumes: list[VolumeRecord]
    next: str = ""


class VolumeRecordLabel(Request):
    """``volume.label``: set labels; an empty value takes one away. Result: `VolumeRecord`.

    With `if_revision` only if the record still has that revision, else Conflict.
    """

    name: str
    labels: dict[str, str]
    if_revision: Revision | None = None


class VolumeRecordRemove(Request):
    """``volume.remove``: forget where a volume is, which itself stays. Result: `Empty`.

    With `if_revision` only if the record still has that revision, else Conflict.
    """

    name: str
    if_revision: Revision | None = None
