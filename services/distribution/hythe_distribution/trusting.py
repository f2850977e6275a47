"""Which metadata store may delete here: what is known of it stands beside the blobs, and outlives this process."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, replace

from hythe.errors import DataLoss
from hythe_distribution.ledger import TrustPlace

UNKNOWN = "unknown store"
RESTORED = "restored store"
OLDER = "older store"


@dataclass(frozen=True, slots=True)
class Mark:
    """Which store speaks, and how far it is."""

    store_id: str
    era: int
    revision: int
    generation: int


@dataclass(frozen=True, slots=True)
class Known:
    """The store that is trusted, as far as it was heard of. `suspicion`: it went back since; empty where it didn't."""

    mark: Mark
    suspicion: str = ""


def judge(known: Known | None, virgin: bool, mark: Mark) -> tuple[Known | None, str]:
    """Return what is known after hearing `mark`, and why that store may not delete; empty where it may.

    Args:
        virgin: the blobs began to be here under this feature: then the first store that is heard is theirs.
    """
    if known is None:
        return (Known(mark), "") if virgin else (None, UNKNOWN)
    if known.mark.store_id != mark.store_id:
        return known, UNKNOWN
    if known.mark.era != mark.era:
        return known, RESTORED
    if mark.revision < known.mark.revision or mark.generation < known.mark.generation:
        return replace(known, suspicion=known.suspicion or OLDER), known.suspicion or OLDER
    return (known, known.suspicion) if known.suspicion else (Known(mark), "")


class Trustee:
    """Keeps it; safe for several threads. Every call may block."""

    def __init__(self, place: TrustPlace) -> None:
        self._place = place
        self._lock = threading.Lock()

    def hear(self, mark: Mark) -> str:
        """Return why the store may not delete, empty where it may; how far it is, is kept before this returns.

        Raises:
            DataLoss: what was kept isn't understood.
            HytheError: see `TrustPlace`.
        """
        with self._lock:
            before = self._load()
            after, reason = judge(before, before is None and self._place.virgin(), mark)
            if after is not None and after != before:
                self._place.save(_text(after))
            return reason

    def confirm(self, mark: Mark) -> None:
        """Let a store delete from now on, as somebody who knows has said; another that did before may no longer."""
        with self._lock:
            self._place.save(_text(Known(mark)))

    def shared(self) -> str:
        """Return the id of a store that several hosts share; empty for one of this host alone."""
        return self._place.shared()

    def _load(self) -> Known | None:
        text = self._place.load()
        if not text:
            return None
        try:
            fields = json.loads(text)
            return Known(Mark(**fields["mark"]), str(fields["suspicion"]))
        except (ValueError, TypeError, LookupError) as error:
            raise DataLoss(
                "read which metadata store may collect content: it isn't understood",
                cause=repr(error),
                next_step="`hythe gc --confirm` says it anew",
            ) from error


def _text(known: Known) -> str:
    return json.dumps(asdict(known), separators=(",", ":"))
