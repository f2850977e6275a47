"""Which blobs the content store has: asked for one by one, or seen at one look over all of them."""

from __future__ import annotations

from collections.abc import Callable

from hythe.digest import Digest
from hythe.errors import NotFound
from hythe.ports.content import Content

Presence = Callable[[Digest], int | None]
"""Returns the size of a blob in bytes, None where it isn't here. Good for one request: what it has said it says again."""


def asked(content: Content) -> Presence:
    """Return a presence that asks the store for each blob: for a few images."""
    known: dict[Digest, int | None] = {}

    def size_of(digest: Digest) -> int | None:
        if digest not in known:
            try:
                known[digest] = content.info(digest).size_bytes
            except NotFound:
                known[digest] = None
        return known[digest]

    return size_of


def seen(content: Content) -> Presence:
    """Return a presence that looks over the store once, now: for many images, where each question may be a round trip."""
    return sizes(content).get


def sizes(content: Content) -> dict[Digest, int]:
    """Return the size in bytes of every blob."""
    return {blob.digest: blob.size_bytes for blob in content.walk()}
