"""How far the sending of blobs is, told from threads to whoever follows in the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hythe.digest import Digest
from hythe.oci import Descriptor

REPORT_INTERVAL_S = 0.1

SendState = Literal["waiting", "checking", "pushing", "pushed", "mounted", "exists"]


@dataclass(frozen=True, slots=True)
class SendProgress:
    """Where one blob of a push or copy stands."""

    digest: Digest
    state: SendState
    done_bytes: int
    total_bytes: int


SendWatch = Callable[[SendProgress], None]


class Teller:
    """Tells the watch of one blob each change of state, and bytes at most ten times a second; callable from any thread."""

    def __init__(self, descriptor: Descriptor, watch: SendWatch) -> None:
        """Tell `watch` in the running event loop."""
        self._descriptor = descriptor
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._state: SendState = "waiting"
        self._told_at = 0.0

    def tell(self, state: SendState, done_bytes: int) -> None:
        """Say how far the blob is."""
        now = time.monotonic()
        if state == self._state and now - self._told_at < REPORT_INTERVAL_S:
            return
        self._state, self._told_at = state, now
        progress = SendProgress(self._descriptor.digest, state, done_bytes, self._descriptor.size_bytes)
        self._loop.call_soon_threadsafe(self._watch, progress)
