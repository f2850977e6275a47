"""``python -m scripts.lab.record_ctr``: record what containerd's own applier makes of the cases, and of the dev image.

Needs root, containerd and ctr (Debian packages ``containerd``). Written are the files in ``tests/data/unpack`` that
`tests/integration/bundle/test_like_containerd.py` compares with; to be run again when a case changes.
"""

from __future__ import annotations

import argparse
import gzip
import io
import re
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from bench.peers import Containerd
from scripts.lab import cut_layers, layout, trees
from scripts.lab.images import Image, ImageBuilder, encode
from scripts.lab.unpack_cases import all_cases, digest

DATA = Path(__file__).parents[2] / "tests/data/unpack"
_NAME = "cases.test/image:latest"


class Engine:
    """containerd while it is asked."""

    def __init__(self, directory: Path) -> None:
        self._ctr = ["ctr", "--address", str(directory / "peer/containerd.sock")]
        self._directory = directory
        self._number = 0

    def unpacked(self, image: Image) -> dict[str, object]:
        """Return ``{"tree": …}`` as `trees.describe` says, or ``{"refused": why}``."""
        self._number += 1
        archive, since_ns = self._directory / "image.tar", time.time_ns()
        archive.write_bytes(_oci_archive(image))
        done = self._run("images", "import", str(archive))
        try:
            if done.returncode:
                return {"refused": _reason(done.stderr.decode())}
            return {"tree": self._tree(since_ns)}
        finally:
            self._run("images", "rm", "--sync", _NAME)

    def _tree(self, since_ns: int) -> trees.Tree:
        point = self._directory / f"view-{self._number}"
        point.mkdir()
        self._checked("images", "mount", _NAME, str(point))
        try:
            return trees.describe(point, since_ns)
        finally:
            self._checked("images", "unmount", "--rm", str(point))

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*self._ctr, *arguments], capture_output=True, check=False)

    def _checked(self, *arguments: str) -> bytes:
        done = self._run(*arguments)
        if done.returncode:
            raise RuntimeError(f"ctr {' '.join(arguments)}: {done.stderr.decode()}")
        return done.stdout


def _oci_archive(image: Image) -> bytes:
    """Return an OCI layout in an archive that names the image."""
    entry = image.manifest.descriptor(annotations={"io.containerd.image.name": _NAME})
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": encode({"schemaVersion": 2, "manifests": [entry]}),
        **{f"blobs/sha256/{blob.digest[7:]}": blob.data for blob in (*image.blobs, image.manifest)},
    }
    out = io.BytesIO()
    with closing(tarfile.open(fileobj=out, mode="w")) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _reason(said: str) -> str:
    """Return the last part of what ctr said, without places on this machine."""
    last = re.sub(r"/\S+/(snapshots/\d+/fs|tmpmounts/containerd-mount\d+)", "", said.strip().splitlines()[-1])
    return re.sub(r"^.*(extract layer sha256:\w+|mount callback failed on ?|apply layer error[^:]*): ", "", last)


def image_of(archives: Sequence[bytes]) -> Image:
    """Return the image of a case; nothing of it is compressed."""
    builder = ImageBuilder()
    for archive in archives:
        builder = builder.layer(archive, "none")
    return builder.build()


def record(directory: Path, images: Mapping[str, Sequence[bytes]]) -> dict[str, dict[str, object]]:
    """Return what containerd makes of each of `images`."""
    with Containerd(directory / "peer"):
        engine = Engine(directory)
        return {name: engine.unpacked(image_of(archives)) for name, archives in images.items()}


def main() -> None:
    """Record the cases, or the dev image, or print what is made of some cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="print what is made of the cases with this in their name, and keep nothing")
    parser.add_argument(
        "--dev-image", type=Path, help="directory with the dev image (`scripts.lab.dev_image`): record that"
    )
    options = parser.parse_args()
    DATA.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hythe-record-") as directory:
        if options.dev_image:
            archives = [cut_layers.cut(gzip.decompress(layer.data)) for layer in layout.load(options.dev_image).layers]
            cut_layers.keep(DATA / "dev-layers.tar.xz", archives)
            made = record(Path(directory), {"dev": archives})["dev"]
            trees.keep(
                DATA / "dev.json.xz", {"containerd": _version(), "digest": digest(tuple(archives)), "made": made}
            )
            return
        cases = {name: case for name, case in all_cases().items() if not options.only or options.only in name}
        found = record(Path(directory), cases)
    if options.only:
        for name, facts in found.items():
            print(name, *(f"\n  {key}: {value}" for key, value in facts.items()))
        return
    digests = {name: digest(case) for name, case in all_cases().items()}
    trees.keep(DATA / "cases.json.xz", {"containerd": _version(), "digests": digests, "made": found})


def _version() -> str:
    return subprocess.run(["containerd", "--version"], capture_output=True, check=True).stdout.decode().split()[2]


if __name__ == "__main__":
    main()
