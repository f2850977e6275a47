"""Which metadata store may delete here: what is known of it stands beside the blobs, and outlives this process."""

from __future__ import annotations

import threading

from hythe import gc_trust
from hythe.gc_trust import StoreMark, Trust
from hythe_distribution.ledger import TrustPlace


class Trustee:
    """Keeps it; safe for several threads. Every call may block, and raise what `TrustPlace` says."""

    def __init__(self, place: TrustPlace) -> None:
        self._place = place
        self._lock = threading.Lock()

    def hear(self, mark: StoreMark) -> str:
        """Return why the store may not delete, empty where it may; how far it is, is kept before this returns.

        Raises:
            DataLoss: what was kept isn't understood.
        """
        with self._lock:
            text = self._place.load()
            before = gc_trust.from_text(text) if text else Trust(virgin=self._place.virgin())
            verdict = gc_trust.judge(before, mark)
            if verdict.trust != before:
                self._place.save(gc_trust.to_text(verdict.trust))
            return verdict.reason

    def confirm(self, mark: StoreMark) -> None:
        """Let a store delete from now on, as somebody who knows has said; another that did before may no longer."""
        with self._lock:
            self._place.save(gc_trust.to_text(gc_trust.confirmed(mark)))

    def shared(self) -> str:
        """Return the id of a store that several hosts share; empty for one of this host alone."""
        return self._place.shared()
