"""What this host's content has of an image: each of its manifests, for which platform, how large, whether whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hythe.digest import Digest
from hythe.errors import DataLoss, HytheError, InvalidArgument, NotFound
from hythe.oci import Descriptor, ImageConfig, Index, Manifest, Platform, default_platform
from hythe.oci.media_types import CONFIG_TYPES, DOCUMENT_TYPES
from hythe.oci.platform import preference
from hythe.ports.content import Content
from hythe_distribution.parsed import Documents
from hythe_distribution.presence import Presence, asked
from hythe_distribution.tree import MAX_DOCUMENTS, MAX_NESTED_INDEXES

MAX_LABELS_BYTES = 64 << 10
MAX_TEXT = 128

_UNKNOWN_OS = "unknown"


@dataclass(frozen=True, slots=True)
class Variant:
    """One manifest of an image as far as it is here. What cannot be read counts as not here.

    Attributes:
        platform: as the index says, else as the config; None when neither does.
        manifest, config: None when not here.
        problem: why manifest or config could not be read.
        present_bytes: how many of its `size_bytes` are here.
        missing: blobs that are not here, the manifest's own included.
    """

    descriptor: Descriptor
    platform: Platform | None
    manifest: Manifest | None = None
    config: ImageConfig | None = None
    problem: HytheError | None = field(default=None, compare=False)
    present_bytes: int = 0
    missing: tuple[Digest, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of config and layers, each blob once; 0 when the manifest isn't here."""
        return sum(blob.size_bytes for blob in self.blobs)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, each blob once; empty when the manifest isn't here."""
        if self.manifest is None:
            return ()
        return tuple({blob.digest: blob for blob in (self.manifest.config, *self.manifest.layers)}.values())

    @property
    def complete(self) -> bool:
        """Whether all of it is here and readable."""
        return self.manifest is not None and not self.missing and self.problem is None

    @property
    def runs(self) -> bool:
        """Whether it can be meant by a platform: what says ``unknown`` is about the image, not the image."""
        return self.platform is None or self.platform.os != _UNKNOWN_OS


@dataclass(frozen=True, slots=True)
class Image:
    """Everything below one root as far as it is here.

    Attributes:
        variants: its manifests in the order of its indexes; a root that isn't here is one without a manifest.
        present: size in bytes of each blob that is here: documents, configs, layers.
        problem: why not all of it was looked at.
    """

    root: Digest
    variants: tuple[Variant, ...]
    present: Mapping[Digest, int] = field(hash=False)
    problem: HytheError | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ImageContent:
    """An image in a few words, for lists.

    Attributes:
        platform: empty when no manifest of the image is here.
        size_bytes: compressed size of config and layers; None when no manifest is here.
        complete: every blob for `platform` is here.
        created: RFC 3339, as the image says; empty when it doesn't or its config isn't here.
        id: digest of its config; empty when unknown.
        platforms: all whose manifest is here.
        labels: as its config says; none when they are larger than `MAX_LABELS_BYTES`.
    """

    platform: str = ""
    size_bytes: int | None = None
    complete: bool = False
    created: str = ""
    id: str = ""
    platforms: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


def read_image(documents: Documents, presence: Presence, target: Descriptor) -> Image:
    """Return what is here of the image whose root is `target`; blocks on reads of documents that are not remembered.

    Never fails for what strangers wrote or a disk has changed: each `Variant` and the `Image` say what is wrong.
    """
    variants: list[Variant] = []
    present: dict[Digest, int] = {}
    looked_at: set[Digest] = set()
    waiting = [(target, 0)]
    problem: HytheError | None = None
    while waiting:
        descriptor, depth = waiting.pop()
        if descriptor.digest in looked_at:
            continue
        if len(looked_at) == MAX_DOCUMENTS or depth > MAX_NESTED_INDEXES:
            limit = f"more than {MAX_DOCUMENTS} manifests" if depth <= MAX_NESTED_INDEXES else "indexes nested too deep"
            problem = InvalidArgument(f"read image {target.digest}: {limit}")
            continue
        looked_at.add(descriptor.digest)
        if (size_bytes := presence(descriptor.digest)) is not None:
            present[descriptor.digest] = size_bytes
        if depth and descriptor.media_type not in DOCUMENT_TYPES:
            continue
        document, failure = _manifest(documents, descriptor, size_bytes)
        if isinstance(document, Index):
            waiting += [(entry, depth + 1) for entry in reversed(document.manifests)]
        elif document is None:
            variants.append(Variant(descriptor, descriptor.platform, problem=failure, missing=(descriptor.digest,)))
        else:
            variants.append(_variant(documents, presence, descriptor, document, present))
    return Image(target.digest, tuple(variants), present, problem)


def _manifest(
    documents: Documents, descriptor: Descriptor, size_bytes: int | None
) -> tuple[Manifest | Index | None, HytheError | None]:
    try:
        return (None if size_bytes is None else documents.manifest(descriptor.digest, descriptor.media_type)), None
    except (InvalidArgument, DataLoss) as error:
        return None, error


