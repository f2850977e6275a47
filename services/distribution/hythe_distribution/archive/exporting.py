"""Exporting: images as a tar archive, the same bytes for the same images every time, each blob verified on its way out."""

from __future__ import annotations

import contextvars
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from hythe import tracing
from hythe.archive.writer import END_MARK, header, padding
from hythe.digest import verified
from hythe.oci import Descriptor
from hythe.oci.media_types import CONFIG_TYPES, LAYER_COMPRESSION, OCI_INDEX
from hythe.ports.content import Content
from hythe.reference import Reference
from hythe_distribution.archive.docker import LIST_FILE
from hythe_distribution.archive.exportable import Export, ExportedImage, ExportOptions, plan_export
from hythe_distribution.archive.layout import INDEX_FILE, LAYOUT_FILE, LAYOUT_VERSION
from hythe_distribution.archive.reader import DIRECTORY, Entry
from hythe_distribution.archive.roots import IMAGE_NAME, REF_NAME

_SUFFIX = {"": ".tar", "gzip": ".tar.gz", "zstd": ".tar.zst"}


@dataclass(frozen=True, slots=True)
class _File:
    """One entry of the archive: a document, a blob, or with neither a directory."""

    name: str
    document: bytes | None = None
    blob: Descriptor | None = None

    @property
    def entry(self) -> Entry:
        if self.document is None and self.blob is None:
            return Entry(self.name.encode(), DIRECTORY, mode=0o755)
        size_bytes = self.blob.size_bytes if self.blob is not None else len(self.document or b"")
        return Entry(self.name.encode(), size_bytes=size_bytes)


def check_exportable(
    roots: Sequence[tuple[Reference | None, Descriptor]], content: Content, options: ExportOptions
) -> int:
    """Return how many bytes the archive of `roots` will have, if all that belongs into it is here. Blocks.

    Raises:
        HytheError: see `plan_export`.
    """
    files = _files(plan_export(roots, content, options), options)
    return sum(len(header(entry)) + _padded(entry.size_bytes) for entry in (file.entry for file in files)) + len(
        END_MARK
    )


def export_archive(
    roots: Sequence[tuple[Reference | None, Descriptor]], content: Content, options: ExportOptions
) -> Iterator[bytes]:
    """Return the archive of `roots` as chunks of at most 1 MiB, to be taken by one thread at a time; taking one blocks.

    The same roots give the same bytes: entries are sorted and have neither times nor owners. Several names of one image,
    and several images with common blobs, hold each blob once.

    Raises:
        HytheError: see `plan_export`; raised by the call itself.
        DataLoss: a blob is not what its digest promises. Raised while chunks are taken, and the archive has no end then.
        NotFound: a blob was deleted meanwhile; raised while chunks are taken.
    """
    files = _files(plan_export(roots, content, options), options)
    return _in_context(contextvars.copy_context(), _stream(files, content, len(roots)))


def _in_context(context: contextvars.Context, chunks: Generator[bytes]) -> Iterator[bytes]:
    """Pass `chunks` through, always run in `context`: a span stays open between them, whichever thread takes them."""
    try:
        while (chunk := context.run(next, chunks, None)) is not None:
            yield chunk
    finally:
        context.run(chunks.close)


def _stream(files: Sequence[_File], content: Content, images: int) -> Generator[bytes]:
    with tracing.span("export archive", archive__images=images, archive__files=len(files)):
        for file in files:
            entry = file.entry
            yield header(entry)
            if file.document is not None:
                yield file.document
            elif file.blob is not None:
                digest, size_bytes = file.blob.digest, file.blob.size_bytes
                yield from verified(content.read(digest), digest, size_bytes, str(digest))
            if fill := padding(entry.size_bytes):
                yield fill
        yield END_MARK


def _files(export: Export, options: ExportOptions) -> list[_File]:
    if options.format == "docker":
        files = _docker_blobs(export)
        files.append(_File(LIST_FILE, _docker_list(export.images, _docker_name)))
    else:
        files = [_File("blobs"), _File("blobs/sha256")]
        files += [_File(_blob_path(blob), blob=blob) for blob in export.blobs]
        files.append(_File(LAYOUT_FILE, _encode({"imageLayoutVersion": LAYOUT_VERSION})))
        files.append(_File(INDEX_FILE, _index(export.images)))
        if any(image.manifest is not None for image in export.images):
            files.append(_File(LIST_FILE, _docker_list(export.images, _blob_path)))
    return sorted(files, key=lambda file: file.name)


def _docker_blobs(export: Export) -> list[_File]:
    found: dict[str, _File] = {}
    for image in export.images:
        if image.manifest is not None:
            for blob in (image.manifest.config, *image.manifest.layers):
                found[_docker_name(blob)] = _File(_docker_name(blob), blob=blob)
    return list(found.values())


def _docker_list(images: Sequence[ExportedImage], name_of: Callable[[Descriptor], str]) -> bytes:
    """Return Docker's list: one item for each image of one platform, with the names that have a tag, as people write them."""
    found: dict[tuple[str, ...], list[str]] = {}
    for image in images:
        if image.manifest is None:
            continue
        names = found.setdefault(tuple(name_of(blob) for blob in (image.manifest.config, *image.manifest.layers)), [])
        if image.reference is not None and image.reference.tag is not None:
            name = replace(image.reference, digest=None).familiar
            if name not in names:
                names.append(name)
    items = [{"Config": config, "RepoTags": names, "Layers": layers} for (config, *layers), names in found.items()]
    return _encode(items)


def _index(images: Sequence[ExportedImage]) -> bytes:
    entries = [
        {
            "mediaType": image.target.media_type,
            "digest": str(image.target.digest),
            "size": image.target.size_bytes,
            **_annotations(image),
        }
        for image in images
    ]
    return _encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})


def _annotations(image: ExportedImage) -> dict[str, dict[str, str]]:
    """Return the name of an image as containerd's annotation, and its tag as OCI's."""
    reference = image.reference
    if reference is None:
        return {}
    tag = {REF_NAME: reference.tag} if reference.tag is not None else {}
    return {"annotations": {IMAGE_NAME: str(reference), **tag}}


def _blob_path(blob: Descriptor) -> str:
    return f"blobs/sha256/{blob.digest.hex}"


def _docker_name(blob: Descriptor) -> str:
    if blob.media_type in CONFIG_TYPES:
        return f"{blob.digest.hex}.json"
    return blob.digest.hex + _SUFFIX[LAYER_COMPRESSION.get(blob.media_type, "")]


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _padded(size_bytes: int) -> int:
    return size_bytes + len(padding(size_bytes))
