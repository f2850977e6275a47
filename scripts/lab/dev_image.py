"""The ``dev`` image: six layers of Debian packages, some 200 MB compressed; what fetching and unpacking are measured with.

Each layer has the files of its packages, in the versions that Debian has now. No script of a package is run.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.lab.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Blob, Image, encode, machine_architecture

_CHUNK_BYTES = 1 << 20
_GZIP_LEVEL = 6
_MERGED = ("bin", "sbin", "lib")
_BINUTILS = f"binutils-{platform.machine().replace('_', '-')}-linux-gnu"
_PACKAGES: dict[str, str] = {
    "debian": (
        "apt base-files base-passwd bash bsdutils ca-certificates coreutils dash debianutils diffutils dpkg findutils "
        "gcc-12-base grep gzip hostname init-system-helpers libacl1 libapt-pkg6.0 libattr1 libblkid1 libbz2-1.0 libc-bin "
        "libc6 libcap2 libcrypt1 libgcc-s1 libgcrypt20 libgmp10 libgpg-error0 liblz4-1 liblzma5 libmd0 libmount1 "
        "libpam0g libpcre2-8-0 libselinux1 libsmartcols1 libssl3 libstdc++6 libsystemd0 libtinfo6 libudev1 libuuid1 "
        "libxxhash0 libzstd1 login mawk mount ncurses-base ncurses-bin openssl passwd perl-base sed sysvinit-utils tar "
        "tzdata util-linux zlib1g"
    ),
    "python": (
        "libexpat1 libffi8 libncursesw6 libnsl2 libpython3-stdlib libpython3.11-minimal libpython3.11-stdlib libreadline8 "
        "libsqlite3-0 libtirpc3 media-types python3 python3-minimal python3.11 python3.11-minimal readline-common"
    ),
    "numpy": "libblas3 libgfortran5 liblapack3 libopenblas0-pthread libquadmath0 python3-numpy",
    "gcc": (
        f"binutils {_BINUTILS} binutils-common cpp-12 gcc-12 libbinutils libc6-dev libcc1-0 libctf-nobfd0 libctf0 "
        "libgcc-12-dev libgomp1 libisl23 libjansson4 libmpc3 libmpfr6 linux-libc-dev make"
    ),
    "git": (
        "git git-man libbrotli1 libcurl3-gnutls liberror-perl libgdbm-compat4 libgdbm6 libgnutls30 libnghttp2-14 "
        "libperl5.36 perl perl-modules-5.36"
    ),
    "vim": "libgpm2 libicu72 libsodium23 vim vim-common vim-runtime",
}


class BuildFailed(Exception):
    """A package could not be had; the message has what apt said."""


@dataclass(frozen=True, slots=True)
class _Layer:
    blob: Blob
    diff_id: str


def dev_image(cache: Path) -> Image:
    """Return the image; its layers are kept below `cache`, and made only if they are not there.

    Raises:
        BuildFailed: a package cannot be downloaded.
        FileNotFoundError: apt-get, dpkg-deb or tar is missing.
    """
    cache.mkdir(parents=True, exist_ok=True)
    layers = [_layer(cache, number, name) for number, name in enumerate(_PACKAGES, 1)]
    config = Blob(
        encode(
            {
                "architecture": machine_architecture(),
                "os": "linux",
                "config": {"Cmd": ["bash"], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]},
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            }
        ),
        OCI_CONFIG,
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.descriptor(),
        "layers": [layer.blob.descriptor() for layer in layers],
    }
    blobs = (config, *(layer.blob for layer in layers))
    return Image(Blob(encode(manifest), OCI_MANIFEST), blobs, "linux", machine_architecture())


def _layer(cache: Path, number: int, name: str) -> _Layer:
    packages = _PACKAGES[name].split()
    key = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:8]
    archive = cache / f"{number}-{name}-{key}.tar.gz"
    digest = archive.with_suffix(".diff_id")
    if not digest.exists():
        with tempfile.TemporaryDirectory(prefix="hythe-dev-image-", dir=cache) as directory:
            root = Path(directory) / "root"
            _unpack(packages, Path(directory), root)
            partial = Path(directory) / "layer"
            diff_id = _pack(root, partial)
            partial.replace(archive)
            digest.write_text(diff_id)
    return _Layer(Blob(archive.read_bytes(), f"{OCI_LAYER}+gzip"), digest.read_text())


def _unpack(packages: Sequence[str], directory: Path, root: Path) -> None:
    """Put the files of packages below `root`, which has Debian's merged /usr."""
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    (root / "lib64").symlink_to("usr/lib64")
    (root / "usr" / "lib64").mkdir()
    downloads = directory / "packages"
    downloads.mkdir(mode=0o755)
    command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *packages]
    done = subprocess.run(command, cwd=downloads, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildFailed(f"download {' '.join(packages)}: run `apt-get update`, then try again\n{done.stderr}")
    for package in sorted(downloads.glob("*.deb")):
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as files:
            subprocess.run(
                ["tar", "--extract", "--keep-directory-symlink", "--directory", str(root)],
                stdin=files.stdout,
                check=True,
            )
        if files.returncode != 0:
            raise BuildFailed(f"unpack {package.name}: dpkg-deb failed")
    shutil.rmtree(downloads)


def _pack(root: Path, archive: Path) -> str:
    """Write `root` as a compressed layer; return its DiffID."""
    command = ["tar", "--create", "--sort=name", "--numeric-owner", "--directory", str(root), "."]
    hasher = hashlib.sha256()
    compressor = zlib.compressobj(_GZIP_LEVEL, wbits=31)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tar, archive.open("wb") as out:
        assert tar.stdout is not None
        while chunk := tar.stdout.read(_CHUNK_BYTES):
            hasher.update(chunk)
            out.write(compressor.compress(chunk))
        out.write(compressor.flush())
    if tar.returncode != 0:
        raise BuildFailed(f"pack {root}: tar failed")
    return f"sha256:{hasher.hexdigest()}"
