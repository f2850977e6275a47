"""How what comes out of an archive goes into the content store: under names of its own, and wholly or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hythe.digest import Digest
from hythe.errors import NotFound
from hythe.identifiers import new_id
from hythe.ports.content import Content, Ingest
from hythe_distribution.documents import read_document

INGEST_PREFIX = "archive-"
"""How the names of all ingests here begin; nobody takes up again one that a predecessor left."""


def ingest_reference(what: str) -> str:
    """Return a name for an ingest that no other has; `what` tells people what comes in."""
    return f"{INGEST_PREFIX}{new_id()}-{what[:100]}"


def stored_document(content: Content, digest: Digest) -> bytes:
    """Return a document that was in the store a moment ago.

    Raises:
        NotFound: somebody deleted it meanwhile (details ``kind=blob``).
        InvalidArgument, DataLoss: see `read_document`.
    """
    raw = read_document(content, digest)
    if raw is None:
        raise NotFound(f"read {digest}: it was deleted meanwhile", details={"kind": "blob"})
    return raw


@contextmanager
def storing(content: Content, what: str, total_bytes: int) -> Iterator[Ingest]:
    """Open an ingest for a block that commits it; when the block raises, nothing of it is left.

    Raises:
        HytheError: see `Content.open_ingest`.
    """
    with content.open_ingest(ingest_reference(what), total_bytes=total_bytes) as ingest:
        try:
            yield ingest
        except BaseException:
            ingest.abort()
            raise
