"""Archives of every known form, as other tools write them, become images in a store in memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import sys
from collections.abc import Callable

import pytest
from backports import zstd

from hythe.digest import Digest, parse_digest
from hythe.errors import InvalidArgument, Unimplemented
from hythe.oci import Descriptor, Manifest, default_platform, parse_document
from hythe.ports.content import Content
from hythe.reference import parse_reference
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.adapters.zstd import load_zstd
from hythe_distribution.archive.importing import Imported, ImportedImage, ImportOptions, import_archive
from scripts.lab.images import DOCKER_MANIFEST, Blob, Image, ImageBuilder, Index, Layer, encode, index
from tests.fakes.archives import blob_path as path
from tests.fakes.archives import docker_archive, link, oci_layout, tar_of

FULL_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
ARCHITECTURE = default_platform().architecture
OTHER = "arm64" if ARCHITECTURE == "amd64" else "amd64"


def an_image(name: str = "a", architecture: str = ARCHITECTURE) -> Image:
    """Return an image of two layers, one of them plain tar."""
    builder = ImageBuilder(architecture=architecture).layer(Layer().file(name, b"data")).config(Cmd=["/" + name])
    return builder.layer(Layer().directory(f"{name}.d"), "none").build()


def take(archive: bytes, options: ImportOptions | None = None, content: Content | None = None) -> Imported:
    """Import `archive`."""
    return import_archive(io.BytesIO(archive), content or MemoryContent(), options or ImportOptions())


def named(name: str, image: Image | Index) -> ImportedImage:
    """Return the result that `image` under `name` gives; an empty name stands for none."""
    root = image.root
    return ImportedImage(
        parse_reference(name) if name else None,
        Descriptor(root.media_type, parse_digest(root.digest), len(root.data)),
    )


def digests(*blobs: Blob) -> set[Digest]:
    """Return the digests of `blobs`."""
    return {parse_digest(blob.digest) for blob in blobs}


def two_members(data: bytes) -> bytes:
    """Return `data` as two gzip members, one after the other."""
    return gzip.compress(data[:700]) + gzip.compress(data[700:])


def published(imported: Imported) -> set[Digest]:
    """Return the digests of all blobs that an import publishes."""
    return {publication.digest for publication in imported.publications}


def test_oci_layout_becomes_the_image_that_it_was() -> None:
    """An OCI layout is taken in with its digests, and its blobs keep each other by containerd's labels."""
    image, content = an_image(), MemoryContent()
    imported = take(tar_of(oci_layout((image, {FULL_NAME: "docker.io/library/app:1"}))), content=content)
    assert (imported.format, imported.images) == ("oci", (named("app:1", image),))
    assert published(imported) == digests(*image.blobs, image.manifest)
    assert imported.blobs == 4
    assert imported.size_bytes == sum(len(blob.data) for blob in (*image.blobs, image.manifest))
    last = imported.publications[-1]
    assert (last.digest, dict(last.labels)) == (
        parse_digest(image.manifest.digest),
        {
            "containerd.io/gc.ref.content.config": image.config.digest,
            "containerd.io/gc.ref.content.l.0": image.layers[0].digest,
            "containerd.io/gc.ref.content.l.1": image.layers[1].digest,
        },
    )
    for blob in (*image.blobs, image.manifest):
        assert b"".join(content.read(parse_digest(blob.digest))) == blob.data


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("make", [lambda i: oci_layout((i, {})), lambda i: docker_archive((i, ["app:1"]))])
def test_documents_may_stand_before_or_after_the_blobs(
    make: Callable[[Image], dict[str, bytes]], backwards: bool
) -> None:
    """The order of the entries in an archive doesn't matter."""
    image = an_image()
    files = list(make(image).items())
    imported = take(tar_of(dict(reversed(files) if backwards else files)))
    assert digests(*image.blobs) < published(imported)


@pytest.mark.parametrize(
    "compress",
    [
        gzip.compress,
        bz2.compress,
        lzma.compress,
        zstd.compress,
        lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
    ],
)
def test_compressed_archive_is_told_by_its_first_bytes(compress: Callable[[bytes], bytes]) -> None:
    """An archive may be compressed as a whole with gzip, also in several members, bzip2, xz or zstd."""
    image = an_image()
    imported = take(compress(tar_of(oci_layout((image, {})))) + bytes(100 * 4), ImportOptions(zstd=load_zstd()))
    assert imported.images == (named("", image),)


def test_zstd_without_its_library_is_refused_with_the_way_out() -> None:
    """Where the zstd library isn't installed, a zstd archive is refused with advice."""
    program = "import sys; sys.modules['backports'] = None\nfrom hythe_distribution.adapters.zstd import load_zstd\n"
    program += "print(load_zstd())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    with pytest.raises(Unimplemented) as caught:
        take(zstd.compress(b""), ImportOptions(zstd=None))
    assert "zstd -d" in caught.value.next_step


