"""How an image was made, step by step, with the layer that each step left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hythe.digest import Digest
from hythe.oci import Descriptor, HistoryStep, Platform
from hythe_distribution.images import choose, readable
from hythe_distribution.lookup import Lookup
from hythe_distribution.reader import ImageReader

MISSING = "<missing>"
"""Who made a layer that the image's history doesn't tell of."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step; `layer` is None where it left none, or where the image has fewer layers than its history tells of."""

    told: HistoryStep
    layer: Descriptor | None


@dataclass(frozen=True, slots=True)
class History:
    """The steps of an image, the newest first; `id` is its config's digest."""

    id: Digest
    steps: tuple[Step, ...]


class Historian:
    """Tells how images were made."""

    def __init__(self, lookup: Lookup, reader: ImageReader) -> None:
        self._lookup = lookup
        self._reader = reader

    async def tell(self, namespace: str, text: str, platform: Platform | None) -> History:
        """Return the history of the image that `text` means, for a platform or this host's.

        Raises:
            NotFound: no such image (``kind=image``), nothing in it for `platform` (``kind=platform``), or its manifest or
                config isn't here (``kind=blob``).
            InvalidArgument, DataLoss: its manifest or config is broken, hostile or was changed by the disk; or `text` may
                mean several images.
            Unavailable: metadata is away.
        """
        found = await self._lookup.find(namespace, text)
        chosen = choose(await self._reader.read_one(found.target), platform)
        manifest, config = readable(f"show history of {found.reference}", chosen)
        return History(config.digest, join(config.history, manifest.layers))


def join(told: Sequence[HistoryStep], layers: Sequence[Descriptor]) -> tuple[Step, ...]:
    """Return the steps with their layers, the newest first, whatever the numbers of both.

    Layers are given to the steps that made one, from the bottom up. Those left over come on top as `MISSING`.

    Spec: OCI image-spec, "Image Configuration", history.
    """
    left = iter(layers)
    steps = [Step(step, None if step.empty_layer else next(left, None)) for step in told]
    steps += [Step(HistoryStep(created_by=MISSING), layer) for layer in left]
    return tuple(reversed(steps))
