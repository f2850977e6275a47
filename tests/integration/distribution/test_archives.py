"""skopeo and umoci write what is imported, and read what is exported, with the same digests on both sides."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
from pathlib import Path

import pytest

from hythe.digest import parse_digest
from hythe.oci import Descriptor, default_platform
from hythe.reference import parse_reference
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.archive.exportable import ExportOptions
from hythe_distribution.archive.exporting import export_archive
from hythe_distribution.archive.importing import Imported, ImportOptions, import_archive
from scripts.lab.images import Flavour, Image, ImageBuilder, Index, Layer, digest_text, index
from scripts.lab.registry import Registry
from tests.fakes.archives import aci_manifest, tar_of_directory

ARCHITECTURE = default_platform().architecture
OTHER = "arm64" if ARCHITECTURE == "amd64" else "amd64"


def run(*arguments: str | Path) -> str:
    """Run a tool and return what it printed."""
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def skopeo(verb: str, *arguments: str | Path) -> str:
    """Run skopeo without a policy for signatures."""
    return run("skopeo", "--insecure-policy", verb, *arguments)


def an_image(architecture: str = ARCHITECTURE, flavour: Flavour = "oci") -> Image:
    """Return an image of three layers, two of which are the same."""
    same = Layer().file("same", b"in two layers")
    builder = ImageBuilder(flavour, architecture=architecture).layer(same)
    return builder.layer(Layer().file("top", architecture.encode()), "none").layer(same).config(Cmd=["/top"]).build()


def fetch(registry: Registry, image: Image | Index, target: str) -> None:
    """Have skopeo copy `image` through the registry to `target`, whole and, where the form allows it, as it is."""
    reference = registry.push(image, f"archives/{image.root.digest[7:19]}:1")
    flags = [] if target.startswith("docker-archive:") else ["--all", "--preserve-digests"]
    skopeo("copy", "--quiet", "--src-tls-verify=false", *flags, f"docker://{reference}", target)


def take(archive: bytes, directory: Path, name: str = "") -> tuple[Imported, DirectoryContent]:
    """Import `archive` into a store in `directory`."""
    content = DirectoryContent(directory)
    options = ImportOptions(reference=parse_reference(name) if name else None)
    return import_archive(io.BytesIO(archive), content, options), content


@pytest.mark.parametrize("transport", ["oci", "oci-archive", "dir"])
@pytest.mark.parametrize("multi", [False, True])
def test_what_skopeo_writes_is_imported_with_its_digests(
    registry: Registry, tmp_path: Path, transport: str, multi: bool
) -> None:
    """Directories and archives that skopeo made from a registry become the image that was in the registry."""
    image = index([an_image(), an_image(OTHER)]) if multi else an_image()
    path = tmp_path / "out"
    fetch(registry, image, f"{transport}:{path}" + (":v1" if transport != "dir" else ""))

    archive = path.read_bytes() if path.is_file() else tar_of_directory(path)
    imported, content = take(archive, tmp_path / "content", "app:1")

    assert imported.format == ("directory" if transport == "dir" else "oci")
    (found,) = imported.images
    assert (str(found.reference), str(found.target.digest)) == ("docker.io/library/app:1", image.root.digest)
    for blob in (*image.blobs, *image.manifests):
        assert b"".join(content.read(parse_digest(blob.digest))) == blob.data


def test_docker_archive_of_skopeo_is_imported_with_the_images_id(registry: Registry, tmp_path: Path) -> None:
    """A docker-archive that skopeo made keeps the name and the image id; its layers are as they stand in it, plain."""
    image = an_image(flavour="docker")
    path = tmp_path / "docker.tar"
    fetch(registry, image, f"docker-archive:{path}:team.example/app:1")

    imported, content = take(path.read_bytes(), tmp_path / "content")

    (found,) = imported.images
    assert (imported.format, str(found.reference)) == ("docker", "team.example/app:1")
    manifest = json.loads(b"".join(content.read(found.target.digest)))
    assert manifest["config"]["digest"] == image.config.digest
    assert [layer["digest"] for layer in manifest["layers"]] == json.loads(image.config.data)["rootfs"]["diff_ids"]


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Image, Descriptor, DirectoryContent]:
    """An image in a store on disk."""
    image, content = an_image(), DirectoryContent(tmp_path / "stored")
    for blob in (*image.blobs, image.manifest):
        with content.open_ingest(blob.digest, total_bytes=len(blob.data)) as ingest:
            ingest.write(blob.data)
            ingest.commit(parse_digest(blob.digest), len(blob.data))
    return (
        image,
        Descriptor(image.manifest.media_type, parse_digest(image.manifest.digest), len(image.manifest.data)),
        content,
    )


@pytest.mark.parametrize(
    ("form", "transport"), [("oci", "oci-archive"), ("oci", "docker-archive"), ("docker", "docker-archive")]
)
def test_what_is_exported_is_read_by_skopeo(
    tmp_path: Path, stored: tuple[Image, Descriptor, DirectoryContent], form: str, transport: str
) -> None:
    """skopeo finds in an exported archive, in either form, the image under its name and with its config and layers."""
    image, target, content = stored
    path = tmp_path / "out.tar"
    roots = [(parse_reference(f"team.example/app:{tag}"), target) for tag in ("1", "2")]
    path.write_bytes(b"".join(export_archive(roots, content, ExportOptions("docker" if form == "docker" else "oci"))))

    source = f"{transport}:{path}:" + ("2" if transport == "oci-archive" else "team.example/app:2")
    skopeo("copy", "--quiet", source, f"dir:{tmp_path}/copy")
    copied = json.loads((tmp_path / "copy/manifest.json").read_bytes())

    assert copied["config"]["digest"] == image.config.digest
    assert json.loads(skopeo("inspect", "--config", source))["config"]["Cmd"] == ["/top"]
    if transport == "oci-archive":
        assert (tmp_path / "copy/manifest.json").read_bytes() == image.manifest.data
    else:
        layers = [
            (tmp_path / "copy" / layer["digest"].removeprefix("sha256:")).read_bytes() for layer in copied["layers"]
        ]
        plain = [gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data for data in layers]
        assert [digest_text(data) for data in plain] == json.loads(image.config.data)["rootfs"]["diff_ids"]


def test_exported_index_is_read_by_skopeo_whole(tmp_path: Path, registry: Registry) -> None:
    """An index exported with all its platforms is the same index in skopeo's hands."""
    image = index([an_image(), an_image(OTHER)])
    fetch(registry, image, f"oci:{tmp_path}/in:v1")
    imported, content = take(tar_of_directory(tmp_path / "in"), tmp_path / "content", "app:v1")
    path = tmp_path / "out.tar"
    roots = [(found.reference, found.target) for found in imported.images]
    path.write_bytes(b"".join(export_archive(roots, content, ExportOptions(all_platforms=True))))

    skopeo("copy", "--quiet", "--all", "--preserve-digests", f"oci-archive:{path}:v1", f"dir:{tmp_path}/copy")

    assert (tmp_path / "copy/manifest.json").read_bytes() == image.root.data


