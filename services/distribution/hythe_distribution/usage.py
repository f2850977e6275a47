"""How many bytes of content images take: each alone, all together, and what nobody needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from hythe.digest import Digest
from hythe.errors import NotFound
from hythe.ports.content import Content
from hythe_distribution.images import Image, choose
from hythe_distribution.names import NamedImage, Naming, by_root, lasting
from hythe_distribution.presence import sizes
from hythe_distribution.reader import ImageReader
from hythe_distribution.workers import Workers


@dataclass(frozen=True, slots=True)
class RootUsage:
    """One image of a namespace. All bytes are of blobs that are here.

    Attributes:
        references: its names; that of a dangling image is its dangling one.
        id: digest of its config; None when unknown.
        shared_bytes: of blobs that another image of the namespace has, too.
        containers: how many were made from it.
    """

    references: tuple[str, ...]
    root: Digest
    id: Digest | None
    size_bytes: int
    shared_bytes: int
    blobs: int
    containers: int

    @property
    def unique_bytes(self) -> int:
        """Bytes that no other image of the namespace has."""
        return self.size_bytes - self.shared_bytes


@dataclass(frozen=True, slots=True)
class Usage:
    """All images of a namespace; each blob counts once.

    Attributes:
        reclaimable_bytes: what forgetting every image that no container uses would leave without any image.
        unreferenced_bytes: of blobs in the store that no image of any namespace has.
    """

    images: tuple[RootUsage, ...]
    total_bytes: int
    reclaimable_bytes: int
    unreferenced_bytes: int


@dataclass(frozen=True, slots=True)
class Holdings:
    """The images of one namespace as far as they are here, and what else needs their blobs.

    Attributes:
        names: of each root, in the order of the names.
        elsewhere: blobs that images of other namespaces have.
    """

    names: Mapping[Digest, tuple[NamedImage, ...]]
    images: Mapping[Digest, Image]
    elsewhere: frozenset[Digest]

    def freed_by(self, forgotten: Collection[Digest]) -> int:
        """Return the bytes that no image of any namespace has once the roots `forgotten` have no name here."""
        kept = {digest for root, image in self.images.items() if root not in forgotten for digest in image.present}
        gone = _union(image for root, image in self.images.items() if root in forgotten)
        return sum(size for digest, size in gone.items() if digest not in kept and digest not in self.elsewhere)


class Accountant:
    """Counts what images take."""

    def __init__(self, naming: Naming, reader: ImageReader, content: Content, workers: Workers) -> None:
        self._naming = naming
        self._reader = reader
        self._content = content
        self._workers = workers

    async def holdings(self, namespace: str) -> Holdings:
        """Return the images of a namespace.

        Raises:
            Unavailable: metadata is away.
        """
        everywhere = await self._naming.everywhere()
        names = by_root(name for name in everywhere if name.namespace == namespace)
        elsewhere = by_root(name for name in everywhere if name.namespace != namespace)
        targets = {root: found[0].target for root, found in {**elsewhere, **names}.items()}
        images = dict(zip(targets, await self._reader.read(list(targets.values())), strict=True))
        return Holdings(
            names,
            {root: images[root] for root in names},
            frozenset(_union(images[root] for root in elsewhere)),
        )

    async def usage(self, namespace: str) -> Usage:
        """Return how many bytes each image of the namespace takes.

        Raises:
            Unavailable: metadata is away.
        """
        held = await self.holdings(namespace)
        users = Counter(use.digest for use in await self._naming.containers(namespace))
        stored = await self._workers.run(None, sizes, self._content)
        return measure(held, users, stored)


def measure(held: Holdings, users: Mapping[Digest, int], stored: Mapping[Digest, int]) -> Usage:
    """Return the usage of a namespace.

    Args:
        users: how many containers were made from each root.
        stored: size in bytes of every blob of the store.
    """
    owners = Counter(digest for image in held.images.values() for digest in image.present)
    total = _union(held.images.values())
    unused = [root for root in held.names if not users.get(root)]
    return Usage(
        tuple(_row(held.names[root], image, owners, users.get(root, 0)) for root, image in held.images.items()),
        sum(total.values()),
        held.freed_by(unused),
        sum(size for digest, size in stored.items() if digest not in total and digest not in held.elsewhere),
    )


def _row(names: Sequence[NamedImage], image: Image, owners: Mapping[Digest, int], containers: int) -> RootUsage:
    try:
        manifest = choose(image).manifest
    except NotFound:
        manifest = None
    return RootUsage(
        tuple(name.reference for name in lasting(names) or names),
        image.root,
        manifest.config.digest if manifest else None,
        sum(image.present.values()),
        sum(size for digest, size in image.present.items() if owners[digest] > 1),
        len(image.present),
        containers,
    )


def _union(images: Iterable[Image]) -> dict[Digest, int]:
    blobs: dict[Digest, int] = {}
    for image in images:
        blobs |= image.present
    return blobs
