"""Images made in memory: layers entry by entry, configs, manifests and indexes, in OCI's or Docker's media types."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

Compression = Literal["gzip", "zstd", "none"]
Flavour = Literal["oci", "docker"]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

_GZIP_LEVEL = 6
_SUFFIX: dict[Compression, str] = {"gzip": "+gzip", "zstd": "+zstd", "none": ""}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64", "ppc64le": "ppc64le"}


def digest_text(data: bytes) -> str:
    """Return ``sha256:<hex>`` of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def machine_architecture() -> str:
    """Return this machine's architecture as images name it, e.g. ``amd64``."""
    return _MACHINES.get(platform.machine(), platform.machine())


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes with their media type."""

    data: bytes
    media_type: str

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of the bytes."""
        return digest_text(self.data)

    def descriptor(self, **extra: Any) -> dict[str, Any]:
        """Return the OCI descriptor of this blob with `extra` fields."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data), **extra}


class Layer:
    """A layer as a list of tar entries in the order they were added; every method returns the layer itself."""

    def __init__(self) -> None:
        self._entries: list[tuple[tarfile.TarInfo, bytes]] = []

    @property
    def entries(self) -> tuple[tuple[tarfile.TarInfo, bytes], ...]:
        """The entries with their data, in order."""
        return tuple(self._entries)

    def raw(self, entry: tarfile.TarInfo, data: bytes = b"") -> Layer:
        """Add any entry as it is, hostile ones too."""
        self._entries.append((entry, data))
        return self

    def file(
        self,
        path: str,
        data: bytes = b"",
        *,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        mtime_s: int = 0,
        xattrs: Mapping[str, str] | None = None,
    ) -> Layer:
        """Add a regular file; `xattrs` travel as ``SCHILY.xattr.`` pax records."""
        entry = _entry(path, tarfile.REGTYPE, mode, uid, gid, mtime_s, xattrs)
        entry.size = len(data)
        return self.raw(entry, data)

    def directory(
        self,
        path: str,
        *,
        mode: int = 0o755,
        uid: int = 0,
        gid: int = 0,
        mtime_s: int = 0,
        xattrs: Mapping[str, str] | None = None,
    ) -> Layer:
        """Add a directory."""
        return self.raw(_entry(path, tarfile.DIRTYPE, mode, uid, gid, mtime_s, xattrs))

    def symlink(self, path: str, target: str, *, uid: int = 0, gid: int = 0) -> Layer:
        """Add a symbolic link at `path` that points to `target`."""
        entry = _entry(path, tarfile.SYMTYPE, 0o777, uid, gid)
        entry.linkname = target
        return self.raw(entry)

    def hardlink(self, path: str, target: str) -> Layer:
        """Add a second name `path` of the file `target`."""
        entry = _entry(path, tarfile.LNKTYPE, 0o644)
        entry.linkname = target
        return self.raw(entry)

    def device(self, path: str, kind: Literal["char", "block"], major: int, minor: int, *, mode: int = 0o600) -> Layer:
        """Add a device node."""
        entry = _entry(path, tarfile.CHRTYPE if kind == "char" else tarfile.BLKTYPE, mode)
        entry.devmajor, entry.devminor = major, minor
        return self.raw(entry)

    def fifo(self, path: str, *, mode: int = 0o600) -> Layer:
        """Add a named pipe."""
        return self.raw(_entry(path, tarfile.FIFOTYPE, mode))

    def whiteout(self, path: str) -> Layer:
        """Say that `path` of the layers below is gone."""
        directory, _, name = path.rpartition("/")
        return self.file(f"{directory}/.wh.{name}".lstrip("/"))

    def opaque(self, directory: str) -> Layer:
        """Say that what the layers below have in `directory` is gone."""
        return self.file(f"{directory.rstrip('/')}/.wh..wh..opq".lstrip("/"))

    def tar(self) -> bytes:
        """Return the uncompressed archive; the same entries give the same bytes."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for entry, data in self._entries:
                archive.addfile(entry, io.BytesIO(data))
        return out.getvalue()


def _entry(
    path: str,
    kind: bytes,
    mode: int,
    uid: int = 0,
    gid: int = 0,
    mtime_s: int = 0,
    xattrs: Mapping[str, str] | None = None,
) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.uid, entry.gid, entry.mtime = kind, mode, uid, gid, mtime_s
    entry.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in (xattrs or {}).items()}
    return entry


def compress(data: bytes, compression: Compression) -> bytes:
    """Return `data` compressed; gzip as most tools do, but without a time stamp: the same input gives the same digest."""
    if compression == "gzip":
        return gzip.compress(data, _GZIP_LEVEL, mtime=0)
    if compression == "zstd":
        from backports import zstd

        return zstd.compress(data)
    return data


