"""Where the bytes of a blob come from for a reader outside: the store's file, the store itself, or a download on its way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from hythe.digest import Digest
from hythe.errors import NotFound, Unimplemented
from hythe.ports.content import MAX_CHUNK_BYTES, Content


class Follower(Protocol):
    """A reader of a download in progress; see `hythe_distribution.fetcher.Fetcher.follow`."""

    @property
    def total_bytes(self) -> int:
        """Size that the blob is promised to have."""

    def read(self, most_bytes: int) -> bytes:
        """Return the next bytes, waiting for at least one; empty only at the verified end."""

    def close(self) -> None:
        """Stop waiting for the download."""


class InFlight(Protocol):
    """Downloads in progress."""

    def follow(self, digest: Digest, offset: int = 0) -> Follower | None:
        """Return a reader of the download of `digest` from `offset` on, or None when there is no such download."""


@dataclass(frozen=True, slots=True)
class OpenBlob:
    """A blob open for reading; `fd` is -1 where there is no file, and then the bytes come from `read`."""

    size_bytes: int
    fd: int
    content: Content
    digest: Digest
    flights: InFlight

    def read(self, offset: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `offset` to `end`, as far as they are here following the download that brings them.

        Raises:
            HytheError: the download failed; what was read before must not be believed.
        """
        try:
            yield from self.content.read(self.digest, offset, end - offset)
            return
        except NotFound:
            follower = self.flights.follow(self.digest, offset)
        if follower is None:
            yield from self.content.read(self.digest, offset, end - offset)  # it has landed, or is gone, meanwhile
            return
        held = b""  # the last piece is handed out once the whole is verified: with it the reader believes all
        try:
            while offset < end and (chunk := follower.read(min(MAX_CHUNK_BYTES, end - offset))):
                offset += len(chunk)
                if held:
                    yield held
                held = chunk
            if end == self.size_bytes:
                follower.read(1)
            yield held
        finally:
            follower.close()


@contextmanager
def open_blob(content: Content, flights: InFlight, digest: Digest) -> Iterator[OpenBlob]:
    """Open a blob that is in the store or on its way into it.

    Raises:
        NotFound: it is neither (details ``kind=blob``).
    """
    try:
        size_bytes = content.info(digest).size_bytes
    except NotFound:
        follower = flights.follow(digest)
        if follower is None:
            size_bytes = content.info(digest).size_bytes  # it may have landed between the two questions
        else:
            size_bytes = follower.total_bytes
            follower.close()
    fd = _open_file(content, digest)
    try:
        yield OpenBlob(size_bytes, fd, content, digest, flights)
    finally:
        if fd >= 0:
            os.close(fd)


def _open_file(content: Content, digest: Digest) -> int:
    try:
        return os.open(content.locate(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (NotFound, Unimplemented, FileNotFoundError):
        return -1
