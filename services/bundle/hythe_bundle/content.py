"""The content port as unpacking sees it: blobs of an image, brought to this host by distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from hythe.digest import Digest
from hythe.oci import Descriptor

LayerState = Literal["waiting", "fetching", "verifying", "fetched", "unpacking", "unpacked", "exists"]


@dataclass(frozen=True, slots=True)
class LayerReport:
    """Where one layer stands; `done_bytes` of `total_bytes` counts the work of `state`."""

    digest: Digest
    state: LayerState
    done_bytes: int = 0
    total_bytes: int = 0


Report = Callable[[LayerReport], None]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the blobs of an image can be had from.

    Attributes:
        namespace: whose request this is.
        reference: normalised image reference; its repository is asked.
        plain_http: whether the registry may be spoken to without TLS.
    """

    namespace: str
    reference: str
    plain_http: bool


class Blobs(Protocol):
    """Blobs of images on this host.

    Both raise what distribution says: NotFound, DataLoss, ResourceExhausted, Unavailable (also when distribution is
    away) and others of the closed set.
    """

    async def open(self, origin: Origin, blob: Descriptor, report: Report) -> int:
        """Return a descriptor, open at the start of a whole and verified blob; the caller closes it.

        Args:
            report: told how the download goes, if there is one.
        """

    async def read_document(self, origin: Origin, digest: Digest, descriptor: Descriptor | None = None) -> bytes:
        """Return a manifest, index or config whole, its digest verified once more.

        Args:
            descriptor: what points to it; None for a root that is known by its digest alone.

        Raises:
            InvalidArgument: it is larger than 4 MiB.
        """