@dataclass(frozen=True, slots=True)
class Image:
    """One image for one platform: its manifest and every blob that the manifest names."""

    manifest: Blob
    blobs: tuple[Blob, ...]
    os: str
    architecture: str

    @property
    def manifests(self) -> tuple[Blob, ...]:
        """The manifests to put, the root last."""
        return (self.manifest,)

    @property
    def root(self) -> Blob:
        """What a tag points to."""
        return self.manifest

    @property
    def layers(self) -> tuple[Blob, ...]:
        """The layers from the bottom up."""
        return self.blobs[1:]

    @property
    def config(self) -> Blob:
        """The image config."""
        return self.blobs[0]


@dataclass(frozen=True, slots=True)
class Index:
    """An index (Docker: manifest list) over images of several platforms."""

    root: Blob
    images: tuple[Image, ...]

    @property
    def manifests(self) -> tuple[Blob, ...]:
        """The manifests to put, the index itself last."""
        return (*(image.manifest for image in self.images), self.root)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Every config and layer of every image."""
        return tuple(blob for image in self.images for blob in image.blobs)


@dataclass(frozen=True, slots=True)
class ImageBuilder:
    """Collects layers and config and makes an `Image`; immutable, each method returns a new builder.

    Attributes:
        settings: the ``config`` object of the image config, e.g. ``{"Cmd": ["/bin/sh"]}``.
        diff_ids: digests to write in place of the true ones, for a config that lies; empty writes the true ones.
    """

    flavour: Flavour = "oci"
    os: str = "linux"
    architecture: str = field(default_factory=machine_architecture)
    settings: Mapping[str, Any] = field(default_factory=dict)
    tars: tuple[tuple[bytes, Compression], ...] = ()
    diff_ids: tuple[str, ...] = ()

    def layer(self, layer: Layer | bytes, compression: Compression = "gzip") -> ImageBuilder:
        """Put a layer (or an uncompressed archive as bytes) on top."""
        tar = layer.tar() if isinstance(layer, Layer) else layer
        return replace(self, tars=(*self.tars, (tar, compression)))

    def config(self, **settings: Any) -> ImageBuilder:
        """Set fields of the image config by their OCI names: ``config(Cmd=["/bin/sh"], User="1000")``."""
        return replace(self, settings={**self.settings, **settings})

    def build(self) -> Image:
        """Return the image; the same input gives the same digests."""
        oci = self.flavour == "oci"
        layer_type = OCI_LAYER if oci else DOCKER_LAYER
        layers = []
        for tar, compression in self.tars:
            suffix = _SUFFIX[compression] if oci else _SUFFIX[compression].replace("+", ".")
            layers.append(Blob(compress(tar, compression), layer_type + suffix))
        config = Blob(
            encode(
                {
                    "architecture": self.architecture,
                    "os": self.os,
                    "config": dict(self.settings),
                    "rootfs": {
                        "type": "layers",
                        "diff_ids": list(self.diff_ids) or [digest_text(tar) for tar, _ in self.tars],
                    },
                }
            ),
            OCI_CONFIG if oci else DOCKER_CONFIG,
        )
        media_type = OCI_MANIFEST if oci else DOCKER_MANIFEST
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config.descriptor(),
            "layers": [layer.descriptor() for layer in layers],
        }
        return Image(Blob(encode(manifest), media_type), (config, *layers), self.os, self.architecture)


def index(images: Sequence[Image], flavour: Flavour = "oci") -> Index:
    """Return an index over `images`, in their order."""
    media_type = OCI_INDEX if flavour == "oci" else DOCKER_INDEX
    entries = [
        image.manifest.descriptor(platform={"os": image.os, "architecture": image.architecture}) for image in images
    ]
    root = Blob(encode({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}), media_type)
    return Index(root, tuple(images))


def encode(value: object) -> bytes:
    """Return `value` as compact JSON in a fixed order of keys."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def busybox_layer(program: Path = Path("/bin/busybox")) -> Layer:
    """Return a small Linux system: the static busybox `program` under the names of its applets, users, and /tmp.

    Raises:
        FileNotFoundError: `program` is missing; Debian's package busybox-static has it.
    """
    layer = Layer()
    for path in ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "usr", "var"):
        layer.directory(path, mode=0o700 if path == "root" else 0o755)
    layer.directory("tmp", mode=0o1777)
    layer.file("bin/busybox", program.read_bytes(), mode=0o755)
    applets = subprocess.run([str(program), "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            layer.symlink(f"bin/{applet}", "busybox")
    layer.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n")
    layer.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    return layer


def busybox(flavour: Flavour = "oci") -> ImageBuilder:
    """Return a builder that already holds `busybox_layer`, with ``sh`` as its command."""
    return ImageBuilder(flavour).layer(busybox_layer()).config(Cmd=["sh"], Env=["PATH=/bin"])
