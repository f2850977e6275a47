"""Records of intent beside containers and images.

Subjects at metadata: ``namespace.create|get|list|label|remove``, ``record.changes``, ``host.register|get|list|label|remove``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hythe.wire.base import Reply, Request

Revision = Annotated[int, Field(ge=0)]


class NamespaceRecord(Reply):
    """A namespace; `records` counts what it has by kind. Times are RFC 3339 UTC."""

    name: str
    labels: dict[str, str] = {}
    revision: int
    created_at: str
    updated_at: str
    records: dict[str, int] = {}


class NamespaceCreate(Request):
    """``namespace.create``: by containerd's rule for names. AlreadyExists if there is one. Result: `NamespaceRecord`.

    A namespace also comes to be with the first record in it.
    """

    name: str
    labels: dict[str, str] = {}


class NamespaceGet(Request):
    """``namespace.get``. Result: `NamespaceRecord`."""

    name: str


class NamespaceList(Request):
    """``namespace.list``: namespaces that match one of `filters` (containerd's language), by name, pages of `limit`."""

    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200
    filters: Annotated[list[str], Field(max_length=64)] = []


class NamespacePage(Reply):
    """One page; `next` is the `after` of the next page, empty at the end."""

    namespaces: list[NamespaceRecord]
    next: str = ""


class NamespaceLabel(Request):
    """``namespace.label``: set labels; an empty value takes one away. Result: `NamespaceRecord`.

    With `if_revision` only if the record still has that revision, else Conflict.
    """

    name: str
    labels: dict[str, str]
    if_revision: Revision | None = None


class NamespaceRemove(Request):
    """``namespace.remove``: FailedPrecondition unless it is empty; the message counts what is in it. Result: `Empty`.

    With `if_revision` only if the record still has that revision, else Conflict.
    """

    name: str
    if_revision: Revision | None = None


class ChangesGet(Request):
    """``record.changes``: what changed in all namespaces beyond revision `after`, oldest first. Result: `ChangesPage`.

    Waits up to `wait_s` seconds for a first change. With `after` unset only tell how far the store is: ask so first, then read
    what you need, then ask for what changed since. With `era` only if the store still has that one.

    OutOfRange if the log doesn't reach back to `after`, or the store isn't so far or has another era, because it was restored
    (details ``oldest``, ``newest``, ``era``): begin again.
    """

    after: Revision | None = None
    era: Annotated[int, Field(ge=1)] | None = None
    limit: Annotated[int, Field(gt=0, le=1000)] = 500
    wait_s: Annotated[float, Field(ge=0, le=1.5)] = 0.0
    kinds: Annotated[list[str], Field(max_length=16)] = []


class RecordChange(Reply):
    """A record was put, or deleted, at `revision`."""

    revision: int
    kind: str
    namespace: str
    name: str
    deleted: bool = False


class ChangesPage(Reply):
    """Changes in order; `revision` is the `after` of the next question, also when there are none."""

    changes: list[RecordChange]
    revision: int
    era: int = 1


HostName = Annotated[str, Field(min_length=1, max_length=253)]
_Hexadecimal = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class HostRegister(Request):
    """``host.register``: the agent of a host says who it is, at its start and whenever the bus was away.

    AlreadyExists if another agent has the name and still beats. Result: `HostRecord`.
    """

    name: HostName
    machine_id: Annotated[str, Field(max_length=64)] = ""
    boot_id: Annotated[str, Field(min_length=1, max_length=64)]
    instance: _Hexadecimal
    root_id: _Hexadecimal
    version: Annotated[str, Field(max_length=64)] = ""
    labels: dict[str, str] = {}


class HostRecord(Reply):
    """A host as its agent registered it last; `alive`: its heartbeat was heard within 5 s. Times are RFC 3339 UTC."""

    name: str
    machine_id: str = ""
    boot_id: str
    instance: str
    root_id: str
    version: str = ""
    labels: dict[str, str] = {}
    alive: bool = False
    revision: int
    created_at: str
    updated_at: str
    registered_at: str


class HostGet(Request):
    """``host.get``. Result: `HostRecord`."""

    name: HostName


class HostList(Request):
    """``host.list``: hosts that match one of `filters` (containerd's language), by name, pages of `limit`."""

    after: str = ""
    limit: Annotated[int, Field(gt=0, le=500)] = 200
    filters: Annotated[list[str], Field(max_length=64)] = []


class HostPage(Reply):
    """One page; `next` is the `after` of the next page, empty at the end."""

    hosts: list[HostRecord]
    next: str = ""


class HostLabel(Request):
    """``host.label``: set labels; an empty value takes one away. Result: `HostRecord`.

    With `if_revision` only if the record still has that revision, else Conflict.
    """

    name: HostName
    labels: dict[str, str]
    if_revision: Revision | None = None


class HostRemove(Request):
    """``host.remove``: forget a host that is gone for good; FailedPrecondition while its agent beats. Result: `Empty`."""

    name: HostName
    if_revision: Revision | None = None
