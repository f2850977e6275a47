"""Content digests: parse, compute while streaming, compare."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hythe.errors import DataLoss, InvalidArgument

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
EMPTY_DIGEST = "sha256:" + hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class Digest:
    """A sha256 content digest. ``str()`` gives the wire form ``sha256:<64 hex digits>``."""

    hex: str

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


def parse_digest(text: str) -> Digest:
    """Return the digest that `text` spells.

    Raises:
        InvalidArgument: not ``sha256:`` and 64 lower-case hex digits; other algorithms are not supported.

    Spec: OCI image-spec, "Digests".
    """
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise InvalidArgument(f"parse digest {text[:100]!r}: expected sha256: and 64 lower-case hex digits")
    return Digest(match.group(1))


def digest_of(data: bytes) -> Digest:
    """Return the digest of `data`."""
    return Digest(hashlib.sha256(data).hexdigest())


def verified(chunks: Iterable[bytes], expected: Digest, size_bytes: int, what: str) -> Iterator[bytes]:
    """Pass `chunks` through, and raise in place of the end if they are not the blob that was promised.

    A consumer that saw the iterator end normally has seen exactly `size_bytes` bytes of digest `expected`.

    Raises:
        DataLoss: too many bytes (raised before passing the chunk on), too few, or another digest.
    """
    hasher = hashlib.sha256()
    seen = 0
    for chunk in chunks:
        seen += len(chunk)
        if seen > size_bytes:
            raise DataLoss(f"read {what}: expected {size_bytes} bytes, got more")
        hasher.update(chunk)
        yield chunk
    if seen != size_bytes:
        raise DataLoss(f"read {what}: expected {size_bytes} bytes, got {seen}")
    if hasher.hexdigest() != expected.hex:
        raise DataLoss(f"read {what}: expected {expected}, got sha256:{hasher.hexdigest()}")
