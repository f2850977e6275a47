"""Which metadata store may have things deleted at an owner of content or snapshots: a decision that outlives the owner's process.

An owner keeps a `Trust` durably, has each ``gc.begin`` judged, and keeps what comes of it before it answers. So a store that is
new, was restored from a copy, or was put back to an older state deletes nothing until somebody has said that it may.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from hythe.errors import DataLoss

UNKNOWN = "unknown store"
RESTORED = "restored store"
OLDER = "older store"


@dataclass(frozen=True, slots=True)
class StoreMark:
    """Which store speaks, and how far it is; see `hythe.wire.gc.StoreMark`.

    Attributes:
        process: the metadata process that begins a collection.
    """

    store_id: str
    era: int
    revision: int = 0
    generation: int = 0
    process: str = ""


@dataclass(frozen=True, slots=True)
class Trust:
    """What an owner knows of the store that it belongs to.

    Attributes:
        virgin: the owner's own database was just made, with nothing in it: the first store that it hears is its own.
        known: how far the trusted store was when it was heard last; None before there is one.
        suspicion: why the trusted store isn't trusted any more; empty as long as it is.
        revision, generation: how far it was when it was heard last between collections.
    """

    virgin: bool = False
    known: StoreMark | None = None
    suspicion: str = ""
    revision: int = 0
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known after hearing a store, to be kept before anything is answered, and why it may not delete; empty if it may."""

    trust: Trust
    reason: str = ""


def judge(trust: Trust, mark: StoreMark) -> Verdict:
    """Decide whether a store may delete.

    A store that went back (a lower era, revision or generation, or one generation begun twice) stays suspicious, also when its
    numbers have caught up: what it forgot meanwhile it would collect. Only `confirmed` ends that.
    """
    known = trust.known
    if known is None:
        return Verdict(Trust(known=mark)) if trust.virgin else Verdict(trust, UNKNOWN)
    if mark.store_id != known.store_id:
        return Verdict(trust, UNKNOWN)
    if mark.era > known.era:
        return Verdict(trust, RESTORED)
    if trust.suspicion:
        return Verdict(trust, trust.suspicion)
    if _went_back(trust, known, mark):
        return Verdict(replace(trust, suspicion=OLDER), OLDER)
    return Verdict(replace(trust, known=mark))


def _went_back(trust: Trust, known: StoreMark, mark: StoreMark) -> bool:
    if mark.era < known.era or mark.revision < known.revision or mark.generation < known.generation:
        return True
    if mark.generation == known.generation and mark != known:
        return True
    return trust.generation < mark.generation and trust.revision > mark.revision


def heard(trust: Trust, mark: StoreMark) -> Trust:
    """Return what is known after a store has answered something else than a collection: that its own is at least so far.

    A copy of it from before that has a lower revision when its next collection begins, however few collections there were.
    Answers may overtake each other and a begin, so nothing makes suspicious here.
    """
    known = trust.known
    if known is None:
        if not trust.virgin:
            return trust
        known = StoreMark(mark.store_id, mark.era)
    if (mark.store_id, mark.era) != (known.store_id, known.era) or mark.revision <= trust.revision:
        return trust
    return replace(trust, virgin=False, known=known, revision=mark.revision, generation=mark.generation)


def confirmed(mark: StoreMark) -> Trust:
    """Return what is known after somebody said that this store may delete, whatever was known before."""
    return Trust(known=mark)


def to_text(trust: Trust) -> str:
    """Return what is known as JSON text."""
    mark = trust.known
    known = None
    if mark is not None:
        known = [mark.store_id, mark.era, mark.revision, mark.generation, mark.process]
    values = {"virgin": trust.virgin, "known": known, "suspicion": trust.suspicion}
    values |= {"heard": [trust.revision, trust.generation]}
    return json.dumps(values, separators=(",", ":"))


def from_text(text: str) -> Trust:
    """Return what `to_text` wrote.

    Raises:
        DataLoss: it is something else.
    """
    try:
        fields = json.loads(text)
        known = fields["known"]
        if known is not None:
            store_id, era, revision, generation, process = known
            known = StoreMark(str(store_id), int(era), int(revision), int(generation), str(process))
        revision, generation = fields["heard"]
        return Trust(bool(fields["virgin"]), known, str(fields["suspicion"]), int(revision), int(generation))
    except (ValueError, TypeError, LookupError) as error:
        raise DataLoss(
            "read which metadata store may delete here: not understood",
            cause=repr(error),
            next_step="`hythe gc --confirm` says it anew",
        ) from error
