"""The registry port: what fetching and sending need from a registry, whatever it is spoken over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol

from hythe.digest import Digest
from hythe.oci import Descriptor
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Source

PushOutcome = Literal["exists", "mounted", "pushed"]


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index as a registry sent it, not yet parsed. `digest` is that of `raw`."""

    raw: bytes
    media_type: str
    digest: Digest


class Body(Protocol):
    """The bytes of one blob on their way; leaving its ``with`` block gives the connection back or up.

    Attributes:
        offset: where in the blob its first byte lies: what was asked for, or 0 where the server knows no ranges.
        ranged: the server answered with a range, so further ranges can be asked for beside this one.
    """

    offset: int
    ranged: bool

    def readinto(self, buffer: memoryview) -> int:
        """Fill the front of `buffer` with what has come, waiting for at least one byte; 0 at the end.

        Raises:
            Unavailable: the connection broke, or too few bytes came for the stall time.
        """

    def __enter__(self) -> Body:
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it."""


class Registry(Protocol):
    """Speaking with registries. Every call blocks: make it in a thread; a `Cancellation` wakes it up.

    A call tries the hosts of its registry in order (mirrors first), and repeats what may be repeated. All raise, beside
    what each names: Unavailable (cannot be reached, broke, stalled, its own fault), Unauthenticated, PermissionDenied (it
    refuses, or leads somewhere it may not), ResourceExhausted (too many requests).
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

    def open(
        self,
        source: Source,
        descriptor: Descriptor,
        cancellation: Cancellation,
        *,
        offset: int = 0,
        length: int | None = None,
    ) -> Body:
        """Begin to read a blob, or a manifest when the descriptor's type says so.

        Args:
            offset: first byte wanted; see `Body.offset` for what comes.
            length: bytes wanted; None for all to the end. A server that knows no ranges sends all.

        Raises:
            NotFound: the registry has no such blob (details ``kind=blob``).
            DataLoss: the registry offers another size or digest than the descriptor's; raised before the first byte.
            InvalidArgument: a manifest is offered as another type than the descriptor's.
        """

    def open_foreign(self, descriptor: Descriptor, cancellation: Cancellation, *, offset: int = 0) -> Body:
        """Begin to read a foreign layer from one of its ``urls``, without any credentials.

        Raises:
            NotFound: none of its URLs has it (details ``kind=blob``).
            PermissionDenied: its URLs lead where a stranger may not lead us.
        """

    def push_blob(
        self,
        source: Source,
        descriptor: Descriptor,
        read: Callable[[int], Iterator[bytes]],
        mount_from: Sequence[str],
        cancellation: Cancellation,
        report: Callable[[int], None],
    ) -> PushOutcome:
        """Make sure that the registry has a blob: look, else mount, else send it in chunks, going on after a break.

        Args:
            read: gives the blob's bytes from an offset on.
            mount_from: repositories of the same registry that may have it.
            report: told how many bytes the registry has taken.

        Raises:
            DataLoss: the registry says that other bytes arrived.

        Spec: OCI distribution-spec, "Pushing blobs", "Mounting a blob from another repository".
        """

    def push_manifest(
        self,
        source: Source,
        version: str,
        raw: bytes,
        media_type: str,
        subject: Digest | None,
        cancellation: Cancellation,
    ) -> None:
        """Put a manifest or index whose children are there under a tag or its digest.

        Args:
            subject: manifest that it is about; where the registry has no referrers API, its referrers tag is brought up to
                date as well.

        Raises:
            InvalidArgument: the registry refuses the document.
            DataLoss: the registry says that it stored another digest.

        Spec: OCI distribution-spec, "Pushing manifests", "Pushing manifests with subject".
        """

    def referrers(
        self, source: Source, digest: Digest, artifact_type: str, cancellation: Cancellation
    ) -> tuple[Descriptor, ...]:
        """Return the manifests that say they are about `digest`: by the referrers API, else by the tag ``sha256-<hex>``.

        Args:
            artifact_type: only those of this type; empty for all.

        Spec: OCI distribution-spec, "Listing Referrers", "Unavailable Referrers API".
        """

    def login(self, host: str, plain_http: bool, username: str, password: str, cancellation: Cancellation) -> str:
        """Return if the registry takes these credentials; gives a refresh token to keep in their place, or nothing.

        Raises:
            Unauthenticated: it does not take them.
        """

    def forget(self, host: str) -> None:
        """Ask for a login anew with the next request to a registry, for the one that is kept was changed or removed."""
