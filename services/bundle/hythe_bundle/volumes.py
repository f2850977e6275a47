"""How a container's volumes become mounts: the port between bundles and what keeps volumes on this host."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from hythe_bundle.wishes import MountWish, NamespaceWishes


@dataclass(frozen=True, slots=True)
class ResolvedMount:
    """A mount whose source is found, so that nothing but its place in the spec is left to decide.

    Attributes:
        source: absolute path of the host for ``bind``; empty for ``tmpfs``.
        target: absolute path in the container.
        options: in mount(8)'s spelling, e.g. ``ro``; ``rbind`` and ``rprivate`` are added for a bind that names none.
    """

    type: Literal["bind", "tmpfs"]
    source: str
    target: str
    options: tuple[str, ...] = ()


class VolumePlaces(Protocol):
    """Keeps the volumes of this host."""

    async def resolve(
        self,
        namespace: str,
        container_id: str,
        chain_id: str,
        wanted: Sequence[MountWish],
        of_image: Sequence[str],
        namespaces: NamespaceWishes,
    ) -> tuple[ResolvedMount, ...]:
        """Return a mount for each volume, made if it isn't there; repeating it answers the same.

        Args:
            chain_id: top snapshot of the image, whose files a new volume begins with; empty for one without layers.
            wanted: the request's mounts of type ``volume``.
            of_image: normalised paths that the image declares as volumes and the request mounts nothing at. A stranger
                chose them.
            namespaces: the container's; where it has users of its own, what is made for it belongs to them.

        Raises:
            InvalidArgument: a name breaks its rule, or there is no such volume and it may not be made.
            ResourceExhausted: the disk is full.
        """

    def names_of(self, container_id: str) -> list[str]:
        """Return the names of the volumes that were resolved for a container; its bundle's record keeps them."""

    async def release(self, container_id: str) -> None:
        """Note that a container's bundle is gone; volumes that go with containers go with the last that uses them.

        Nothing happens if it is released already.
        """

    async def abandon(self, container_id: str) -> None:
        """Release what was resolved for a container that comes to nothing, and remove the volumes that were made for it."""

    async def recover(self, used: Iterable[tuple[str, str, Sequence[str]]]) -> None:
        """Learn what is there; remove volumes that went with containers which have no bundle any more.

        Args:
            used: id, namespace and names of volumes of each container that has a bundle.
        """
