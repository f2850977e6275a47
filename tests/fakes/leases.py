"""Leases in memory, and a log of what was referred to, renewed and ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from hythe.digest import Digest
from hythe.errors import NotFound, Unavailable
from hythe.holding import Held, Holder
from hythe.ports.leases import Referred


class MemoryLeases:
    """A body of `hythe.ports.leases.Leases`.

    Attributes:
        held: labels of what each lease keeps, by namespace and lease.
        log: what was done, as ``refer``, ``renew``, ``remove`` or ``end with name``, oldest first.
        away: metadata is not running; `refused` counts who asked it all the same.
        on_refer: called before a reference is acknowledged, with what is referred to.
    """

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], dict[Digest, Mapping[str, str]]] = {}
        self.log: list[str] = []
        self.away, self.refused = False, 0
        self.on_refer: Callable[[Sequence[Referred]], None] = lambda contents: None

    def keeps(self, digest: Digest) -> bool:
        """Tell whether some lease keeps a blob: it is named, or the labels of what is kept name it."""
        return any(self._reaches(kept, digest) for kept in tuple(self.held.values()))

    def lose(self) -> None:
        """Have all leases run out."""
        self.held.clear()

    def end_with_name(self, namespace: str, lease: str) -> None:
        """End a lease in the transaction that names an image."""
        self.log.append("end with name")
        self.held.pop((namespace, lease), None)

    async def refer(self, namespace: str, lease: str, duration_s: float, contents: Sequence[Referred]) -> None:
        """See `Leases.refer`."""
        await self._answer("refer")
        self.on_refer(contents)
        kept = self.held.setdefault((namespace, lease), {})
        kept.update((each.digest, {**kept.get(each.digest, {}), **each.labels}) for each in contents)

    async def renew(self, namespace: str, lease: str) -> None:
        """See `Leases.renew`."""
        await self._answer("renew")
        if (namespace, lease) not in self.held:
            raise NotFound(f"renew lease {lease}: there is none", details={"kind": "lease"})

    async def remove(self, namespace: str, lease: str) -> None:
        """See `Leases.remove`."""
        await self._answer("remove")
        self.held.pop((namespace, lease), None)

    async def _answer(self, what: str) -> None:
        await asyncio.sleep(0)
        if self.away:
            self.refused += 1
            raise Unavailable(f"ask metadata to {what}: metadata is not running", service="metadata")
        self.log.append(what)

    @staticmethod
    def _reaches(kept: Mapping[Digest, Mapping[str, str]], wanted: Digest) -> bool:
        return wanted in kept or any(str(wanted) in labels.values() for labels in tuple(kept.values()))


def a_hold(leases: MemoryLeases | None = None, lease: str = "test") -> Held:
    """Return a hold of the namespace ``default``, for a test that asks nothing of it."""
    return Holder(leases or MemoryLeases()).open("default", lease)
