"""Where a container goes: a pure function over all hosts that keeps every host's reasons."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host that might take a container: whether its agent was heard of lately and how many containers it has."""

    host: str
    fresh: bool
    containers: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The host chosen, or None; `reasons` says of each host why it was refused (empty: it could take it)."""

    host: str | None
    reasons: dict[str, list[str]]


def place(candidates: Iterable[Candidate], wanted: str) -> Choice:
    """Choose the host `wanted`, or with an empty one the host with the fewest containers, ties by name."""
    reasons: dict[str, list[str]] = {}
    able: list[Candidate] = []
    for candidate in candidates:
        against = reasons[candidate.host] = []
        if wanted and candidate.host != wanted:
            against.append(f"not the host asked for ({wanted})")
        if not candidate.fresh:
            against.append("its agent has not been heard of for 5 s")
        if not against:
            able.append(candidate)
    if wanted and wanted not in reasons:
        reasons[wanted] = ["no agent of that name has been heard of"]
    best = min(able, key=lambda c: (c.containers, c.host), default=None)
    return Choice(best.host if best else None, reasons)
