"""The registry port: what fetching needs from a registry, whatever it is spoken over."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from hythe.digest import Digest
from hythe.oci import Descriptor
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Source


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index as a registry sent it, not yet parsed. `digest` is that of `raw`."""

    raw: bytes
    media_type: str
    digest: Digest


class Body(Protocol):
    """The bytes of one blob on their way; leaving its ``with`` block gives the connection back or up."""

    def readinto(self, buffer: memoryview) -> int:
        """Fill the front of `buffer` with what has come, waiting for at least one byte; 0 at the end.

        Raises:
            Unavailable: the connection broke, or nothing came for the stall time.
        """

    def __enter__(self) -> Body:
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it."""


class Registry(Protocol):
    """Reading from registries. Every call blocks: make it in a thread; a `Cancellation` wakes it up.

    All raise, beside what each names: Unavailable (cannot be reached, broke, stalled, its own fault), Unauthenticated,
    PermissionDenied (it refuses, or leads somewhere it may not), ResourceExhausted (too many requests).
    """

    def head(self, source: Source, version: str, cancellation: Cancellation) -> Descriptor | None:
        """Return what `version` points to now, without its bytes.

        Args:
            version: a tag or digest.

        Returns:
            None when the registry doesn't say all of digest, size and type: ask for the `manifest` then.
        """

    def manifest(self, source: Source, version: str, cancellation: Cancellation) -> Document:
        """Return the manifest or index that `version` points to, at most 4 MiB.

        Raises:
            NotFound: the registry has no such image (details ``kind=image``).
            DataLoss: the bytes are not those of the digest that was asked for or that the registry says they have.
            InvalidArgument: it is larger than 4 MiB.
        """

    def open(self, source: Source, descriptor: Descriptor, cancellation: Cancellation) -> Body:
        """Begin to read a blob, or a manifest when the descriptor's type says so.

        Raises:
            NotFound: the registry has no such blob (details ``kind=blob``).
            DataLoss: the registry offers another size or digest than the descriptor's; raised before the first byte.
            InvalidArgument: a manifest is offered as another type than the descriptor's.
        """
