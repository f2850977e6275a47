"""What a collection did, owner by owner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hythe_metadata.gc.owners import Owner, Swept

MOST_ITEMS = 10_000

State = Literal["swept", "dry run", "untrusted", "unreachable", "refused", "suspended", "kept"]


@dataclass(frozen=True, slots=True)
class Item:
    """Something that went, or would go. `kind`: ``content``, ``snapshot``, ``ingest`` or ``lease``."""

    kind: str
    name: str
    namespace: str = ""
    size_bytes: int = 0


@dataclass(slots=True)
class OwnerReport:
    """What became of one owner; `kept` counts what was named to it and stays."""

    host: str
    owner: Owner
    state: State = "swept"
    reason: str = ""
    removed: int = 0
    kept: int = 0
    freed_bytes: int = 0

    def fail(self, state: State, reason: str) -> None:
        """Note why nothing more can be asked of this owner; what was noted first stays."""
        if self.state in ("swept", "dry run", "untrusted"):
            self.state, self.reason = state, reason

    def add(self, swept: Swept) -> None:
        """Count what a sweep did."""
        self.removed += len(swept.removed)
        self.kept += len(swept.kept)
        self.freed_bytes += swept.freed_bytes


@dataclass(slots=True)
class Report:
    """What a collection did. `items` are the first `MOST_ITEMS`, `removed` counts all; durations in milliseconds.

    Attributes:
        revision: of the store when it was read.
        leases: how many leases that had ended were deleted, or would be.
    """

    generation: int
    dry_run: bool
    revision: int = 0
    leases: int = 0
    suspended: str = ""
    nodes: int = 0
    mark_ms: float = 0.0
    total_ms: float = 0.0
    removed: int = 0
    freed_bytes: int = 0
    items: list[Item] = field(default_factory=list)
    owners: list[OwnerReport] = field(default_factory=list)

    def note(self, item: Item) -> None:
        """Count something that went, or would go."""
        self.removed += 1
        if len(self.items) < MOST_ITEMS:
            self.items.append(item)
