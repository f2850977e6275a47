"""Everything known about one image: its names, its manifests, and what of them is here."""

from __future__ import annotations

from dataclasses import dataclass

from hythe.errors import Conflict
from hythe.oci import Descriptor, Platform
from hythe_distribution.images import Variant, choose, readable, summarise
from hythe_distribution.listing import ListedImage
from hythe_distribution.lookup import Lookup
from hythe_distribution.names import Naming, lasting
from hythe_distribution.reader import ImageReader


@dataclass(frozen=True, slots=True)
class Details:
    """One image.

    Attributes:
        listed: the name that was meant, or the first of the image, as a list shows it.
        names: all that people gave it.
        chosen: what the platform means; its manifest is None where it isn't here.
        config: the image config as JSON text; empty when it isn't here.
        variants: all manifests, in the order of the index.
    """

    listed: ListedImage
    target: Descriptor
    names: tuple[str, ...]
    chosen: Variant
    config: str
    variants: tuple[Variant, ...]


class Inspector:
    """Looks into images."""

    def __init__(self, naming: Naming, lookup: Lookup, reader: ImageReader) -> None:
        self._naming = naming
        self._lookup = lookup
        self._reader = reader

    async def inspect(self, namespace: str, text: str, platform: Platform | None) -> Details:
        """Return everything known about the image that `text` means; what isn't here is said to be missing.

        Args:
            platform: which manifest is `Details.chosen`; by default the one for this host, else one that is here.

        Raises:
            NotFound: no such image (``kind=image``), or nothing in it for `platform` (``kind=platform``).
            InvalidArgument, DataLoss: the chosen manifest or its config is broken, hostile or was changed by the disk; or
                `text` may mean several images.
            Conflict: its name was moved or removed meanwhile.
            Unavailable: metadata is away.
        """
        found = await self._lookup.find(namespace, text)
        names = [name for name in await self._naming.all(namespace) if name.digest == found.digest]
        image = await self._reader.read_one(found.target)
        chosen = choose(image, platform)
        if chosen.problem is not None:
            readable(f"inspect image {found.reference}", chosen)
        own = [name for name in names if name.reference == str(found.reference)] or names
        if not own:
            raise Conflict(
                f"inspect image {found.reference}: it lost its name meanwhile", next_step="look at `hythe images`"
            )
        return Details(
            ListedImage(own[0], summarise(image), own[0].dangling and not lasting(names)),
            found.target,
            tuple(name.reference for name in lasting(names)),
            chosen,
            chosen.config.raw.decode() if chosen.config else "",
            image.variants,
        )
