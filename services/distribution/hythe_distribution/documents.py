"""Manifests, indexes and configs in the content store: small blobs that are read whole and never believed unread."""

from __future__ import annotations

from hythe.digest import Digest, digest_of, verified
from hythe.errors import InvalidArgument, NotFound
from hythe.identifiers import new_id
from hythe.oci.fields import MAX_DOCUMENT_BYTES
from hythe.ports.content import Content

_INGEST_PREFIX = "document-"


def read_document(content: Content, digest: Digest) -> bytes | None:
    """Return a document from the store, verified again; None if it isn't there.

    Raises:
        InvalidArgument: it is larger than 4 MiB and so no document.
        DataLoss: the disk has changed it.
    """
    try:
        size_bytes = content.info(digest).size_bytes
        if size_bytes > MAX_DOCUMENT_BYTES:
            raise InvalidArgument(f"read {digest}: {size_bytes} bytes are more than a document may have")
        return b"".join(verified(content.read(digest), digest, size_bytes, str(digest)))
    except NotFound:
        return None


def keep_document(content: Content, raw: bytes) -> Digest:
    """Put a document into the store, durably, unless it is there, and return its digest.

    Raises:
        ResourceExhausted, FailedPrecondition: the store cannot take it in.
    """
    digest = digest_of(raw)
    if not has_blob(content, digest):
        with content.open_ingest(f"{_INGEST_PREFIX}{digest}-{new_id()}", total_bytes=len(raw)) as ingest:
            ingest.write(raw)
            ingest.commit(digest, len(raw))
    return digest


def drop_unfinished(content: Content, *prefixes: str) -> None:
    """Remove what a predecessor had not finished of documents, and of ingests whose names begin with one of `prefixes`.

    To be called before any is begun. They are under names that nobody takes up again, other than the layers that a later
    pull goes on with.
    """
    for status in list(content.ingests()):
        if status.reference.startswith((_INGEST_PREFIX, *prefixes)):
            content.abort(status.reference)


def has_blob(content: Content, digest: Digest) -> bool:
    """Tell whether the store has a blob."""
    try:
        content.info(digest)
    except NotFound:
        return False
    return True
