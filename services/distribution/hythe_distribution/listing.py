"""The list of images: each name with what is here of what it points to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hythe.digest import Digest
from hythe.holding import Held
from hythe.oci import Descriptor
from hythe.ports.leases import Referred
from hythe.reference import Reference
from hythe_distribution.images import ImageContent, summarise
from hythe_distribution.lookup import Lookup
from hythe_distribution.names import NamedImage, Naming, by_root, lasting
from hythe_distribution.reader import ImageReader

PAGE_BYTES = 1 << 20
"""A page ends early when so many bytes of labels are in it: they are what strangers wrote, and a message has its limit."""


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One name and what is here of its image; `dangling`: it stands for the names that the image no longer has."""

    name: NamedImage
    content: ImageContent
    dangling: bool = False


@dataclass(frozen=True, slots=True)
class ListPage:
    """Part of a list; `next` is the `after` of the following part, empty at the end."""

    images: tuple[ListedImage, ...]
    next: str = ""


class Listing:
    """Lists images, and makes names for them."""

    def __init__(self, naming: Naming, lookup: Lookup, reader: ImageReader) -> None:
        self._naming = naming
        self._lookup = lookup
        self._reader = reader

    async def page(self, namespace: str, after: str, limit: int) -> ListPage:
        """Return at most `limit` images by reference; a dangling name whose image has another one by now is left out.

        Raises:
            Unavailable: metadata is away.
        """
        page = await self._naming.page(namespace, after, limit)
        names = page.names
        if any(name.dangling for name in names):
            roots = by_root(await self._naming.all(namespace))
            names = tuple(name for name in names if not name.dangling or not lasting(roots.get(name.digest, ())))
        listed = await self._describe(names)
        whole = _within(listed)
        return ListPage(tuple(listed[:whole]), page.next if whole == len(listed) else listed[whole - 1].name.reference)

    async def tag(self, namespace: str, text: str, target: Reference, held: Held) -> ListedImage:
        """Point the name `target` at the image that `text` means, wherever it pointed before.

        The image is referred to and found once more: with its last name gone meanwhile it could be collected just before it
        gets the new one.

        Raises:
            NotFound, InvalidArgument: as for `Lookup.find` and `Naming.point`.
            Unavailable: metadata is away.
        """
        found = await self._lookup.find(namespace, text)
        kept: Digest | None = None
        while kept != found.digest or not await held.confirm():
            kept = found.digest
            await held.refer([Referred(kept)])
            found = await self._lookup.find(namespace, text)
        async with held.handed_over() as lease:
            record = await self._naming.point(namespace, target, found.target, lease=lease)
        return (await self._describe([record]))[0]

    async def register(self, namespace: str, reference: Reference | None, target: Descriptor) -> ListedImage:
        """Point a name at an image that came in, or without one keep it as an image without a name.

        Raises:
            InvalidArgument: as for `Naming.point`.
            Unavailable: metadata is away.
        """
        if reference is None:
            record = await self._naming.keep_nameless(namespace, target)
        else:
            record = await self._naming.point(namespace, reference, target)
        return (await self._describe([record]))[0]

    async def _describe(self, names: Sequence[NamedImage]) -> list[ListedImage]:
        images = await self._reader.read([name.target for name in names])
        return [ListedImage(name, summarise(image), name.dangling) for name, image in zip(names, images, strict=True)]


def _within(listed: Sequence[ListedImage]) -> int:
    """Return how many of `listed` make a page: at least one."""
    size_bytes = 0
    for count, image in enumerate(listed):
        size_bytes += sum(len(key) + len(value) for key, value in image.content.labels.items())
        size_bytes += sum(len(platform) for platform in image.content.platforms)
        if count and size_bytes > PAGE_BYTES:
            return count
    return len(listed)
