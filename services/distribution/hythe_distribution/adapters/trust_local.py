"""Which metadata store may delete here, kept in the ledger of a store that is this host's alone."""

from __future__ import annotations

from hythe_distribution.ledger import Ledger


class LocalTrust:
    """A body of `hythe_distribution.ledger.TrustPlace`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def shared(self) -> str:
        """See `hythe_distribution.ledger.TrustPlace.shared`; it is shared with nobody."""
        return ""

    def virgin(self) -> bool:
        """See `hythe_distribution.ledger.TrustPlace.virgin`."""
        return self._ledger.fact("virgin") == "1"

    def load(self) -> str:
        """See `hythe_distribution.ledger.TrustPlace.load`."""
        return self._ledger.fact("trust")

    def save(self, text: str) -> None:
        """See `hythe_distribution.ledger.TrustPlace.save`."""
        self._ledger.note("trust", text)
