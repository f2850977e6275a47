"""Images made in memory are what other tools understand them to be; the lab has no image format of its own."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from scripts.lab.images import Compression, Flavour, ImageBuilder, Layer, busybox, index
from scripts.lab.registry import Registry


def skopeo(*arguments: str) -> str:
    """Run skopeo and return what it printed."""
    done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("flavour", "compression"), [("oci", "gzip"), ("oci", "none"), ("docker", "gzip")])
def test_pushed_image_is_unpacked_by_umoci_as_it_was_built(
    registry: Registry, tmp_path: Path, flavour: Flavour, compression: Compression
) -> None:
    """A layered image with owners, modes, links, xattrs and a whiteout arrives through registry, skopeo and umoci unchanged."""
    below = Layer().directory("srv", mode=0o750, uid=7, gid=8).file("srv/gone", b"x").file("srv/kept", b"y", mode=0o604)
    above = Layer().whiteout("srv/gone").symlink("srv/link", "kept").hardlink("srv/twin", "srv/kept")
    above.file("srv/marked", b"z", mtime_s=1_000_000_000, xattrs={"user.mark": "here"}).fifo("srv/pipe")
    builder = ImageBuilder(flavour).layer(below, compression).layer(above, compression).config(Cmd=["/srv/kept"])
    reference = registry.push(builder.build(), f"lab/{flavour}-{compression}:1")

    skopeo("copy", "--quiet", "--src-tls-verify=false", f"docker://{reference}", f"oci:{tmp_path}/oci:1")
    subprocess.run(
        ["umoci", "unpack", "--image", f"{tmp_path}/oci:1", tmp_path / "bundle"], check=True, capture_output=True
    )
    srv = tmp_path / "bundle/rootfs/srv"
    assert sorted(path.name for path in srv.iterdir()) == ["kept", "link", "marked", "pipe", "twin"]
    assert (srv.stat().st_uid, srv.stat().st_gid, stat.S_IMODE(srv.stat().st_mode)) == (7, 8, 0o750)
    assert stat.S_IMODE((srv / "kept").stat().st_mode) == 0o604
    assert (srv / "twin").samefile(srv / "kept") and (srv / "link").readlink() == Path("kept")
    assert (srv / "marked").stat().st_mtime == 1_000_000_000
    assert os.getxattr(srv / "marked", "user.mark") == b"here"
    assert stat.S_ISFIFO((srv / "pipe").stat().st_mode)
    assert json.loads((tmp_path / "bundle/config.json").read_bytes())["process"]["args"] == ["/srv/kept"]


def test_index_leads_each_platform_to_its_image(registry: Registry) -> None:
    """An index over two platforms gives each the image that was built for it."""
    images = [ImageBuilder(architecture=name).layer(Layer().file(name)).build() for name in ("amd64", "arm64")]
    reference = registry.push(index(images), "lab/index:1")
    for image in images:
        flags = ["--tls-verify=false", "--override-arch", image.architecture, "--override-os", "linux"]
        shown = json.loads(skopeo(*flags[1:], "inspect", flags[0], f"docker://{reference}"))
        assert shown["Architecture"] == image.architecture
        assert shown["Layers"] == [layer.digest for layer in image.layers]


def test_same_input_gives_the_same_image() -> None:
    """Nothing of the time or the machine gets into an image: building twice gives one digest."""
    assert busybox().build().manifest.digest == busybox().build().manifest.digest