def _variant(
    documents: Documents, presence: Presence, descriptor: Descriptor, manifest: Manifest, present: dict[Digest, int]
) -> Variant:
    here: dict[Digest, int] = {}
    missing: dict[Digest, None] = {}
    for blob in (manifest.config, *manifest.layers):
        if (size_bytes := presence(blob.digest)) is None:
            missing[blob.digest] = None
        else:
            here[blob.digest] = size_bytes
    present.update(here)
    config, problem = None, None
    if manifest.config.digest in here and manifest.config.media_type in CONFIG_TYPES:
        try:
            config = documents.config(manifest.config.digest)
        except (InvalidArgument, DataLoss) as error:
            problem = error
    platform = descriptor.platform
    if platform is None and config is not None and config.platform.architecture:
        platform = config.platform
    return Variant(descriptor, platform, manifest, config, problem, sum(here.values()), tuple(missing))


def choose(image: Image, wanted: Platform | None = None) -> Variant:
    """Return the variant that `wanted` means; without it the one that runs here if its manifest is here, else one that is.

    Raises:
        NotFound: nothing in it runs on `wanted` (details ``kind=platform``), or there is no manifest at all.
    """
    running = [variant for variant in image.variants if variant.runs]
    if wanted is not None:
        for variant in _fitting(running, wanted):
            return variant
        offers = ", ".join(sorted({str(variant.platform) for variant in running if variant.platform})) or "none"
        raise NotFound(
            f"select platform {wanted}: the image has {offers}",
            next_step=f"choose one with --platform, or an image for {wanted}",
            details={"kind": "platform"},
        )
    candidates = [*_fitting(running, default_platform()), *running, *image.variants]
    for variant in candidates:
        if variant.manifest is not None:
            return variant
    if not candidates:
        raise NotFound(
            f"read image {image.root}: its index names no manifest",
            next_step="ask whoever made the image",
            details={"kind": "platform"},
        )
    return candidates[0]


def _fitting(variants: list[Variant], wanted: Platform) -> Iterator[Variant]:
    """Yield those that run on `wanted`, the best first; the only one that doesn't say where it runs comes last."""
    for platform in preference(wanted):
        for variant in variants:
            if variant.platform is not None and variant.platform.matches(platform):
                yield variant
    unnamed = [variant for variant in variants if variant.platform is None]
    if len(unnamed) == 1:
        yield unnamed[0]


def summarise(image: Image) -> ImageContent:
    """Return an image in a few words; what cannot be read counts as not here."""
    try:
        variant = choose(image)
    except NotFound:
        return ImageContent()
    if variant.manifest is None:
        return ImageContent()
    here = [other.platform for other in image.variants if other.manifest and other.runs and other.platform]
    config = variant.config
    return ImageContent(
        _short(str(variant.platform or "")),
        variant.size_bytes,
        variant.complete,
        _short(config.created) if config else "",
        str(variant.manifest.config.digest),
        tuple(dict.fromkeys(_short(str(platform)) for platform in here)),
        _bounded(config.labels) if config else {},
    )


def describe(content: Content, root: Digest) -> ImageContent:
    """Return what is here of the image of that root, in a few words; blocks on reads of its documents."""
    return summarise(read_image(Documents(content), asked(content), Descriptor("", root, 0)))


def readable(step: str, variant: Variant) -> tuple[Manifest, ImageConfig]:
    """Return manifest and config of a variant.

    Args:
        step: what they are needed for, e.g. ``show history of busybox``.

    Raises:
        NotFound: one of them isn't here (details ``kind=blob``).
        InvalidArgument, DataLoss: one of them is broken, hostile or was changed by the disk.
    """
    if variant.problem is not None:
        raise type(variant.problem)(
            f"{step}: a document of the image cannot be read",
            cause=variant.problem.whole,
            next_step="`hythe image check --verify` tells what is damaged; pull the image again"
            if isinstance(variant.problem, DataLoss)
            else "the image itself is broken: ask whoever made it, or pull another version",
        )
    if variant.manifest is not None and variant.manifest.config.media_type not in CONFIG_TYPES:
        raise InvalidArgument(
            f"{step}: it is no container image, its config is a {variant.manifest.config.media_type[:MAX_TEXT]}"
        )
    if variant.manifest is None or variant.config is None:
        absent = variant.manifest.config.digest if variant.manifest else variant.descriptor.digest
        raise NotFound(
            f"{step}: {'config' if variant.manifest else 'manifest'} {absent} is not here",
            next_step="pull the image again"
            + (f" with --platform {variant.platform}" if variant.platform is not None else ""),
            details={"kind": "blob"},
        )
    return variant.manifest, variant.config


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else ""


def _bounded(labels: Mapping[str, str]) -> Mapping[str, str]:
    return labels if sum(len(key) + len(value) for key, value in labels.items()) <= MAX_LABELS_BYTES else {}
