"""What the images of an archive are called, and which platforms of an index are taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hythe.errors import InvalidArgument, NotFound
from hythe.oci import parse_platform
from hythe.reference import parse_reference
from hythe_distribution.archive.importing import ImportOptions
from scripts.lab.images import Blob, Image, Index, digest_text, encode, index
from tests.fakes.archives import blob_path as path
from tests.fakes.archives import docker_archive, oci_layout, tar_of
from tests.unit.distribution.test_archive_import import (
    ARCHITECTURE,
    FULL_NAME,
    OTHER,
    REF_NAME,
    an_image,
    digests,
    named,
    published,
    take,
)


@pytest.mark.parametrize(
    ("notes", "reference", "expected"),
    [
        ({REF_NAME: "v1"}, "", ""),
        ({REF_NAME: "v1"}, "team.example/app:9", "team.example/app:9"),
        ({REF_NAME: "team.example/app:1"}, "", "team.example/app:1"),
        ({REF_NAME: "v1", FULL_NAME: "team.example/app:1"}, "", "team.example/app:1"),
        ({FULL_NAME: "Not a name"}, "", ""),
        ({}, "app", "app:latest"),
        ({FULL_NAME: "team.example/app:1@sha256:" + "0" * 64}, "", "team.example/app:1"),
        ({FULL_NAME: "team.example/app@sha256:" + "0" * 64}, "", ""),
    ],
)
def test_name_comes_from_the_user_then_from_annotations(notes: dict[str, str], reference: str, expected: str) -> None:
    """The user's name wins; a whole name in an annotation counts, a bare tag doesn't, nor does a digest that lies."""
    image = an_image()
    options = ImportOptions(reference=parse_reference(reference) if reference else None)
    assert take(tar_of(oci_layout((image, notes))), options).images == (named(expected, image),)


def test_reference_lends_its_repository_to_bare_tags_of_several_images() -> None:
    """Of several images with bare tags, each becomes that tag in the repository that the user names."""
    one, two = an_image("one"), an_image("two")
    archive = tar_of(oci_layout((one, {REF_NAME: "v1"}), (two, {REF_NAME: "v2"})))
    imported = take(archive, ImportOptions(reference=parse_reference("team.example/app")))
    assert imported.images == (named("team.example/app:v1", one), named("team.example/app:v2", two))


@pytest.mark.parametrize(
    ("first", "second", "reference", "text"),
    [
        ("a:1", "b:1", "c:1", "it holds 2 images"),
        ("a:1", "a:1", "", "calls two images docker.io/library/a:1"),
    ],
)
def test_names_that_fit_two_images_are_refused(first: str, second: str, reference: str, text: str) -> None:
    """One name never stands for two images, whoever gave it."""
    archive = tar_of(docker_archive((an_image("one"), [first]), (an_image("two"), [second])))
    with pytest.raises(InvalidArgument, match=text):
        take(archive, ImportOptions(reference=parse_reference(reference) if reference else None))


def test_reference_with_another_digest_is_refused() -> None:
    """An image is not registered under a digest that it hasn't."""
    options = ImportOptions(reference=parse_reference(f"app@{digest_text(b'')}"))
    with pytest.raises(InvalidArgument, match="the image in it is sha256:"):
        take(tar_of(oci_layout((an_image(), {}))), options)


def test_index_stays_whole_though_a_platform_is_missing() -> None:
    """An index of which one platform is complete is taken whole; what is there of others isn't shown."""
    here, there = an_image("here"), an_image("there", OTHER)
    multi = index([here, there])
    files = oci_layout((multi, {FULL_NAME: "docker.io/library/app:1"}))
    del files[path(there.layers[0])]
    imported = take(tar_of(files))
    assert imported.images == (named("app:1", multi),)
    assert published(imported) == digests(*here.blobs, here.manifest, multi.root)
    assert imported.publications[-1].labels == {
        "containerd.io/gc.ref.content.m.0": here.manifest.digest,
        "containerd.io/gc.ref.content.m.1": there.manifest.digest,
    }