def test_exported_layout_is_unpacked_by_umoci(
    tmp_path: Path, stored: tuple[Image, Descriptor, DirectoryContent]
) -> None:
    """umoci opens an exported layout by its tag and makes the image's files from it."""
    _, target, content = stored
    archive = tmp_path / "out.tar"
    archive.write_bytes(b"".join(export_archive([(parse_reference("app:v1"), target)], content, ExportOptions())))
    (tmp_path / "layout").mkdir()
    run("tar", "-C", tmp_path / "layout", "-xf", archive)

    run("umoci", "unpack", "--rootless", "--image", f"{tmp_path}/layout:v1", tmp_path / "bundle")

    assert (tmp_path / "bundle/rootfs/top").read_text() == ARCHITECTURE


def test_aci_packed_by_tar_runs_as_an_oci_image(tmp_path: Path) -> None:
    """An App Container Image that GNU tar and xz packed has, as an OCI image unpacked by umoci, the same files."""
    rootfs = tmp_path / "aci/rootfs"
    (rootfs / "bin").mkdir(parents=True)
    (rootfs / "bin/worker").write_bytes(b"#!/bin/sh\n")
    (rootfs / "bin/worker").chmod(0o755)
    (rootfs / "bin/twin").hardlink_to(rootfs / "bin/worker")
    (rootfs / "run").symlink_to("/bin/worker")
    (rootfs / ("long" * 40)).write_text("name")
    (tmp_path / "aci/manifest").write_bytes(aci_manifest(app={"exec": ["/bin/worker"], "user": "0", "group": "0"}))
    run("tar", "-C", tmp_path / "aci", "-cJf", tmp_path / "worker.aci", "rootfs", "manifest")
    imported, content = take((tmp_path / "worker.aci").read_bytes(), tmp_path / "content", "worker:v1")
    archive = tmp_path / "out.tar"
    roots = [(found.reference, found.target) for found in imported.images]
    archive.write_bytes(b"".join(export_archive(roots, content, ExportOptions())))
    (tmp_path / "layout").mkdir()
    run("tar", "-C", tmp_path / "layout", "-xf", archive)

    run("umoci", "unpack", "--rootless", "--image", f"{tmp_path}/layout:v1", tmp_path / "bundle")

    made = tmp_path / "bundle/rootfs"
    assert {path.name for path in made.rglob("*")} == {path.name for path in rootfs.rglob("*")}
    assert (made / "bin/worker").samefile(made / "bin/twin")
    assert (made / "bin/worker").stat().st_mode & 0o7777 == 0o755
    assert (made / "run").readlink() == Path("/bin/worker")
    assert json.loads((tmp_path / "bundle/config.json").read_bytes())["process"]["args"] == ["/bin/worker"]
