"""Docker's archive (``docker save``): ``manifest.json`` lists images by the names of their files, without digests."""

from __future__ import annotations

import json
from collections.abc import Mapping

from hythe.digest import Digest
from hythe.errors import DataLoss, InvalidArgument
from hythe.oci import Descriptor, parse_config
from hythe.oci.fields import MAX_DOCUMENT_BYTES, Fields, load_objects
from hythe.oci.manifest import MAX_LAYERS, MAX_MANIFESTS
from hythe.oci.media_types import DOCKER_CONFIG, DOCKER_MANIFEST
from hythe.ports.content import Content
from hythe.reference import Reference, parse_reference
from hythe_distribution.archive.compression import layer_compression
from hythe_distribution.archive.intake import Holdings, StoredBlob
from hythe_distribution.archive.roots import Root
from hythe_distribution.archive.storing import stored_document
from hythe_distribution.documents import keep_document

LIST_FILE = "manifest.json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


def is_docker_archive(holdings: Holdings) -> bool:
    """Tell whether an archive has Docker's list of images."""
    return holdings.documents.get(LIST_FILE, b"").lstrip()[:1] == b"["


def repo_tags(holdings: Holdings) -> Mapping[Digest, tuple[Reference, ...]]:
    """Return the names in Docker's list, if there is one, by the digest of the image's config.

    Raises:
        InvalidArgument: the list is broken, or names files that aren't in the archive.
    """
    found: dict[Digest, tuple[Reference, ...]] = {}
    for item in _images(holdings) if is_docker_archive(holdings) else ():
        config = holdings.find(item.text("Config"), "image config").digest
        found[config] = (*found.get(config, ()), *_names(item))
    return found


def docker_roots(holdings: Holdings, content: Content) -> tuple[Root, ...]:
    """Return the images of a docker-archive; the manifest that each lacks is made, stored and added to `holdings`.

    The manifest is the one that containerd makes: config and layers as they are, so that the image's id is Docker's.

    Raises:
        InvalidArgument: the list or a config is broken, or names files that aren't in the archive.
        DataLoss: an uncompressed layer isn't the one that the config tells of.
        HytheError: see `Content.open_ingest` and `Ingest.write`.
    """
    roots = []
    for item in _images(holdings):
        raw = _manifest(item, holdings, content)
        digest = keep_document(content, raw)
        holdings.blobs[f"blobs/sha256/{digest.hex}"] = StoredBlob(digest, len(raw))
        roots.append(Root(Descriptor(DOCKER_MANIFEST, digest, len(raw)), _names(item)))
    return tuple(roots)


def _images(holdings: Holdings) -> tuple[Fields, ...]:
    items = load_objects(holdings.documents[LIST_FILE], LIST_FILE)
    if not 0 < len(items) <= MAX_MANIFESTS:
        raise InvalidArgument(f"import archive: manifest.json lists {len(items)} images, not 1 to {MAX_MANIFESTS}")
    return items


def _names(item: Fields) -> tuple[Reference, ...]:
    return tuple(parse_reference(name) for name in item.texts("RepoTags"))


def _manifest(item: Fields, holdings: Holdings, content: Content) -> bytes:
    config_blob = holdings.find(item.text("Config"), "image config")
    if config_blob.size_bytes > MAX_DOCUMENT_BYTES:
        raise item.refuse("Config", f"has {config_blob.size_bytes} bytes, more than {MAX_DOCUMENT_BYTES}")
    config = parse_config(stored_document(content, config_blob.digest))
    names = item.texts("Layers")
    if len(names) != len(config.diff_ids) or len(names) > MAX_LAYERS:
        raise item.refuse("Layers", f"has {len(names)} items, the image config {len(config.diff_ids)} diff ids")
    layers = []
    for name, diff_id in zip(names, config.diff_ids, strict=True):
        layer = holdings.find(name, "layer")
        compression = layer_compression(b"".join(content.read(layer.digest, 0, 4)))
        if not compression and layer.digest != diff_id:
            raise DataLoss(f"import archive: layer {name[:200]} is {layer.digest}, not {diff_id} as the config says")
        layers.append(_descriptor(f"{_LAYER}.{compression}" if compression else _LAYER, layer))
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": _descriptor(DOCKER_CONFIG, config_blob),
        "layers": layers,
    }
    return json.dumps(manifest, separators=(",", ":")).encode()


def _descriptor(media_type: str, blob: StoredBlob) -> dict[str, str | int]:
    return {"mediaType": media_type, "digest": str(blob.digest), "size": blob.size_bytes}