def test_docker_archive_becomes_containerds_manifest_with_dockers_image_id() -> None:
    """A docker-archive's config and layers stay byte for byte; the manifest made for them has a type for each layer."""
    image, content = an_image(), MemoryContent()
    imported = take(tar_of(docker_archive((image, ["app:1", "registry.example/x/app:2"]))), content=content)
    (first, second) = imported.images
    assert imported.format == "docker"
    assert [str(first.reference), str(second.reference)] == ["docker.io/library/app:1", "registry.example/x/app:2"]
    assert first.target == second.target
    manifest = parse_document(b"".join(content.read(first.target.digest)))
    assert isinstance(manifest, Manifest)
    assert (manifest.media_type, first.target.media_type) == (DOCKER_MANIFEST, DOCKER_MANIFEST)
    assert str(manifest.config.digest) == image.config.digest
    assert [(layer.media_type, str(layer.digest)) for layer in manifest.layers] == [
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", image.layers[0].digest),
        ("application/vnd.docker.image.rootfs.diff.tar", image.layers[1].digest),
    ]
    assert manifest.raw.startswith(b'{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2')


def test_docker_archive_with_linked_layers_finds_them() -> None:
    """Docker's older archives hold a layer once and link to it where it stands again."""
    layer = Layer().file("same")
    image = ImageBuilder().layer(layer, "none").layer(layer, "none").build()
    files = docker_archive((image, ["app:1"]))
    directory = next(name for name in files if name.endswith("/layer.tar"))
    files["manifest.json"] = files["manifest.json"].replace(
        f'["{directory}", "{directory}"]'.encode(), f'["{directory}", "again/layer.tar"]'.encode()
    )
    for entry in (link("again/layer.tar", f"../{directory}"), link("again/layer.tar", directory, hard=True)):
        imported = take(tar_of(files, entry))
        assert digests(*image.blobs) < published(imported)


def test_newer_docker_archive_is_read_as_the_oci_layout_that_it_is_too() -> None:
    """Where an archive is both, digests come from the OCI layout and names from both."""
    image, multi = an_image("one"), index([an_image("two"), an_image("two", OTHER)])
    files = oci_layout((image, {FULL_NAME: "docker.io/library/one:1"}), (multi, {}))
    items = [
        {"Config": path(blob), "RepoTags": [tag], "Layers": []}
        for blob, tag in ((image.config, "one:also"), (multi.images[0].config, "two:1"))
    ]
    imported = take(tar_of({**files, "manifest.json": encode(items)}))
    assert imported.format == "oci"
    assert imported.images == (named("one:1", image), named("one:also", image), named("two:1", multi))


def test_directory_of_skopeo_is_taken_in_without_a_name() -> None:
    """skopeo's dir: form, with the manifests of an index beside it, keeps its digests and has no name."""
    multi = index([an_image("two"), an_image("two", OTHER)])
    files = {"manifest.json": multi.root.data, "version": b"Directory Transport Version: 1.1\n", "signature-1": b"?"}
    files |= {blob.digest.removeprefix("sha256:"): blob.data for blob in multi.blobs}
    files |= {f"{i.manifest.digest.removeprefix('sha256:')}.manifest.json": i.manifest.data for i in multi.images}
    imported = take(tar_of(files))
    assert (imported.format, imported.images) == ("directory", (named("", multi),))
    assert published(imported) == digests(*multi.blobs, *multi.manifests)


def test_several_images_share_blobs() -> None:
    """An archive of several images gives each its names, and a blob of two images counts once."""
    one, two = an_image("one"), an_image("two")
    imported = take(tar_of(docker_archive((one, ["one:1"]), (two, ["two:1"]), (one, ["one:again"]))))
    assert [str(image.reference) for image in imported.images] == [
        "docker.io/library/one:1",
        "docker.io/library/two:1",
        "docker.io/library/one:again",
    ]
    assert imported.blobs == 8


def test_blob_that_the_store_has_is_still_wanted_whole_in_the_archive() -> None:
    """Naming a blob that others have stored gives no access to it: the archive has to hold it."""
    image, content = an_image(), MemoryContent()
    files = oci_layout((image, {}))
    take(tar_of(files), content=content)
    assert take(tar_of(files), content=content).images == (named("", image),)
    del files[path(image.layers[0])]
    with pytest.raises(InvalidArgument, match=f"layer {image.layers[0].digest} is not in it"):
        take(tar_of(files), content=content)


def test_artifact_comes_along_and_other_types_are_passed_over() -> None:
    """An artifact's manifest is content like any other; an entry of index.json that is no manifest is left alone."""
    image = an_image()
    notes = Blob(b"notes", "text/plain")
    manifest = Blob(
        encode(
            {
                "schemaVersion": 2,
                "mediaType": image.manifest.media_type,
                "artifactType": "application/x-notes",
                "config": Blob(b"{}", "application/vnd.oci.empty.v1+json").descriptor(),
                "layers": [notes.descriptor()],
                "subject": image.manifest.descriptor(),
            }
        ),
        image.manifest.media_type,
    )
    files = oci_layout((image, {}))
    entries = [blob.descriptor() for blob in (image.manifest, manifest, notes)]
    files["index.json"] = encode({"schemaVersion": 2, "manifests": entries})
    files |= {path(blob): blob.data for blob in (manifest, notes, Blob(b"{}", ""))}
    imported = take(tar_of(files))
    assert [str(found.target.digest) for found in imported.images] == [image.manifest.digest, manifest.digest]
    assert digests(notes, manifest) < published(imported)
    here = ImportOptions(platform=default_platform())
    assert take(tar_of(files), here).images == imported.images
