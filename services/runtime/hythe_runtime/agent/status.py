"""What the agent tells the outside about its containers: each change numbered, and pages of all of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from hythe_runtime.agent.ledger import Ledger
from hythe_runtime.agent.model import Record, Status, Tombstone
from hythe_runtime.agent.ports import Outlet

GONE_FOR_ONE = 10


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the list, true up to `change`. `next` is the `after` of the next page, empty at the end."""

    change: int
    statuses: tuple[Status, ...]
    gone: tuple[str, ...]
    next: str


class Board:
    """The numbered present state of every container.

    Attributes:
        change: number of the latest change since this process started.
    """

    def __init__(self, ledger: Ledger, outlet: Outlet) -> None:
        self._ledger = ledger
        self._outlet = outlet
        self._statuses = {record.id: Status(record, 0) for record in ledger.records.values()}
        self.change = 0

    def take(self, record: Record) -> None:
        """Note and publish a change."""
        self.change += 1
        status = Status(record, self.change)
        if record.state == "removed":
            self._statuses.pop(record.id, None)
        else:
            self._statuses[record.id] = status
        self._outlet.status(status)

    def get(self, container_id: str) -> Status | None:
        """Return the status of a container that is here."""
        return self._statuses.get(container_id)

    def count(self, state: str) -> int:
        """Return how many containers are in `state`."""
        return sum(status.record.state == state for status in self._statuses.values())

    def page(self, after: str, limit: int, *, limit_bytes: int = 400_000) -> Page:
        """Return containers and tombstones with ids after `after`, by id: at most `limit` of the former.

        A page ends early at about `limit_bytes`, and at ten tombstones for each container that it might have had.
        """
        statuses: list[Status] = []
        gone: list[str] = []
        size = 0
        last = after
        for container_id, status in self._from(after):
            full = len(statuses) >= limit or len(gone) >= limit * GONE_FOR_ONE or size >= limit_bytes
            if full:
                return Page(self.change, tuple(statuses), tuple(gone), last)
            last = container_id
            if status is None:
                gone.append(container_id)
                size += 40
            else:
                statuses.append(status)
                size += _estimate(status.record)
        return Page(self.change, tuple(statuses), tuple(gone), "")

    def _from(self, after: str) -> Iterator[tuple[str, Status | None]]:
        here: list[tuple[str, Status | Tombstone]] = [(i, s) for i, s in self._statuses.items() if i > after]
        gone: list[tuple[str, Status | Tombstone]] = [
            (i, stone) for i, stone in self._ledger.tombstones.items() if i > after and i not in self._statuses
        ]
        for container_id, item in heapq.merge(sorted(here, key=_id), sorted(gone, key=_id), key=_id):
            yield container_id, item if isinstance(item, Status) else None


def _id(item: tuple[str, Status | Tombstone]) -> str:
    return item[0]


def _estimate(record: Record) -> int:
    args = record.bundle.args if record.bundle else ()
    labels = record.intent.labels
    return 700 + sum(len(arg) for arg in args) + sum(len(k) + len(v) for k, v in labels.items())
