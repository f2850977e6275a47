"""The names of images: where they point, and that an image which lost its last name by a move keeps a dangling one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hythe import failpoints, tracing
from hythe.digest import Digest
from hythe.errors import Conflict, InvalidArgument, NotFound
from hythe.oci import Descriptor
from hythe.ports.metadata import ALL_NAMESPACES
from hythe.reference import Reference, parse_reference
from hythe_distribution.claiming import NameRecord
from hythe_distribution.gathering import all_of

DANGLING_HOST = "hythe.invalid"
"""Host of the names of images that have no other: ``.invalid`` is reserved, so it is never a registry's (RFC 2606)."""
_DANGLING_REPOSITORY = "dangling"
_DANGLING_PREFIX = f"{DANGLING_HOST}/{_DANGLING_REPOSITORY}@"
PAGE = 500


@dataclass(frozen=True, slots=True)
class NamedImage:
    """A record of an image's name. Times are RFC 3339 UTC.

    Attributes:
        reference: normalised.
        target: root manifest or index.
    """

    namespace: str
    reference: str
    target: Descriptor
    revision: int
    created_at: str
    updated_at: str

    @property
    def digest(self) -> Digest:
        """Digest of the root."""
        return self.target.digest

    @property
    def dangling(self) -> bool:
        """Whether it only stands for the names that its image no longer has."""
        return self.reference.startswith(_DANGLING_PREFIX)


@dataclass(frozen=True, slots=True)
class NamePage:
    """Part of a list of names; `next` is the `after` of the following part, empty at the end."""

    names: tuple[NamedImage, ...]
    next: str = ""


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """A container and the digest of the root that it was made from."""

    id: str
    name: str
    digest: Digest


class NameRecords(Protocol):
    """The records of names, and of the containers that use images. All raise Unavailable when their keeper is away."""

    async def get(self, namespace: str, reference: Reference) -> NamedImage | None:
        """Return the record of a name; None where there is none."""

    async def put(
        self, namespace: str, reference: Reference, target: Descriptor, if_revision: int | None, lease: str = ""
    ) -> NamedImage:
        """Point a name at `target`; with `if_revision` only if its record still has that (0: there is none).

        A `lease` that is named ends in the same transaction.

        Raises:
            Conflict: it has another.
        """

    async def remove(self, namespace: str, reference: str, if_revision: int) -> None:
        """Forget a name if its record still has the revision `if_revision`.

        Raises:
            Conflict: it has another.
            NotFound: there is no such name.
        """

    async def page(self, namespace: str, after: str, limit: int) -> NamePage:
        """Return names by reference; `ALL_NAMESPACES` lists all."""

    async def containers(self, namespace: str) -> tuple[ContainerUse, ...]:
        """Return all containers of a namespace that are not being removed."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Names that were forgotten, and the roots that no name of the namespace points to any more."""

    untagged: tuple[str, ...] = ()
    deleted: tuple[Digest, ...] = ()


