"""Which container a user means, and which there are."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hythe.errors import InvalidArgument
from hythe.filters import Field, fields_of
from hythe.ports.metadata import ALL_NAMESPACES, ContainerRecord, Page
from hythe_metadata import container_records as kept
from hythe_metadata.container_records import SHORT_ID_LENGTH, not_found
from hythe_metadata.labelled import pages
from hythe_metadata.lease_clock import LeaseClock
from hythe_metadata.records import Read, Stored, View

_PREFIX = re.compile(r"[0-9a-f]{1,32}")
_CANDIDATES = 10


def get(namespace: str, key: str, leases: LeaseClock) -> Read[ContainerRecord]:
    """Return one container by full id, by name, or by unique prefix of the id; one being removed by its full id only.

    Raises:
        NotFound: (of the question) nothing matches (details ``kind=container``).
        InvalidArgument: (of the question) several match; the candidates are named.
    """

    def read(view: View) -> ContainerRecord:
        if len(key) == kept.ID_LENGTH:
            exact = kept.find_anywhere(view, key, leases) or kept.find_gone(view, key)
            if exact is not None and namespace in (ALL_NAMESPACES, exact.record.namespace):
                return exact.record
        found = [record for space in _spaces(view, namespace) for record in _candidates(view, space, key, leases)]
        return _choose(namespace, key, found)

    return read


def list_all(
    namespace: str, after: str, limit: int, leases: LeaseClock, filters: Sequence[str] = ()
) -> Read[Page[ContainerRecord]]:
    """List containers that are not being removed by id, of all namespaces by namespace and id.

    See `hythe_metadata.labelled.pages`; specs count for the size of a page.
    """
    space = None if namespace == ALL_NAMESPACES else namespace

    def record_in(_: View, stored: Stored) -> ContainerRecord:
        return kept.read(stored, leases).record

    return pages(kept.KIND, space, after, limit, filters, record_in, _fields, lambda stored: len(stored.bulk))


def _choose(namespace: str, key: str, candidates: list[ContainerRecord]) -> ContainerRecord:
    """Return the one container that `key` means, of those with that name, or else whose ids begin with it.

    Raises:
        NotFound: there is none.
        InvalidArgument: there are several.
    """
    if not candidates:
        raise not_found(key, namespace)
    if len(candidates) > 1:
        named = ", ".join(f"{c.id[:SHORT_ID_LENGTH]} ({c.name})" for c in candidates[:_CANDIDATES])
        raise InvalidArgument(
            f"find container {key!r}: it may mean {named}", next_step="give more digits of the id, or the name"
        )
    return candidates[0]


def _spaces(view: View, namespace: str) -> list[str]:
    if namespace != ALL_NAMESPACES:
        return [namespace]
    return [stored.key.name for stored in view.scan("namespace")]


def _candidates(view: View, namespace: str, key: str, leases: LeaseClock) -> list[ContainerRecord]:
    by_name = view.named(kept.NAMES, namespace, key)
    if by_name is not None:
        stored = view.get(by_name)
        return [kept.read(stored, leases).record] if stored else []
    if not _PREFIX.fullmatch(key):
        return []
    scanned = zip(range(_CANDIDATES), view.scan(kept.KIND, namespace, prefix=key), strict=False)
    return [kept.read(stored, leases).record for _, stored in scanned]


def _fields(record: ContainerRecord) -> Field:
    values = {"id": record.id, "name": record.name, "image": record.reference, "runtime.name": record.runtime}
    values |= {"host": record.host, "phase": record.phase, "desired": record.desired, "snapshotter": record.snapshotter}
    plain = fields_of(values, record.labels.get)
    return lambda path: plain(("runtime.name",) if path == ("runtime", "name") else path)
