"""What is told of content: that a namespace sees a blob from now on, or that it doesn't any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hythe import asking, tracing
from hythe.clock import now_rfc3339
from hythe.digest import Digest

NOUN = "content"


@dataclass(frozen=True, slots=True)
class Happening:
    """An event of a blob that isn't numbered yet; the outbox numbers it. `attributes` as in containerd's message."""

    namespace: str
    digest: Digest
    past: str
    topic: str
    time: str
    caller: str
    request_id: str
    trace_id: str
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)


def created(namespace: str, digest: Digest, size_bytes: int) -> Happening:
    """Return the event of a blob that becomes visible in a namespace now."""
    return _now(namespace, digest, "created", "/content/create", {"digest": str(digest), "size": str(size_bytes)})


def deleted(namespace: str, digest: Digest) -> Happening:
    """Return the event of a blob that a namespace ceases to see now."""
    return _now(namespace, digest, "deleted", "/content/delete", {"digest": str(digest)})


def _now(namespace: str, digest: Digest, past: str, topic: str, attributes: Mapping[str, str]) -> Happening:
    asker = asking.current.get()
    return Happening(
        namespace,
        digest,
        past,
        topic,
        now_rfc3339(),
        asker.caller,
        asker.request_id,
        tracing.trace_id(),
        attributes,
    )
