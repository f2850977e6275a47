"""Pruning: which images are forgotten because nobody needs them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from hythe.digest import Digest
from hythe.errors import InvalidArgument
from hythe_distribution.images import Image, summarise
from hythe_distribution.names import Forgotten, NamedImage, Naming, lasting
from hythe_distribution.usage import Accountant, Holdings


@dataclass(frozen=True, slots=True)
class PruneWish:
    """What to prune.

    Attributes:
        unused: every image that no container uses, not only dangling ones.
        before: only images whose names all were last changed before; None for any.
        labels: ``key`` or ``key=value``; all must be among the labels of the image config.
    """

    unused: bool = False
    before: datetime | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was, or would be, forgotten; `reclaimable_bytes` of content have no image of any namespace any more."""

    forgotten: Forgotten
    reclaimable_bytes: int


class Pruner:
    """Forgets images that nobody needs; content stays until it is collected."""

    def __init__(self, naming: Naming, accountant: Accountant) -> None:
        self._naming = naming
        self._accountant = accountant

    async def prune(self, namespace: str, wish: PruneWish, dry_run: bool) -> Pruned:
        """Forget the images that `wish` means, but never one that a container of the namespace uses. May be repeated.

        Args:
            dry_run: only tell what would be forgotten.

        Raises:
            Unavailable: metadata is away.
        """
        held = await self._accountant.holdings(namespace)
        used = {use.digest for use in await self._naming.containers(namespace)}
        roots = plan(held, used, wish)
        names = [name for root in roots for name in held.names[root]]
        if dry_run:
            forgotten = Forgotten(tuple(name.reference for name in lasting(names)), tuple(roots))
        else:
            forgotten = await self._naming.forget(namespace, [*names, *superfluous(held.names)])
        return Pruned(forgotten, held.freed_by(forgotten.deleted))


def plan(held: Holdings, used: Collection[Digest], wish: PruneWish) -> tuple[Digest, ...]:
    """Return the roots that `wish` means; `used` are those of containers."""
    return tuple(
        root
        for root, names in held.names.items()
        if root not in used
        and (wish.unused or not lasting(names))
        and (wish.before is None or all(_older(name, wish.before) for name in names))
        and (not wish.labels or _labelled(held.images[root], wish.labels))
    )


def superfluous(names: Mapping[Digest, Sequence[NamedImage]]) -> list[NamedImage]:
    """Return the dangling names of images that have another: left when a move of a name broke off."""
    return [name for found in names.values() if lasting(found) for name in found if name.dangling]


def parse_before(text: str) -> datetime:
    """Return the moment that an RFC 3339 text spells.

    Raises:
        InvalidArgument: it is none, or doesn't say its offset from UTC.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None:
        raise InvalidArgument(
            f"parse time {text[:100]!r}: expected RFC 3339 with an offset", next_step="write e.g. 2026-01-31T12:00:00Z"
        )
    return moment


def _older(name: NamedImage, before: datetime) -> bool:
    return parse_before(name.updated_at) < before


def _labelled(image: Image, wanted: Sequence[str]) -> bool:
    labels = summarise(image).labels
    for label in wanted:
        key, equals, value = label.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True
