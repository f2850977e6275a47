"""Which records of intent disagree with what their host says, and how to settle each; a pure function."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["created", "absent"]


@dataclass(frozen=True, slots=True)
class Intent:
    """What settling needs of a record."""

    namespace: str
    id: str
    creating: bool
    lease_expired: bool


def plan(intents: Iterable[Intent], present: Container[str], gone: Container[str]) -> list[tuple[str, str, Outcome]]:
    """Return (namespace, id, outcome) for the records of one host that must be settled.

    A tombstone on the host settles a record as absent. A ``creating`` record whose lease ran out is adopted where the
    host has the container and removed where it has not. Anything else stays: the mere absence of a container on its
    host removes nothing (ARCHITECTURE §1).
    """
    decided: list[tuple[str, str, Outcome]] = []
    for intent in intents:
        if intent.id in gone:
            decided.append((intent.namespace, intent.id, "absent"))
        elif intent.creating and intent.lease_expired:
            decided.append((intent.namespace, intent.id, "created" if intent.id in present else "absent"))
    return decided