class Naming:
    """Names with Docker's rule: an image whose last name is moved away is dangling, not gone.

    A body of `hythe_distribution.claiming.ImageNames`. Before a name moves, the image that would lose its last one gets the name
    ``hythe.invalid/dangling@<digest>``: a crash in between leaves a superfluous name, never an image without one. Changes
    of one process are made one after the other, so that two moves cannot each rely on the name that the other takes away.
    """

    def __init__(self, records: NameRecords) -> None:
        self._records = records
        self._changing = asyncio.Lock()

    async def get(self, namespace: str, reference: Reference) -> NameRecord:
        """See `hythe_distribution.claiming.ImageNames.get`."""
        record = await self._records.get(namespace, reference)
        return NameRecord(record.revision, record.digest) if record else NameRecord(0, None)

    async def put(
        self, namespace: str, reference: Reference, target: Descriptor, if_revision: int, lease: str = ""
    ) -> None:
        """See `hythe_distribution.claiming.ImageNames.put`; refuses what `point` refuses."""
        await self.point(namespace, reference, target, if_revision, lease)

    async def point(
        self,
        namespace: str,
        reference: Reference,
        target: Descriptor,
        if_revision: int | None = None,
        lease: str = "",
    ) -> NamedImage:
        """Point a name at `target`, wherever it points now or only if its record has the revision `if_revision`.

        Args:
            lease: what has kept the target until now; it ends with this.

        Raises:
            Conflict: it has another revision.
            InvalidArgument: the name is reserved, or has another digest in it than the target's.
            Unavailable: metadata is away.
        """
        if reference.host == DANGLING_HOST:
            raise InvalidArgument(
                f"name image {reference}: {DANGLING_HOST} is reserved for images without a name",
                next_step="choose another name",
                details={"kind": "reference"},
            )
        if reference.digest is not None and reference.digest != target.digest:
            raise InvalidArgument(
                f"name image {reference}: the image is {target.digest}", next_step="choose a name without a digest"
            )
        async with self._changing:
            with tracing.span("name image", container__image__name=str(reference)):
                if if_revision != 0:
                    await self._keep_from_vanishing(namespace, reference, target, if_revision)
                failpoints.reach("distribution.name.move")
                nameless = dangling_reference(target.digest)
                record, dangling = await all_of(
                    (
                        self._records.put(namespace, reference, target, if_revision, lease),
                        self._records.get(namespace, nameless),  # side by side: every pull waits for both
                    )
                )
                assert record is not None
                if dangling is not None:
                    await self._remove(namespace, dangling)
                return record

    async def keep_nameless(self, namespace: str, target: Descriptor) -> NamedImage:
        """Give an image that has no name a dangling one, and return a name that it has then.

        Raises:
            Unavailable: metadata is away.
        """
        async with self._changing:
            names = by_root(await self.all(namespace)).get(target.digest, ())
            if names:
                return (lasting(names) or names)[0]
            return await self._records.put(namespace, dangling_reference(target.digest), target, None)

    async def record(self, namespace: str, reference: Reference) -> NamedImage | None:
        """Return the record of a name; None where there is none.

        Raises:
            Unavailable: metadata is away.
        """
        return await self._records.get(namespace, reference)

    async def page(self, namespace: str, after: str, limit: int) -> NamePage:
        """Return part of the names of a namespace, by reference, those of dangling images included.

        Raises:
            Unavailable: metadata is away.
        """
        return await self._records.page(namespace, after, limit)

    async def all(self, namespace: str) -> tuple[NamedImage, ...]:
        """Return all names of a namespace, by reference; `ALL_NAMESPACES` gives those of all.

        Raises:
            Unavailable: metadata is away.
        """
        names: list[NamedImage] = []
        after = ""
        while True:
            page = await self._records.page(namespace, after, PAGE)
            names += page.names
            if not page.next:
                return tuple(names)
            after = page.next

    async def everywhere(self) -> tuple[NamedImage, ...]:
        """Return the names of all namespaces.

        Raises:
            Unavailable: metadata is away.
        """
        return await self.all(ALL_NAMESPACES)

    async def containers(self, namespace: str) -> tuple[ContainerUse, ...]:
        """Return all containers of a namespace that are not being removed.

        Raises:
            Unavailable: metadata is away.
        """
        return await self._records.containers(namespace)

    async def forget(self, namespace: str, names: Sequence[NamedImage]) -> Forgotten:
        """Forget names that still point where `names` says; a name that was moved meanwhile stays.

        An image that has no name but its dangling one then loses that, too. May be repeated.

        Raises:
            Unavailable: metadata is away; what was forgotten until then stays so.
        """
        async with self._changing:
            with tracing.span("forget names", oci__names=len(names)):
                gone = [name for name in names if await self._remove(namespace, name)]
                left = by_root(await self.all(namespace))
                roots = dict.fromkeys(name.digest for name in gone)
                for root in roots:
                    rest = left.get(root, ())
                    if all(name.dangling for name in rest):
                        left[root] = tuple([name for name in rest if not await self._remove(namespace, name)])
        untagged = tuple(name.reference for name in gone if not name.dangling)
        return Forgotten(untagged, tuple(root for root in roots if not left.get(root)))

    async def _keep_from_vanishing(
        self, namespace: str, reference: Reference, target: Descriptor, if_revision: int | None
    ) -> None:
        """Give the image that the name points to now a dangling name, if it has no other and the name is about to move."""
        before = await self._records.get(namespace, reference)
        if before is None or before.digest == target.digest or if_revision not in (None, before.revision):
            return
        others = by_root(await self.all(namespace)).get(before.digest, ())
        if all(name.reference == before.reference for name in others):
            await self._records.put(namespace, dangling_reference(before.digest), before.target, None)

    async def _remove(self, namespace: str, name: NamedImage) -> bool:
        """Return whether the name is gone, also when somebody else was faster; False when it has moved."""
        try:
            await self._records.remove(namespace, name.reference, name.revision)
        except NotFound:
            return True
        except Conflict:
            return False
        return True


def dangling_reference(root: Digest) -> Reference:
    """Return the name of an image that has no other."""
    return Reference(DANGLING_HOST, _DANGLING_REPOSITORY, None, root)


def by_root(names: Iterable[NamedImage]) -> dict[Digest, tuple[NamedImage, ...]]:
    """Return the names of each root, in their order."""
    roots: dict[Digest, list[NamedImage]] = {}
    for name in names:
        roots.setdefault(name.digest, []).append(name)
    return {root: tuple(found) for root, found in roots.items()}


def lasting(names: Iterable[NamedImage]) -> tuple[NamedImage, ...]:
    """Return the names that people gave."""
    return tuple(name for name in names if not name.dangling)


def reference_of(name: NamedImage) -> Reference | None:
    """Return the reference in a record; None where the record has text that is none."""
    try:
        return parse_reference(name.reference)
    except InvalidArgument:
        return None
