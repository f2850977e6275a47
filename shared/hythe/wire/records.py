"""Records of intent beside containers and images.

Subjects at metadata: ``namespace.create|get|list|label|remove``, ``record.changes``, ``host.register|list|get|label|remove``.
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
    """``namespace.remove``: FailedPrecondition unless it is empty; the message counts what is in it. Result: `Empty`."""

    name: str


class ChangesGet(Request):
    """``record.changes``: what changed in all namespaces beyond revision `after`, oldest first.

    Waits up to `wait_s` seconds for a first change. OutOfRange if the log doesn't reach back to `after` (details
    ``oldest``): read everything again. Result: `ChangesPage`.
    """

    after: Revision
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
