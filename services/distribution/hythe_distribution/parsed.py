"""Documents of the store in parsed form, remembered: a digest means the same bytes for ever."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from hythe.digest import Digest
from hythe.errors import InvalidArgument
from hythe.oci import ImageConfig, Index, Manifest, parse_config, parse_document
from hythe.ports.content import Content
from hythe_distribution.documents import read_document

BUDGET_BYTES = 16 << 20
"""Most bytes of documents that are remembered; parsed they take about three times as much. Enough for 1,000 images."""
ENTRY_BYTES = 512
"""What a remembered document costs at least, so that their number is bounded, too."""

_Parsed = Manifest | Index | ImageConfig | InvalidArgument
T = TypeVar("T", bound=Manifest | Index | ImageConfig)


class Documents:
    """Reads and parses each document once, as long as it is remembered; for any number of threads.

    That it is remembered says nothing of whether it is still in the store: ask a `Presence` for that.
    """

    def __init__(self, content: Content, budget_bytes: int = BUDGET_BYTES) -> None:
        """Read from `content`, and forget what was not asked for longest beyond `budget_bytes`."""
        self._content = content
        self._budget_bytes = budget_bytes
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[Digest, str], tuple[_Parsed, int]] = OrderedDict()
        self._used_bytes = 0

    def manifest(self, digest: Digest, media_type: str = "") -> Manifest | Index | None:
        """Return the manifest or index of that digest; None where it is neither remembered nor in the store.

        Args:
            media_type: type under which a descriptor offers it; empty when unknown.

        Raises:
            InvalidArgument: it is broken, ambiguous, too large or of another type.
            DataLoss: the disk has changed it.
        """
        return self._get(digest, f"manifest {media_type}", lambda raw: parse_document(raw, media_type))

    def config(self, digest: Digest) -> ImageConfig | None:
        """Return the image config of that digest; None where it is neither remembered nor in the store.

        Raises:
            InvalidArgument: it is broken or too large.
            DataLoss: the disk has changed it.
        """
        return self._get(digest, "config", parse_config)

    def _get(self, digest: Digest, kind: str, parse: Callable[[bytes], T]) -> T | None:
        with self._lock:
            known = self._known.get((digest, kind))
            if known is not None:
                self._known.move_to_end((digest, kind))
        if known is None:
            raw = read_document(self._content, digest)
            if raw is None:
                return None
            known = self._remember((digest, kind), _parsed(raw, parse), len(raw))
        if isinstance(known[0], InvalidArgument):
            raise InvalidArgument(known[0].message, cause=known[0].cause, next_step=known[0].next_step)
        return known[0]  # type: ignore[return-value]  # the kind in the key tells which parser made it

    def _remember(self, key: tuple[Digest, str], parsed: _Parsed, size_bytes: int) -> tuple[_Parsed, int]:
        entry = (parsed, size_bytes + ENTRY_BYTES)
        with self._lock:
            if key not in self._known:
                self._known[key] = entry
                self._used_bytes += entry[1]
            while self._used_bytes > self._budget_bytes:
                self._used_bytes -= self._known.popitem(last=False)[1][1]
        return entry


def _parsed(raw: bytes, parse: Callable[[bytes], T]) -> T | InvalidArgument:
    """What is hostile today is so tomorrow: parsing it again each time would be what a stranger makes us do."""
    try:
        return parse(raw)
    except InvalidArgument as error:
        return error.with_traceback(None)
