"""Which metadata store may delete here: what is known of it stands beside the blobs, and outlives this process."""

from __future__ import annotations

import asyncio
import logging
import threading

from hythe import gc_trust
from hythe.errors import HytheError
from hythe.gc_trust import StoreMark, Trust
from hythe_distribution.ledger import TrustPlace
from hythe_distribution.workers import Workers

log = logging.getLogger(__name__)


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
            before = self._known()
            verdict = gc_trust.judge(before, mark)
            if verdict.trust != before:
                self._place.save(gc_trust.to_text(verdict.trust))
            return verdict.reason

    def confirm(self, mark: StoreMark) -> None:
        """Let a store delete from now on, as somebody who knows has said; another that did before may no longer."""
        with self._lock:
            self._place.save(gc_trust.to_text(gc_trust.confirmed(mark)))

    def note(self, mark: StoreMark) -> None:
        """Note how far the store is that keeps leases (`gc_trust.heard`); of a shared store only its collections tell.

        Raises:
            DataLoss: what was kept isn't understood.
        """
        if self._place.shared():
            return
        with self._lock:
            before = self._known()
            after = gc_trust.heard(before, mark)
            if after != before:
                self._place.save(gc_trust.to_text(after))

    def _known(self) -> Trust:
        text = self._place.load()
        return gc_trust.from_text(text) if text else Trust(virgin=self._place.virgin())

    def shared(self) -> str:
        """Return the id of a store that several hosts share; empty for one of this host alone."""
        return self._place.shared()


class Hearing:
    """Has a `Trustee` note how far the store is, without holding up whoever was told; for the event loop's thread."""

    def __init__(self, trustee: Trustee, workers: Workers) -> None:
        self._trustee = trustee
        self._workers = workers
        self._latest: StoreMark | None = None
        self._noting: asyncio.Task[None] | None = None

    def hear(self, mark: StoreMark) -> None:
        """Have a mark noted soon."""
        self._latest = mark
        if self._noting is None or self._noting.done():
            self._noting = asyncio.get_running_loop().create_task(self._note(), name="note-store")

    async def _note(self) -> None:
        while (mark := self._latest) is not None:
            self._latest = None
            try:
                await self._workers.run(None, self._trustee.note, mark)
            except HytheError as error:
                log.warning("how far the metadata store is could not be noted", extra={"cause": error.whole})
