"""Requests that come twice: their answers are kept with their effect, in one transaction (ARCHITECTURE §3)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from hythe.ports.metadata import Origin
from hythe_metadata.changes import REQUEST_MEMORY_S, Answered, repeated
from hythe_metadata.records import NO_NAMESPACE, Key, Transaction, Work

T = TypeVar("T")


def once(
    origin: Origin, kind: str, body_hash: str, encode: Callable[[T], str], decode: Callable[[str], T], work: Work[T]
) -> Work[T]:
    """Return `work` made so that a repetition of its request only gets the answer of the first, for 24 h.

    Args:
        kind: what is asked for, e.g. ``image.put``.
        body_hash: tells requests of one kind apart (`hythe_metadata.changes.body_hash`).
        encode: gives an answer as text, from which `decode` makes it again.

    Raises:
        Conflict: (of the work) the request id came before with another content.
        HytheError: whatever `work` raises; nothing is kept then, for nothing was done.
    """
    if not origin.request_id:
        return work
    key = Key("request", NO_NAMESPACE, f"{origin.namespace} {origin.caller} {origin.request_id}")

    def kept(transaction: Transaction) -> T:
        found = transaction.get(key)
        answered = Answered(*json.loads(found.body)) if found else None
        text = repeated(answered, kind, body_hash)
        if text is not None:
            return decode(text)
        answer = work(transaction)
        body = json.dumps([kind, body_hash, encode(answer)], separators=(",", ":"))
        transaction.put(key, body, keep_s=REQUEST_MEMORY_S)
        return answer

    return kept
