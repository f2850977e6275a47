"""Events of snapshots: written in the transaction of the change that they tell of, with containerd's topics and fields."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

from hythe import asking, outbox_table, tracing
from hythe.clock import now_ns, rfc3339_of

NOUN = "snapshot"
MAX_ID_BYTES = 256


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells of changes that one request makes to the snapshots of `snapshotter`; taken in the request, used in any thread."""

    snapshotter: str
    namespace: str = field(default_factory=tracing.namespace.get)
    asker: asking.Asker = field(default_factory=asking.current.get)
    trace_id: str = field(default_factory=tracing.trace_id)

    def prepared(self, connection: sqlite3.Connection, key: str, parent: str) -> None:
        """Tell that the active snapshot `key` was made."""
        self._tell(connection, key, "prepare", "prepared", {"key": key, "parent": parent})

    def committed(self, connection: sqlite3.Connection, key: str, name: str) -> None:
        """Tell that the active snapshot, or stage, `key` became the committed snapshot `name`."""
        self._tell(connection, key, "commit", "committed", {"key": key, "name": name})

    def removed(self, connection: sqlite3.Connection, key: str) -> None:
        """Tell that the snapshot `key` of any kind is gone."""
        self._tell(connection, key, "remove", "removed", {"key": key})

    def _tell(
        self, connection: sqlite3.Connection, key: str, verb: str, past: str, attributes: Mapping[str, str]
    ) -> None:
        now = now_ns()
        outbox_table.store(
            connection,
            now,
            namespace=self.namespace,
            noun=NOUN,
            object_id=object_id(key),
            past=past,
            topic=f"/snapshot/{verb}",
            time=rfc3339_of(now),
            attributes={**attributes, "snapshotter": self.snapshotter},
            caller=self.asker.caller,
            request_id=self.asker.request_id,
            trace_id=self.trace_id,
        )


def object_id(key: str) -> str:
    """Return the id under which events of a snapshot are numbered: its key, or one of its own where that is too long.

    It is a token of the event's subject, and the bus takes no subjects of any length.
    """
    if len(key.encode()) <= MAX_ID_BYTES:
        return key
    return f"{key[:64]}…{hashlib.sha256(key.encode()).hexdigest()}"


def stage_key(number: int, name: str) -> str:
    """Return what events call the stage of a layer, which in containerd is an active snapshot of such a name."""
    return f"extract-{number} {name}"
