"""Moves a metadata store from one body to another, and trusts the copy only after reading it back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from hythe.errors import DataLoss
from hythe.ports.events import OutgoingEvent
from hythe_metadata.dump import Head, NumberEntry, RecordEntry, Source, Target


@dataclass(frozen=True, slots=True)
class Copied:
    """What was moved."""

    head: Head
    records: int
    numbers: int
    events: int


def copy(source: Source, target: Target, to: str) -> Copied:
    """Move all of `source` to `target`, and have the source refuse all use from then on.

    The copy is the same store with its era raised by one, so whoever has heard of it recognises the old one as old. When
    anything fails the source is as it was, and the target is empty again.

    Args:
        to: where the target is, as people read it.

    Raises:
        FailedPrecondition: the source is in use or was moved, or the target isn't empty.
        DataLoss: the source doesn't agree with itself, or the copy with the source.
        HytheError: as the bodies say.
    """
    target.check_empty()
    head = source.hold(to)
    try:
        wanted = replace(head, era=head.era + 1)
        target.fill(wanted, source.entries())
        copied = _compared(source, target, wanted)
        source.finish(to)
    except BaseException:
        _each(target.clear, source.release)
        raise
    return copied


def _compared(source: Source, target: Target, wanted: Head) -> Copied:
    if target.head() != wanted:
        raise DataLoss("copy metadata store: the copy says that it is another one", cause=repr(target.head()))
    counts = {RecordEntry: 0, NumberEntry: 0, OutgoingEvent: 0}
    for expected, found in itertools.zip_longest(source.entries(), target.entries()):
        if expected != found:
            raise DataLoss(
                "copy metadata store: the copy differs from what was copied",
                cause=f"expected {_shown(expected)}, found {_shown(found)}",
                next_step="nothing was moved; check the target's disk and memory, then copy again",
            )
        counts[type(expected)] += 1
    return Copied(wanted, counts[RecordEntry], counts[NumberEntry], counts[OutgoingEvent])


def _shown(entry: object) -> str:
    return f"{type(entry).__name__} {entry!r}"[:200] if entry is not None else "nothing"


def _each(*acts: Callable[[], None]) -> None:
    """Do everything, whatever fails; the first failure is raised at the end."""
    failed: list[BaseException] = []
    for act in acts:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - the others must be undone too
            failed.append(error)
    if failed:
        raise failed[0]
