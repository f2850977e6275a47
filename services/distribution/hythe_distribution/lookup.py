"""Which image a user means: by name, by digest, or by the beginning of an id."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hythe.digest import Digest
from hythe.errors import InvalidArgument, NotFound
from hythe.oci import Descriptor
from hythe.reference import Reference, parse_reference
from hythe_distribution.images import Image
from hythe_distribution.names import DANGLING_HOST, NamedImage, Naming, by_root, lasting, reference_of
from hythe_distribution.reader import ImageReader

MAX_CANDIDATES = 10
_FULL_ID = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})")


@dataclass(frozen=True, slots=True)
class Found:
    """The image that was meant.

    Attributes:
        reference: the name that was meant; for an id or digest the first name of the image.
        digest: of the root manifest or index.
        target: the root.
        by_name: it was meant by this very name, not by what it consists of.
    """

    reference: Reference
    digest: Digest
    target: Descriptor
    by_name: bool

    @property
    def name(self) -> str:
        """The name that people gave it; empty for an image without one."""
        return "" if self.reference.host == DANGLING_HOST else str(self.reference)


class Lookup:
    """Finds images of a namespace."""

    def __init__(self, naming: Naming, reader: ImageReader) -> None:
        self._naming = naming
        self._reader = reader

    async def find(self, namespace: str, text: str) -> Found:
        """Return the image that `text` means.

        Args:
            text: a reference; one with a digest also means any image of that digest in its repository. Or an image id: the
                digest of a root or config, with or without ``sha256:``, or a beginning of at least four digits. A name wins
                over an id.

        Raises:
            NotFound: there is none (details ``kind=image``).
            InvalidArgument: it may mean several, which are named; or it is neither reference nor id.
            Unavailable: metadata is away.
        """
        wanted = _reference(text)
        if wanted is not None:
            record = await self._naming.record(namespace, wanted)
            if record is not None:
                return Found(wanted, record.digest, record.target, True)
        names = await self._naming.all(namespace)
        if wanted is not None and wanted.digest is not None:
            for name in names:
                reference = reference_of(name)
                if name.digest == wanted.digest and reference is not None and reference.name == wanted.name:
                    return _found(name, reference)
        elif _ID.fullmatch(text):
            found = choose(text, by_root(names), await self._matching(text, by_root(names)))
            if found is not None:
                return found
        raise _not_found(namespace, text, wanted)

    async def _matching(self, text: str, roots: dict[Digest, tuple[NamedImage, ...]]) -> list[Digest]:
        digits = text.removeprefix("sha256:")
        images = await self._reader.read([names[0].target for names in roots.values()])
        return [image.root for image in images if any(id_.hex.startswith(digits) for id_ in ids_of(image))]


def ids_of(image: Image) -> Iterator[Digest]:
    """Yield the digests by which an image may be meant: its root's, and those of the configs whose manifest is here."""
    yield image.root
    for variant in image.variants:
        if variant.manifest is not None and variant.runs:
            yield variant.manifest.config.digest


def choose(text: str, roots: dict[Digest, tuple[NamedImage, ...]], matching: list[Digest]) -> Found | None:
    """Return the one image among `matching` roots; None where there is none.

    Raises:
        InvalidArgument: there are several.
    """
    if len(matching) > 1:
        named = [f"{root.hex[:12]} ({(lasting(roots[root]) or roots[root])[0].reference})" for root in matching]
        more = f" and {len(named) - MAX_CANDIDATES} more" if len(named) > MAX_CANDIDATES else ""
        raise InvalidArgument(
            f"find image {text!r}: it may mean {', '.join(named[:MAX_CANDIDATES])}{more}",
            next_step="give more digits of the id, or a name",
            details={"kind": "image"},
        )
    for root in matching:
        for name in (*lasting(roots[root]), *roots[root]):
            if (reference := reference_of(name)) is not None:
                return _found(name, reference)
    return None


def _found(name: NamedImage, reference: Reference) -> Found:
    return Found(reference, name.digest, name.target, False)


def _reference(text: str) -> Reference | None:
    """Return the reference that `text` spells; None for what can only be an id, as a whole digest always is."""
    return None if _FULL_ID.fullmatch(text) else parse_reference(text)


def _not_found(namespace: str, text: str, wanted: Reference | None) -> NotFound:
    if text.startswith("sha256:"):
        wanted = None
    return NotFound(
        f"find image {text}: no such image in namespace {namespace}",
        next_step="`hythe images` lists them"
        if wanted is None
        else f"`hythe pull {wanted.familiar}`, or `hythe images`",
        details={"kind": "image", **({"reference": str(wanted)} if wanted else {})},
    )
