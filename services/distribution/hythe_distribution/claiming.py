"""Who brings something by a name points the name at it at the end, and never over what others pointed it to meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hythe import tracing
from hythe.digest import Digest
from hythe.errors import Conflict
from hythe.holding import Held
from hythe.oci import Descriptor
from hythe.reference import Reference

MAX_ATTEMPTS = 3
"""How often all is done again where the name was changed, or blobs were deleted, meanwhile."""


@dataclass(frozen=True, slots=True)
class NameRecord:
    """What a name points to, and the revision of its record; 0 and None where there is no record."""

    revision: int
    digest: Digest | None


class ImageNames(Protocol):
    """The names of images, kept by the metadata service."""

    async def get(self, namespace: str, reference: Reference) -> NameRecord:
        """Return what a name points to.

        Raises:
            Unavailable: metadata is away.
        """

    async def put(
        self, namespace: str, reference: Reference, target: Descriptor, if_revision: int, lease: str = ""
    ) -> None:
        """Point a name at `target` if its record still has the revision `if_revision`, and end `lease` with that.

        Raises:
            Conflict: it has another.
            Unavailable: metadata is away.
        """


async def claim(
    names: ImageNames,
    namespace: str,
    reference: Reference,
    target: Descriptor,
    before: NameRecord,
    held: Held,
    *,
    last: bool,
) -> bool:
    """Point a name at `target` and tell whether it does.

    A name that points there already is left as it is: most who come find what they look for.

    Args:
        before: what the name pointed to before the registry was asked.
        held: what keeps the target until the name does; from then on, nothing else does.
        last: this is the last attempt.

    Raises:
        Conflict: it is the last, and others have pointed the name elsewhere.
        Unavailable: metadata is away.
    """
    if before.digest == target.digest:
        return True
    with tracing.span("register name", container__image__name=str(reference)):
        try:
            async with held.handed_over() as lease:
                await names.put(namespace, reference, target, before.revision, lease)
        except Conflict:
            now = await names.get(namespace, reference)
            if now.digest != target.digest and last:
                raise
            return now.digest == target.digest
        return True
