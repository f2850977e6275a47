"""skopeo's ``dir:`` directory as an archive: one ``manifest.json`` that is the manifest, and blobs named by their digest."""

from __future__ import annotations

from hythe.oci import parse_document
from hythe.ports.content import Content
from hythe_distribution.archive.docker import LIST_FILE
from hythe_distribution.archive.intake import Holdings, StoredBlob
from hythe_distribution.archive.roots import Root
from hythe_distribution.documents import keep_document


def is_directory(holdings: Holdings) -> bool:
    """Tell whether an archive has one manifest or index in place of a list."""
    return holdings.documents.get(LIST_FILE, b"").lstrip()[:1] == b"{"


def directory_roots(holdings: Holdings, content: Content) -> tuple[Root, ...]:
    """Return the one image, which has no name; its manifest is stored and added to `holdings`.

    Raises:
        InvalidArgument: the manifest is broken.
        HytheError: see `Content.open_ingest` and `Ingest.write`.
    """
    document = parse_document(holdings.documents[LIST_FILE])
    digest = keep_document(content, document.raw)
    holdings.blobs[f"blobs/sha256/{digest.hex}"] = StoredBlob(digest, len(document.raw))
    return (Root(document.descriptor),)
