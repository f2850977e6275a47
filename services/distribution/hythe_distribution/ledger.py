"""What this process keeps beside the records: its events until they are sent, and facts that outlive it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hythe.ports.events import EventSource


class Ledger(EventSource, Protocol):
    """Bodies: the SQLite file of the records, or for S3 one of this host; memory. Facts may block."""

    @property
    def id(self) -> str:
        """Id of this ledger, made with it; no other has it."""

    def fact(self, name: str) -> str:
        """Return what was noted under `name`, empty if nothing was."""

    def note(self, name: str, value: str) -> None:
        """Note a fact, durable when this returns."""

    def on_change(self, callback: Callable[[], object]) -> None:
        """Have `callback` called when there may be new events, in any thread."""


class TrustPlace(Protocol):
    """Where it is kept which metadata store may delete here: beside the blobs, for all who use them. Every call may block.

    All may raise Unavailable and the other errors of `hythe_distribution.records.Records`.
    """

    def shared(self) -> str:
        """Return the id of a store that several hosts share; empty for one of this host alone."""

    def virgin(self) -> bool:
        """Tell whether the store began, under this feature, without a blob."""

    def load(self) -> str:
        """Return the text that was saved last; empty if none was."""

    def save(self, text: str) -> None:
        """Keep a text, durable when this returns."""
