"""What an archive says it holds: roots with their names, and which of those names are believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hythe.digest import Digest
from hythe.errors import InvalidArgument
from hythe.oci import Descriptor
from hythe.reference import Reference, parse_reference

IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class Root:
    """One image of an archive.

    Attributes:
        names: what the archive calls it.
        tags: bare tags, which are names only together with a repository.
        labels: labels that its blobs get beside those that keep them, by digest.
    """

    target: Descriptor
    names: tuple[Reference, ...] = ()
    tags: tuple[str, ...] = ()
    labels: Mapping[Digest, Mapping[str, str]] = field(default_factory=dict, hash=False)


def plain(target: Descriptor) -> Descriptor:
    """Return a descriptor without what the document that it stands in says beside type, digest and size."""
    return Descriptor(target.media_type, target.digest, target.size_bytes)


def annotated(target: Descriptor) -> Root:
    """Return the root that an entry of an ``index.json`` means, named by its annotations.

    containerd's annotation has the whole name. OCI's is free text, which most tools fill with a tag, and some with a name;
    what is neither names nothing.
    """
    full = _name(target.annotations.get(IMAGE_NAME, ""))
    if full is not None:
        return Root(target, (full,))
    text = target.annotations.get(REF_NAME, "")
    if text and not any(mark in text for mark in ":/@"):
        return Root(target, (), (text,))
    named = _name(text)
    return Root(target, (named,) if named is not None else ())


def settle_names(roots: Sequence[Root], wanted: Reference | None) -> tuple[Root, ...]:
    """Return `roots` with the names to register, without tags.

    Of an archive with one image, `wanted` is its name. With several, `wanted` lends its repository to bare tags. A digest
    in a name that isn't the image's is left out of it.

    Raises:
        InvalidArgument: one name for two images, `wanted` for several images none of which has a bare tag, or a digest in
            `wanted` that isn't the image's.
    """
    if wanted is not None and len({root.target.digest for root in roots}) == 1:
        if wanted.digest not in (None, roots[0].target.digest):
            raise InvalidArgument(f"import archive as {wanted}: the image in it is {roots[0].target.digest}")
        return (replace(roots[0], names=(wanted,), tags=()),)
    if wanted is not None and not any(root.tags for root in roots):
        raise InvalidArgument(
            f"import archive as {wanted}: it holds {len({root.target.digest for root in roots})} images",
            next_step="import it without a name: its images have their own",
        )
    settled = tuple(replace(root, names=_names(root, wanted), tags=()) for root in roots)
    taken: dict[Reference, Digest] = {}
    for root in settled:
        for name in root.names:
            if taken.setdefault(name, root.target.digest) != root.target.digest:
                raise InvalidArgument(f"import archive: it calls two images {name}")
    return settled


def _names(root: Root, wanted: Reference | None) -> tuple[Reference, ...]:
    tagged = [_name(f"{wanted.name}:{tag}") for tag in root.tags] if wanted is not None else []
    found = [name for name in (*root.names, *tagged) if name is not None]
    fitting = [name if name.digest in (None, root.target.digest) else replace(name, digest=None) for name in found]
    return tuple(dict.fromkeys(name for name in fitting if name.tag or name.digest))


def _name(text: str) -> Reference | None:
    try:
        return parse_reference(text)
    except InvalidArgument:
        return None
