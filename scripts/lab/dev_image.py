"""The ``dev`` image, with which fetching and unpacking are measured: six layers of Debian 12's packages.

They have 13,000 entries, and about 210 MB, compressed by gzip from 580.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.lab import layout
from scripts.lab.debian_layers import chosen, download, layer
from scripts.lab.images import Image, ImageBuilder, machine_architecture

LAYERS: Mapping[str, Sequence[str]] = {
    "debian": ("?essential", "usr-is-merged", "apt", "ca-certificates"),
    "python": ("python3.11",),
    "numpy": ("python3-numpy", "libopenblas0-pthread"),
    "gcc": ("gcc-12",),
    "git": ("git",),
    "vim": ("vim", "libicu72"),
}
_PREFIX = "dev-"
_FORM = 1
"""To be raised when the same packages would make another image."""


def dev_image(cache: Path) -> Image:
    """Return the image of the newest packages that this machine's apt knows of; made only if `cache` hasn't got it.

    Making it downloads some 140 MB. In `cache` it is an OCI layout, ``dev-<key>``, tag ``dev``; one of older packages
    is removed.

    Raises:
        PackagesFailed: a package cannot be had; the message has what apt said.
    """
    packages = chosen(LAYERS)
    kept = cache / f"{_PREFIX}{key(packages)}"
    if not kept.is_dir():
        image = _build(packages)
        for older in cache.glob(f"{_PREFIX}*"):
            shutil.rmtree(older)
        layout.save(image, kept, "dev")
    return layout.load(kept)


def key(packages: Mapping[str, Sequence[str]]) -> str:
    """Return 12 hex digits that differ when a layer, a package, a version or the machine's architecture does."""
    lines = [f"{_FORM} {machine_architecture()}", *(f"{name}: {' '.join(own)}" for name, own in packages.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _build(packages: Mapping[str, Sequence[str]]) -> Image:
    builder = ImageBuilder().config(Cmd=["bash"], Env=["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"])
    with tempfile.TemporaryDirectory(prefix="hythe-dev-image-") as directory:
        download([name for names in packages.values() for name in names], Path(directory))
        for number, names in enumerate(packages.values()):
            builder = builder.layer(layer([Path(directory) / name for name in names], base=number == 0))
    return builder.build()
