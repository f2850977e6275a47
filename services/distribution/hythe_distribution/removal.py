"""Removing images: which names go, and when that is refused."""

from __future__ import annotations

from collections.abc import Sequence

from hythe.errors import Conflict, FailedPrecondition
from hythe_distribution.lookup import Found, Lookup
from hythe_distribution.names import ContainerUse, Forgotten, NamedImage, Naming, lasting

MAX_NAMED = 10
SHORT_ID_LENGTH = 12


class Remover:
    """Removes names; content stays until it is collected."""

    def __init__(self, naming: Naming, lookup: Lookup) -> None:
        self._naming = naming
        self._lookup = lookup

    async def remove(self, namespace: str, text: str, force: bool) -> Forgotten:
        """Forget the name `text`, or all names of the image of that id.

        Raises:
            NotFound, InvalidArgument: as for `Lookup.find`.
            FailedPrecondition: without `force`: an id with several names, or the last name of an image that a container of
                the namespace uses; the message names them.
            Conflict: the name was moved to another image meanwhile.
            Unavailable: metadata is away.
        """
        found = await self._lookup.find(namespace, text)
        names = [name for name in await self._naming.all(namespace) if name.digest == found.digest]
        users = [use for use in await self._naming.containers(namespace) if use.digest == found.digest]
        wanted = plan(found, names, users, force)
        forgotten = await self._naming.forget(namespace, wanted)
        if wanted and not forgotten.untagged and not forgotten.deleted:
            raise Conflict(
                f"remove image {text}: the name points to another image by now",
                next_step="look where it points now, and decide again",
            )
        return forgotten


def plan(
    found: Found, names: Sequence[NamedImage], users: Sequence[ContainerUse], force: bool
) -> tuple[NamedImage, ...]:
    """Return the names to forget.

    Args:
        names: all that point to the image.
        users: containers that were made from it.

    Raises:
        FailedPrecondition: see `Remover.remove`.
    """
    meant = tuple(name for name in names if not found.by_name or name.reference == str(found.reference))
    if not force and not found.by_name and len(lasting(names)) > 1:
        listed = _some([name.reference for name in lasting(names)])
        raise FailedPrecondition(
            f"remove image {found.digest.hex[:SHORT_ID_LENGTH]}: it has several names: {listed}",
            next_step="remove one by its name, or all with --force",
        )
    if not force and users and len(lasting(meant)) == len(lasting(names)):
        listed = _some([f"{use.name} ({use.id[:SHORT_ID_LENGTH]})" for use in users])
        raise FailedPrecondition(
            f"remove image {found.reference}: in use by container {listed}",
            next_step=f"`hythe rm {users[0].name}` first, or use --force",
            details={"kind": "container", "id": users[0].id},
        )
    return meant


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - MAX_NAMED} more" if len(texts) > MAX_NAMED else ""
    return ", ".join(texts[:MAX_NAMED]) + more
