"""What a carried bundle is: its files, its record, its form in a registry, and what of a config.json can be carried.

A carried bundle is a directory with ``config.json``, ``rootfs/`` and, where Hythe made it, ``hythe.json``: the record. None of
them names a path of Hythe's own (ADR 0031).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hythe.digest import parse_digest
from hythe.errors import InvalidArgument
from hythe.oci import Descriptor, Manifest
from hythe.oci.fields import load_object
from hythe.oci.media_types import LAYER_COMPRESSION, OCI_MANIFEST
from hythe_bundle.foreign import CONFIG, MAX_CONFIG_BYTES, OUR_ANNOTATIONS, STOP_SIGNAL_ANNOTATION, is_bind

RECORD = "hythe.json"
ROOTFS = "rootfs"
FORMAT = 1
MAX_RECORD_BYTES = 1 << 20
MAX_REFERENCE_LENGTH = 512
ARTIFACT_TYPE = "application/vnd.hythe.bundle.v1+json"
CONFIG_TYPE = "application/vnd.hythe.bundle.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class Source:
    """The image that a bundle was made from; empty where nobody knows."""

    reference: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Files:
    """The small files of a carried bundle, byte for byte; an empty record stands for none."""

    config: bytes
    record: bytes = b""

    @property
    def by_name(self) -> dict[str, bytes]:
        """Those that there are."""
        return {name: data for name, data in ((CONFIG, self.config), (RECORD, self.record)) if data}


def make_record(
    source: Source, config: Mapping[str, Any], stop_signal: str, created_at: str, digests: Mapping[str, str]
) -> bytes:
    """Return the text of ``hythe.json``; `digests` are those of the image's manifest and config."""
    record = {
        "format": FORMAT,
        "image": {"reference": source.reference, "digest": source.digest, **digests},
        "args": config["process"]["args"],
        "stop_signal": stop_signal,
        "created_at": created_at,
    }
    return text_of(record)


def read_record(raw: bytes, where: str) -> Source:
    """Return what a ``hythe.json`` says of the image that its bundle was made from. It is data, and decides nothing.

    Raises:
        InvalidArgument: it is no record of a format that is known here.
    """
    if not raw:
        return Source()
    fields = load_object(raw, where)
    fields.number("format", FORMAT)
    image = fields.child("image")
    reference, digest = image.text("reference"), image.text("digest")
    if digest:
        parse_digest(digest)
    return Source(reference[:MAX_REFERENCE_LENGTH], digest)


def portable(config: Mapping[str, Any], own_root: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a config.json of Hythe's as it can be carried elsewhere, and the mounts that had to be left out.

    Its root file system lies beside it, the runtime chooses its cgroup, and what would be bound from below `own_root`,
    Hythe's own directory, is left out.
    """
    mounts = config.get("mounts") or []
    left_out = [mount for mount in mounts if is_bind(mount) and _is_below(str(mount.get("source", "")), own_root)]
    annotations = {
        key: value for key, value in (config.get("annotations") or {}).items() if not key.startswith(OUR_ANNOTATIONS)
    }
    made = {
        **config,
        "root": {**config["root"], "path": ROOTFS},
        "mounts": [mount for mount in mounts if mount not in left_out],
        "linux": {key: value for key, value in config["linux"].items() if key != "cgroupsPath"},
    }
    if annotations:
        made["annotations"] = annotations
    else:
        made.pop("annotations", None)
    return made, tuple(str(mount.get("destination", "")) for mount in left_out)


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory}/")


def with_stop_signal(config: Mapping[str, Any], signal: str) -> dict[str, Any]:
    """Return a config.json that says by an annotation which signal asks its container to end, for the spec has no field."""
    return {**config, "annotations": {**(config.get("annotations") or {}), STOP_SIGNAL_ANNOTATION: signal}}


def text_of(value: Mapping[str, Any]) -> bytes:
    """Return an object as the text of a file that people read, too."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def artifact_config(files: Files) -> bytes:
    """Return the config blob of an artifact: the small files as texts, so that they come back byte for byte."""
    return json.dumps({name: data.decode() for name, data in files.by_name.items()}, sort_keys=True).encode()


def files_of_artifact(raw: bytes, where: str) -> Files:
    """Return the small files that a config blob holds.

    Raises:
        InvalidArgument: it has no config.json, or one of them is too large.
    """
    fields = load_object(raw, where)
    config, record = fields.text(CONFIG).encode(), fields.text(RECORD).encode()
    if not config:
        raise fields.refuse(CONFIG, "is missing")
    if len(config) > MAX_CONFIG_BYTES or len(record) > MAX_RECORD_BYTES:
        raise fields.refuse(CONFIG, "or the record is larger than a bundle's may be")
    return Files(config, record)


def artifact_manifest(config: Descriptor, layer: Descriptor) -> bytes:
    """Return the manifest of an artifact; the same parts give the same bytes.

    Spec: OCI image-spec, "Guidelines for Artifact Usage".
    """
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": _descriptor(config),
        "layers": [_descriptor(layer)],
    }
    return json.dumps(manifest, separators=(",", ":")).encode()


def _descriptor(blob: Descriptor) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size_bytes}


def parts_of(manifest: Manifest, name: str) -> tuple[Descriptor, Descriptor]:
    """Return config and layer of an artifact.

    Raises:
        InvalidArgument: it is no packed bundle.
    """
    if manifest.artifact_type != ARTIFACT_TYPE or manifest.config.media_type != CONFIG_TYPE:
        kind = manifest.artifact_type or manifest.config.media_type
        raise InvalidArgument(
            f"read bundle {name}: it is no packed bundle but a {kind[:100]}",
            next_step="an image becomes a bundle by `hythe bundle create`",
        )
    if len(manifest.layers) != 1 or manifest.layers[0].media_type not in LAYER_COMPRESSION:
        raise InvalidArgument(f"read bundle {name}: a packed bundle has one layer, its root file system")
    return manifest.config, manifest.layers[0]
