"""Archives of images as other tools write them, made in memory and in any order, honest or not."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scripts.lab.images import Blob, Image, Index, Layer, digest_text, encode

Files = dict[str, bytes]


def tar_of(files: Mapping[str, bytes], *more: tarfile.TarInfo) -> bytes:
    """Return an archive of `files` in their order, then the entries `more`, which have no data."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for entry in more:
            archive.addfile(entry)
    return out.getvalue()


def tar_of_directory(directory: Path) -> bytes:
    """Return an archive of what lies in `directory`, under its relative names."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path in sorted(directory.iterdir()):
            archive.add(path, path.name)
    return out.getvalue()


def link(name: str, target: str, *, hard: bool = False) -> tarfile.TarInfo:
    """Return a symbolic or hard link."""
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.LNKTYPE if hard else tarfile.SYMTYPE
    entry.linkname = target
    return entry


def members(archive: bytes) -> Files:
    """Return the files of an archive by name."""
    return dict(_members(archive))


def _members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        for entry in opened:
            file = opened.extractfile(entry)
            if file is not None:
                yield entry.name, file.read()


def oci_layout(*images: tuple[Image | Index, Mapping[str, str]]) -> Files:
    """Return the files of an OCI layout of `images`, each with the annotations of its entry in index.json."""
    entries = [image.root.descriptor(**({"annotations": notes} if notes else {})) for image, notes in images]
    blobs = [blob for image, _ in images for blob in (*image.blobs, *image.manifests)]
    return {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": encode({"schemaVersion": 2, "manifests": entries}),
        **{blob_path(blob): blob.data for blob in blobs},
    }


def blob_path(blob: Blob) -> str:
    """Return where an OCI layout has a blob."""
    return f"blobs/sha256/{blob.digest.removeprefix('sha256:')}"


def docker_archive(*images: tuple[Image, Sequence[str]]) -> Files:
    """Return the files of Docker's older archive: a directory for each layer, ``manifest.json`` last."""
    files: Files = {}
    items = []
    for image, tags in images:
        config = image.config.digest.removeprefix("sha256:")
        layers = []
        for layer in image.layers:
            directory = digest_text(layer.data + b"id").removeprefix("sha256:")
            files |= {f"{directory}/VERSION": b"1.0", f"{directory}/json": b"{}", f"{directory}/layer.tar": layer.data}
            layers.append(f"{directory}/layer.tar")
        files[f"{config}.json"] = image.config.data
        items.append({"Config": f"{config}.json", "RepoTags": list(tags), "Layers": layers})
    return {**files, "manifest.json": json.dumps(items).encode(), "repositories": b"{}"}


def aci_manifest(**fields: object) -> bytes:
    """Return the manifest of an App Container Image called example.com/worker, with `fields` set."""
    return encode({"acKind": "ImageManifest", "acVersion": "0.8.10", "name": "example.com/worker", **fields})


def aci(manifest: bytes, rootfs: Layer, *, manifest_first: bool = True) -> bytes:
    """Return an App Container Image; `rootfs` has the entries, under names that begin with ``rootfs/``."""
    entry = tarfile.TarInfo("manifest")
    entry.size = len(manifest)
    whole = Layer()
    if manifest_first:
        whole.raw(entry, manifest)
    for inner, data in rootfs.entries:
        whole.raw(inner, data)
    return whole.tar() if manifest_first else whole.raw(entry, manifest).tar()
