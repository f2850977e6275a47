"""Whether all content of images is here, and on demand whether it is still what it was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hythe import tracing
from hythe.digest import Digest, verified
from hythe.errors import DataLoss, NotFound
from hythe.oci import Descriptor
from hythe.ports.content import Content
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.images import Image, Variant, choose
from hythe_distribution.lookup import Lookup
from hythe_distribution.names import Naming, by_root, lasting
from hythe_distribution.reader import ImageReader
from hythe_distribution.workers import Workers


@dataclass(frozen=True, slots=True)
class Checked:
    """One image. It has all blobs of the manifest for this host, and of every other manifest that is here.

    Attributes:
        platform: of the manifest that `complete` counts; empty when unknown.
        complete: every blob for `platform` is here, and none was found to be corrupt.
        present_bytes: how many of `size_bytes` are here; the size of a manifest that isn't is what its index says.
    """

    reference: str
    root: Digest
    platform: str
    complete: bool
    blobs: int
    present_blobs: int
    size_bytes: int
    present_bytes: int
    missing: tuple[Digest, ...] = ()
    corrupt: tuple[Digest, ...] = ()


class Checker:
    """Checks images of a namespace."""

    def __init__(self, naming: Naming, lookup: Lookup, reader: ImageReader, content: Content, workers: Workers) -> None:
        """Hash in threads of `workers`."""
        self._naming = naming
        self._lookup = lookup
        self._reader = reader
        self._content = content
        self._workers = workers

    async def check(self, namespace: str, texts: Sequence[str], verify: bool) -> tuple[Checked, ...]:
        """Return what is here of the images that `texts` mean, or of all of the namespace.

        Args:
            verify: read and hash every blob that is here, each once.

        Raises:
            NotFound, InvalidArgument: as for `Lookup.find`.
            Unavailable: metadata is away.
        """
        wanted = await self._wanted(namespace, texts)
        images = await self._reader.read([target for _, target in wanted])
        corrupt: frozenset[Digest] = frozenset()
        if verify:
            blobs = {digest for image in images for digest in image.present}
            cancellation = Cancellation()
            corrupt = await self._workers.run(cancellation, find_corrupt, self._content, blobs, cancellation)
        return tuple(
            judge(reference, image, target, corrupt) for (reference, target), image in zip(wanted, images, strict=True)
        )

    async def _wanted(self, namespace: str, texts: Sequence[str]) -> list[tuple[str, Descriptor]]:
        if texts:
            found = [await self._lookup.find(namespace, text) for text in texts]
            return [(str(each.reference), each.target) for each in found]
        names = await self._naming.all(namespace)
        named = {root for root, its_names in by_root(names).items() if lasting(its_names)}
        return [(name.reference, name.target) for name in names if not name.dangling or name.digest not in named]


def judge(reference: str, image: Image, target: Descriptor, corrupt: frozenset[Digest]) -> Checked:
    """Return what is here of `image`, where `corrupt` blobs are here and of no use."""
    chosen = _chosen(image)
    needed: dict[Digest, int] = {image.root: image.present.get(image.root, target.size_bytes)}
    for variant in image.variants:
        if variant is chosen or variant.manifest is not None:
            needed[variant.descriptor.digest] = variant.descriptor.size_bytes
            needed |= {blob.digest: blob.size_bytes for blob in variant.blobs}
    needed |= image.present
    missing = tuple(digest for digest in needed if digest not in image.present)
    damaged = tuple(digest for digest in needed if digest in corrupt)
    own = {image.root} | ({chosen.descriptor.digest, *(blob.digest for blob in chosen.blobs)} if chosen else set())
    return Checked(
        reference,
        image.root,
        str(chosen.platform or "") if chosen else "",
        chosen is not None and chosen.complete and not own & corrupt,
        len(needed),
        len(needed) - len(missing),
        sum(needed.values()),
        sum(image.present[digest] for digest in needed if digest in image.present),
        missing,
        damaged,
    )


def find_corrupt(content: Content, digests: Iterable[Digest], cancellation: Cancellation) -> frozenset[Digest]:
    """Return those of `digests` whose bytes are no longer what they were; blocks on reading them all.

    Raises:
        Cancelled: nobody waits for it any more.
    """
    corrupt = []
    with tracing.span("verify blobs"):
        for digest in digests:
            try:
                for _ in verified(content.read(digest), digest, content.info(digest).size_bytes, str(digest)):
                    cancellation.check()
            except DataLoss:
                corrupt.append(digest)
            except NotFound:
                continue  # deleted since it was seen: it was not corrupt
    return frozenset(corrupt)


def _chosen(image: Image) -> Variant | None:
    try:
        return choose(image)
    except NotFound:
        return None
