"""The port of leases, as one sees them who works under one: what is named to a lease isn't collected while it lasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hythe.digest import Digest


@dataclass(frozen=True, slots=True)
class Referred:
    """A blob that is about to be used or brought.

    Attributes:
        labels: the ``containerd.io/gc.*`` labels that it has or will have; what they name is kept with it.
    """

    digest: Digest
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


class Leases(Protocol):
    """Leases of all namespaces. Every method may raise Unavailable or DeadlineExceeded when their keeper is away."""

    async def refer(self, namespace: str, lease: str, duration_s: float, contents: Sequence[Referred]) -> None:
        """Have `lease` keep `contents`; it is made if there is none, else its duration starts anew. May be repeated."""

    async def renew(self, namespace: str, lease: str) -> None:
        """Let the duration of a lease start anew.

        Raises:
            NotFound: it is gone.
        """

    async def remove(self, namespace: str, lease: str) -> None:
        """End a lease; nothing happens if it is gone."""
