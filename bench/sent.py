"""What a docker-registry has sent, by its access log."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_GET = re.compile(r'"GET /v2/[^" ]+/blobs/(sha256:[0-9a-f]{64}) HTTP/[\d.]+" (?:200|206) (\d+) ')
_SETTLE_S = 0.5
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent of one blob: in how many requests, of the whole or of a part, and bytes of all of them."""

    requests: int = 0
    size_bytes: int = 0


def sent(log: str) -> dict[str, Sent]:
    """Return what was sent of each blob by its digest, by lines of an access log; bytes of broken requests count, too."""
    found: dict[str, Sent] = {}
    for digest, size in _GET.findall(log):
        so_far = found.get(digest, Sent())
        found[digest] = Sent(so_far.requests + 1, so_far.size_bytes + int(size))
    return found


def sent_since(log: Path, offset: int, sizes: Mapping[str, int]) -> dict[str, Sent]:
    """Return what was sent of each blob of `sizes` since the log had `offset` bytes, once all of them were sent.

    A line is written when a request has ended: a moment after its last byte has arrived. So this waits half a second
    beyond the last blob, and at most ten seconds for one that does not come.
    """
    deadline = time.monotonic() + _PATIENCE_S
    settled = False
    while True:
        with log.open("rb") as file:
            file.seek(offset)
            found = sent(file.read().decode(errors="replace"))
        if settled or time.monotonic() > deadline:
            return {digest: found.get(digest, Sent()) for digest in sizes}
        settled = all(found.get(digest, Sent()).size_bytes >= size for digest, size in sizes.items())
        time.sleep(_SETTLE_S if settled else 0.05)