def test_index_without_a_complete_platform_is_refused() -> None:
    """An index of which no platform is complete is no image; the error names what is missing."""
    image = an_image()
    files = oci_layout((index([image]), {}))
    del files[path(image.layers[1])]
    with pytest.raises(InvalidArgument, match=f"layer {image.layers[1].digest} is not in it"):
        take(tar_of(files))


@pytest.mark.parametrize(("platform", "everything"), [(f"linux/{OTHER}", True), ("", False)])
def test_one_platform_of_an_index_is_its_manifest(platform: str, everything: bool) -> None:
    """With a platform, or without all of them, the image is that platform's manifest, and nothing else is published."""
    images = {ARCHITECTURE: an_image("here"), OTHER: an_image("there", OTHER)}
    archive = tar_of(oci_layout((index(list(images.values())), {FULL_NAME: "docker.io/library/app:1"})))
    chosen = images[OTHER if platform else ARCHITECTURE]
    imported = take(archive, ImportOptions(None, parse_platform(platform) if platform else None, everything))
    assert imported.images == (named("app:1", chosen),)
    assert published(imported) == digests(*chosen.blobs, chosen.manifest)


@pytest.mark.parametrize("make", [lambda i: index([i]), lambda i: i])
def test_platform_that_is_not_there_is_named(make: Callable[[Image], Image | Index]) -> None:
    """Who asks for a platform that the archive lacks is told what it has."""
    archive = tar_of(oci_layout((make(an_image()), {})))
    with pytest.raises(NotFound, match=f"linux/{ARCHITECTURE}"):
        take(archive, ImportOptions(platform=parse_platform("linux/s390x")))


def test_index_within_an_index_belongs_to_the_image() -> None:
    """Indexes may hold indexes and blobs of other types; a platform is found in the depth."""
    inner, other = index([an_image("here")]), an_image("there", OTHER)
    note = Blob(b"note", "text/plain")
    entries = [inner.root.descriptor(), other.manifest.descriptor(platform={"os": "linux", "architecture": OTHER})]
    root = Blob(encode({"schemaVersion": 2, "manifests": [*entries, note.descriptor()]}), inner.root.media_type)
    outer = Index(root, (*inner.images, other))
    files = oci_layout((outer, {}))
    files |= {path(blob): blob.data for blob in (inner.root, note)}
    imported = take(tar_of(files))
    assert imported.images == (named("", outer),)
    assert published(imported) == digests(*outer.blobs, *outer.manifests, inner.root, note)
    chosen = take(tar_of(files), ImportOptions(platform=parse_platform(f"linux/{ARCHITECTURE}")))
    assert chosen.images == (named("", inner.images[0]),)


@pytest.mark.parametrize("gone", ["image", "index", "child"])
def test_manifest_that_is_not_in_the_archive_is_named(gone: str) -> None:
    """An index.json, or an index, that names nothing but what isn't in the archive is refused by that digest."""
    image = an_image()
    multi = index([image])
    files = oci_layout((image if gone == "image" else multi, {}))
    blob = multi.root if gone == "index" else image.manifest
    del files[path(blob)]
    with pytest.raises(InvalidArgument, match=f"{blob.digest} is not in it"):
        take(tar_of(files))


def test_indexes_nested_beyond_measure_are_refused_when_a_platform_is_looked_for() -> None:
    """Indexes in indexes end somewhere, also on the way to a platform."""
    image = an_image()
    files, blob = oci_layout((image, {})), image.manifest
    for _ in range(5):
        blob = index([Image(blob, (), "linux", ARCHITECTURE)]).root
        files[path(blob)] = blob.data
    files["index.json"] = encode({"schemaVersion": 2, "manifests": [blob.descriptor()]})
    with pytest.raises(InvalidArgument, match="nested more than 3 deep"):
        take(tar_of(files), ImportOptions(platform=parse_platform(f"linux/{ARCHITECTURE}")))
