"""Manifests and indexes: parsed beside their raw bytes, so that a digest never depends on writing them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hythe.digest import Digest, digest_of
from hythe.errors import InvalidArgument, NotFound
from hythe.oci import media_types
from hythe.oci.descriptor import Descriptor, parse_descriptor
from hythe.oci.fields import Fields, load_object
from hythe.oci.platform import Platform, preference

MAX_LAYERS = 500
MAX_MANIFESTS = 1000


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest: one config and layers, lowest first.

    Attributes:
        subject: manifest that this one is about (a signature, an SBOM); None for an image.
        artifact_type: what an artifact is; empty where the document does not say.

    Spec: OCI image-spec, "Image Manifest"; Docker image manifest version 2, schema 2.
    """

    raw: bytes = field(repr=False)
    media_type: str
    digest: Digest
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False, repr=False)
    subject: Descriptor | None = field(default=None, hash=False, compare=False, repr=False)
    artifact_type: str = field(default="", hash=False, compare=False, repr=False)

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of the manifest itself."""
        return Descriptor(self.media_type, self.digest, len(self.raw))


@dataclass(frozen=True, slots=True)
class Index:
    """An image index (Docker: manifest list): manifests for several platforms, or further indexes.

    Attributes:
        subject, artifact_type: as of `Manifest`.

    Spec: OCI image-spec, "Image Index".
    """

    raw: bytes = field(repr=False)
    media_type: str
    digest: Digest
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False, repr=False)
    subject: Descriptor | None = field(default=None, hash=False, compare=False, repr=False)
    artifact_type: str = field(default="", hash=False, compare=False, repr=False)

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of the index itself."""
        return Descriptor(self.media_type, self.digest, len(self.raw))


def parse_document(raw: bytes, content_type: str = "") -> Manifest | Index:
    """Return the manifest or index that `raw` spells, and refuse what could be taken for both.

    Args:
        raw: the document as received, at most 4 MiB.
        content_type: media type under which it was offered (HTTP header or descriptor); parameters after ``;`` are
            ignored; empty when unknown.

    Raises:
        InvalidArgument: hostile or broken JSON; fields of both kinds (CVE-2021-41190); a ``mediaType`` other than
            `content_type`; Docker schema 1; a type that is no image; more than 500 layers or 1000 manifests; a bad
            descriptor.
    """
    offered = content_type.partition(";")[0].strip().lower()
    if offered in media_types.SCHEMA1_TYPES:
        raise _schema1()
    fields = load_object(raw, "manifest")
    if fields.has("fslayers"):
        raise _schema1()
    if fields.number("schemaVersion", 2) == 1:
        raise _schema1()
    is_index, is_manifest = fields.has("manifests"), fields.has("layers") or fields.has("config")
    if is_index and is_manifest:
        raise fields.refuse("the document", "is both an index (manifests) and a manifest (config or layers)")
    media_type = _media_type(fields, offered, is_index)
    if media_type in media_types.INDEX_TYPES:
        if not is_index:
            raise fields.refuse("manifests", f"is missing in a document of type {media_type}")
        return _index(raw, media_type, fields)
    if not fields.has("layers") or not fields.has("config"):
        raise fields.refuse("config or layers", f"is missing in a document of type {media_type}")
    return _manifest(raw, media_type, fields)


def _media_type(fields: Fields, offered: str, is_index: bool) -> str:
    own = fields.text("mediaType")
    if own and offered and own != offered:
        raise fields.refuse("mediaType", f"is {own[:100]!r}, but it was offered as {offered[:100]!r}")
    media_type = own or offered or (media_types.OCI_INDEX if is_index else media_types.OCI_MANIFEST)
    if media_type not in media_types.INDEX_TYPES | media_types.MANIFEST_TYPES:
        raise fields.refuse("the document", f"has type {media_type[:100]!r}, which is no image manifest or index")
    return media_type


def _manifest(raw: bytes, media_type: str, fields: Fields) -> Manifest:
    layers = fields.children("layers")
    if len(layers) > MAX_LAYERS:
        raise fields.refuse("layers", f"has {len(layers)} items, more than {MAX_LAYERS}")
    return Manifest(
        raw,
        media_type,
        digest_of(raw),
        parse_descriptor(fields.child("config")),
        tuple(parse_descriptor(layer) for layer in layers),
        fields.mapping("annotations"),
        _subject(fields),
        fields.text("artifactType"),
    )


def _index(raw: bytes, media_type: str, fields: Fields) -> Index:
    manifests = fields.children("manifests")
    if len(manifests) > MAX_MANIFESTS:
        raise fields.refuse("manifests", f"has {len(manifests)} items, more than {MAX_MANIFESTS}")
    return Index(
        raw,
        media_type,
        digest_of(raw),
        tuple(parse_descriptor(manifest) for manifest in manifests),
        fields.mapping("annotations"),
        _subject(fields),
        fields.text("artifactType"),
    )


def _subject(fields: Fields) -> Descriptor | None:
    return parse_descriptor(fields.child("subject")) if fields.has("subject") else None


def _schema1() -> InvalidArgument:
    return InvalidArgument(
        "parse manifest: it is in Docker's schema 1, which is no longer supported",
        next_step="push the image again with a current tool, e.g. skopeo copy --format oci",
    )


def select(index: Index, wanted: Platform) -> Descriptor:
    """Return the entry of `index` that runs best on `wanted`; of equals, the first.

    An entry without a platform is taken only when nothing matches and it is the only such entry.

    Raises:
        NotFound: nothing in it runs on `wanted` (details ``kind=platform``); the message lists what it offers.
    """
    entries = [entry for entry in index.manifests if entry.media_type in media_types.DOCUMENT_TYPES]
    for platform in preference(wanted):
        for entry in entries:
            if entry.platform is not None and entry.platform.matches(platform):
                return entry
    unnamed = [entry for entry in entries if entry.platform is None]
    if len(unnamed) == 1:
        return unnamed[0]
    offers = sorted({str(entry.platform) for entry in entries if entry.platform and entry.platform.os != "unknown"})
    raise NotFound(
        f"select platform {wanted}: the image has {', '.join(offers) or 'none'}",
        next_step=f"choose one with --platform, or an image for {wanted}",
        details={"kind": "platform"},
    )
