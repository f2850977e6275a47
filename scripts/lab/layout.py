"""Images made in memory, kept in a directory that skopeo and umoci read as well.

Spec: OCI image-spec, "Image Layout".
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from scripts.lab.images import Blob, Image, encode


def save(image: Image, directory: Path, name: str) -> None:
    """Write `image` as an OCI layout to the new `directory`, whole or not at all; `name` is its tag in it.

    Raises:
        OSError: `directory` holds something, or cannot be written.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{directory.name}-", dir=directory.parent))
    try:
        (partial / "blobs/sha256").mkdir(parents=True)
        for blob in (*image.blobs, image.manifest):
            _file(partial, blob.digest).write_bytes(blob.data)
        entry = image.manifest.descriptor(annotations={"org.opencontainers.image.ref.name": name})
        (partial / "index.json").write_bytes(encode({"schemaVersion": 2, "manifests": [entry]}))
        (partial / "oci-layout").write_bytes(encode({"imageLayoutVersion": "1.0.0"}))
        partial.chmod(0o755)
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load(directory: Path) -> Image:
    """Return the one image that `save` wrote to `directory`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file of it has changed.
    """
    (entry,) = json.loads((directory / "index.json").read_bytes())["manifests"]
    manifest = _read(directory, entry)
    named = json.loads(manifest.data)
    blobs = tuple(_read(directory, descriptor) for descriptor in (named["config"], *named["layers"]))
    config = json.loads(blobs[0].data)
    return Image(manifest, blobs, config["os"], config["architecture"])


def _read(directory: Path, descriptor: dict[str, Any]) -> Blob:
    blob = Blob(_file(directory, descriptor["digest"]).read_bytes(), descriptor["mediaType"])
    if blob.digest != descriptor["digest"]:
        raise ValueError(f"read {descriptor['digest']} of {directory}: the file has changed")
    return blob


def _file(directory: Path, digest: str) -> Path:
    return directory / "blobs/sha256" / digest.removeprefix("sha256:")
