"""Archives that go out: what is in them, that they are the same every time, and what stops them."""

from __future__ import annotations

import contextvars
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hythe.digest import Digest, parse_digest
from hythe.errors import DataLoss, FailedPrecondition, HytheError, InvalidArgument, NotFound
from hythe.oci import Descriptor, default_platform, parse_platform
from hythe.ports.content import MAX_CHUNK_BYTES
from hythe.reference import Reference, parse_reference
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.archive.exportable import ExportOptions
from hythe_distribution.archive.exporting import check_exportable, export_archive
from hythe_distribution.archive.importing import ImportOptions, import_archive
from scripts.lab.images import Blob, Image, ImageBuilder, Index, Layer, encode, index
from tests.fakes.archives import blob_path, members

ARCHITECTURE = default_platform().architecture
OTHER = "arm64" if ARCHITECTURE == "amd64" else "amd64"
DOCKER = ExportOptions("docker")
ALL = ExportOptions(all_platforms=True)
Roots = Sequence[tuple[Reference | None, Descriptor]]


def an_image(name: str = "a", architecture: str = ARCHITECTURE) -> Image:
    """Return an image of three layers, compressed in each way."""
    builder = ImageBuilder(architecture=architecture).layer(Layer().file("base", b"same in all"))
    return builder.layer(Layer().file(name), "none").layer(Layer().file(f"{name}2"), "zstd").build()


def store(*images: Image | Index) -> MemoryContent:
    """Return a store that has `images` whole."""
    content = MemoryContent()
    for image in images:
        for blob in (*image.blobs, *image.manifests):
            content.add(parse_digest(blob.digest), blob.data)
    return content


def root(image: Image | Index, name: str = "") -> tuple[Reference | None, Descriptor]:
    """Return what an export is asked for."""
    blob = image.root
    target = Descriptor(blob.media_type, parse_digest(blob.digest), len(blob.data))
    return (parse_reference(name) if name else None, target)


def export(roots: Roots, content: MemoryContent, options: ExportOptions | None = None) -> bytes:
    """Return the archive of `roots`, having checked that it has the size that was announced."""
    options = options or ExportOptions()
    archive = b"".join(export_archive(roots, content, options))
    assert len(archive) == check_exportable(roots, content, options)
    return archive


def test_oci_export_is_a_layout_with_dockers_list_beside_it() -> None:
    """An exported image is an OCI layout under its name, and `docker load` finds its list in the same archive."""
    image = an_image()
    files = members(export([root(image, "app:1")], store(image)))
    assert files["oci-layout"] == b'{"imageLayoutVersion":"1.0.0"}'
    assert json.loads(files["index.json"]) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            image.manifest.descriptor(
                annotations={
                    "io.containerd.image.name": "docker.io/library/app:1",
                    "org.opencontainers.image.ref.name": "1",
                }
            )
        ],
    }
    assert json.loads(files["manifest.json"]) == [
        {
            "Config": blob_path(image.config),
            "RepoTags": ["app:1"],
            "Layers": [blob_path(layer) for layer in image.layers],
        }
    ]
    blobs = {name: data for name, data in files.items() if name.startswith("blobs/")}
    assert blobs == {blob_path(blob): blob.data for blob in (*image.blobs, image.manifest)}


def test_docker_export_is_a_docker_archive_alone() -> None:
    """The docker format has config and layers under names that tell what they are, and nothing of OCI's."""
    image = an_image()
    files = members(export([root(image, "app:1"), root(image, "app:2")], store(image), DOCKER))
    (item,) = json.loads(files.pop("manifest.json"))
    assert item["RepoTags"] == ["app:1", "app:2"]
    assert item["Config"] == f"{image.config.digest.removeprefix('sha256:')}.json"
    assert [name.partition(".")[2] for name in item["Layers"]] == ["tar.gz", "tar", "tar.zst"]
    assert files == {item["Config"]: image.config.data} | {
        name: layer.data for name, layer in zip(item["Layers"], image.layers, strict=True)
    }


@pytest.mark.parametrize("options", [ExportOptions(), DOCKER, ALL])
def test_export_is_sorted_and_has_neither_times_nor_owners(options: ExportOptions) -> None:
    """The same images give the same bytes wherever and whenever they are exported."""
    one, two = an_image("one"), an_image("two")
    roots = [root(one, "one:1"), root(two, "two:1")]
    archive = export(roots, store(one, two), options)
    assert archive == export(roots, store(two, one), options)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        entries = opened.getmembers()
    assert [entry.name for entry in entries] == sorted({entry.name for entry in entries})
    assert {(entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname) for entry in entries} == {(0, 0, 0, "", "")}


def test_names_of_one_image_and_common_blobs_take_no_room_twice() -> None:
    """However many names and images an archive holds, each blob is in it once."""
    one, two = an_image("one"), an_image("two")
    roots = [root(one, "one:1"), root(two, "two:1"), root(one, "one:2"), root(one, "one:1")]
    files = members(export(roots, store(one, two)))
    names = [entry["annotations"]["io.containerd.image.name"] for entry in json.loads(files["index.json"])["manifests"]]
    assert names == ["docker.io/library/one:1", "docker.io/library/two:1", "docker.io/library/one:2"]
    assert [item["RepoTags"] for item in json.loads(files["manifest.json"])] == [["one:1", "one:2"], ["two:1"]]


@pytest.mark.parametrize("options", [ExportOptions(), DOCKER, ExportOptions(platform=parse_platform(f"linux/{OTHER}"))])
def test_index_goes_out_as_one_platforms_manifest(options: ExportOptions) -> None:
    """Without all platforms, an index is exported as its manifest for the one wanted, this host's by default."""
    images = {ARCHITECTURE: an_image("here"), OTHER: an_image("there", OTHER)}
    multi = index(list(images.values()))
    chosen = images[options.platform.architecture if options.platform else ARCHITECTURE]
    reference, target = root(multi, "app:1")
    assert reference is not None
    pinned = Reference(reference.host, reference.repository, reference.tag, target.digest)
    assert export([(pinned, target)], store(multi), options) == export([root(chosen, "app:1")], store(chosen), options)


def test_index_with_all_platforms_goes_out_whole() -> None:
    """With all platforms, the whole index is exported; Docker's list, which knows no platforms, leaves it out."""
    multi, single = index([an_image("here"), an_image("there", OTHER)]), an_image("single")
    files = members(export([root(multi, "app:1")], store(multi), ALL))
    twice = members(export([root(multi, "app:1"), root(multi, "app:2")], store(multi), ALL))
    assert {name for name in files if twice[name] != files[name]} == {"index.json"}
    assert "manifest.json" not in files
    assert {blob_path(blob) for blob in (*multi.blobs, *multi.manifests)} < set(files)
    both = members(export([root(multi, "app:1"), root(single, "single:1")], store(multi, single), ALL))
    assert [item["RepoTags"] for item in json.loads(both["manifest.json"])] == [["single:1"]]


def nested(depth: int, image: Image) -> Index:
    """Return an index `depth` deep above `image`, each naming what is below twice, with a blob of another type beside it."""
    note = Blob(b"note", "text/plain")
    media_type = "application/vnd.oci.image.index.v1+json"
    blobs, root = [note, *image.blobs, image.manifest], image.manifest
    for _ in range(depth):
        below = root.descriptor(platform={"os": "linux", "architecture": ARCHITECTURE})
        entries = [below, below, note.descriptor()]
        root = Blob(encode({"schemaVersion": 2, "manifests": entries}), media_type)
        blobs.append(root)
    return Index(root, (Image(root, tuple(blobs), "", ""),))


def test_index_within_an_index_goes_out_with_all_of_it() -> None:
    """Indexes in an index, and blobs of other types in one, are exported with it; a platform is found in the depth."""
    image = an_image()
    multi = nested(3, image)
    files = members(export([root(multi)], store(multi), ALL))
    assert {blob_path(blob) for blob in multi.blobs} < set(files)
    assert export([root(multi)], store(multi)) == export([root(image)], store(image))


@pytest.mark.parametrize("options", [ExportOptions(), ALL])
def test_indexes_nested_beyond_measure_are_refused(options: ExportOptions) -> None:
    """Indexes in indexes end somewhere."""
    multi = nested(6, an_image())
    with pytest.raises(InvalidArgument, match="nested more than 3 deep"):
        export_archive([root(multi)], store(multi), options)


def without(image: Image | Index, blob: Blob) -> MemoryContent:
    """Return a store that has all of `image` but `blob`."""
    content = store(image)
    content.delete(parse_digest(blob.digest))
    return content


@pytest.mark.parametrize(
    ("missing", "kind", "text"),
    [
        (lambda i: i.root, NotFound, "is not here"),
        (lambda i: i.images[0].config, FailedPrecondition, "export docker.io/library/app:1: config sha256:"),
        (lambda i: i.images[0].layers[2], FailedPrecondition, "export docker.io/library/app:1: layer sha256:"),
        (
            lambda i: i.images[1].manifest,
            FailedPrecondition,
            f"manifest sha256:[0-9a-f]* for linux/{OTHER} is not here",
        ),
    ],
)
def test_what_is_missing_is_said_before_the_first_byte(
    missing: Callable[[Index], Blob], kind: type[HytheError], text: str
) -> None:
    """An export of which a blob isn't here is refused by name and never begins."""
    multi = index([an_image("here"), an_image("there", OTHER)])
    content = without(multi, missing(multi))
    for ask in (check_exportable, export_archive):
        with pytest.raises(kind, match=text):
            ask([root(multi, "app:1")], content, ALL)


def artifact() -> Image:
    """Return a manifest that is no container image."""
    config = Blob(b"{}", "application/vnd.oci.empty.v1+json")
    media_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": media_type, "config": config.descriptor(), "layers": []}
    return Image(Blob(encode(manifest), media_type), (config,), "", "")


@pytest.mark.parametrize(
    ("image", "options", "kind", "text"),
    [
        (index([an_image()]), ExportOptions("docker", all_platforms=True), InvalidArgument, "holds one platform"),
        (artifact(), DOCKER, InvalidArgument, "no container image"),
        (index([an_image()]), ExportOptions(platform=parse_platform("linux/s390x")), NotFound, "linux/s390x"),
        (an_image(), ExportOptions(platform=parse_platform("linux/s390x")), NotFound, "not for linux/s390x"),
        (Image(Blob(b"{}", "text/plain"), (), "", ""), ALL, InvalidArgument, "text/plain is no image's"),
    ],
)
def test_export_that_makes_no_sense_is_refused(
    image: Image | Index, options: ExportOptions, kind: type[HytheError], text: str
) -> None:
    """What a format can't hold, or a platform that isn't there, is refused before the first byte."""
    with pytest.raises(kind, match=text):
        export_archive([root(image)], store(image), options)


def test_export_of_nothing_is_refused() -> None:
    """An archive without an image is nobody's wish."""
    with pytest.raises(InvalidArgument, match="no image is named"):
        export_archive([], MemoryContent(), ExportOptions())


def test_artifact_goes_out_in_an_oci_layout() -> None:
    """What isn't a container image travels in an OCI layout all the same, unknown to Docker."""
    note = artifact()
    files = members(export([root(note, "note:1")], store(note)))
    assert "manifest.json" not in files
    assert files[blob_path(note.config)] == b"{}"


@pytest.mark.parametrize("data", [b"x" * 10, b""])
def test_blob_that_the_disk_changed_ends_the_export(data: bytes) -> None:
    """A blob that isn't what its digest promises never goes out as if it were: the archive breaks off."""
    image, content = an_image(), store(an_image())
    layer = image.layers[0]
    damaged = data.ljust(len(layer.data), b"y")
    content.delete(parse_digest(layer.digest))
    content.add(parse_digest(layer.digest), damaged)
    chunks = export_archive([root(image, "app:1")], content, ExportOptions())
    with pytest.raises(DataLoss, match=layer.digest):
        list(chunks)


def test_blob_that_changed_its_size_is_found_before_the_first_byte() -> None:
    """A blob of another size than its descriptor says is found while the export is checked."""
    image, content = an_image(), store(an_image())
    digest = parse_digest(image.layers[0].digest)
    content.delete(digest)
    content.add(digest, b"short")
    with pytest.raises(DataLoss, match="has 5 bytes"):
        check_exportable([root(image)], content, ExportOptions())


def test_export_can_be_taken_by_a_different_thread_each_time_and_given_up() -> None:
    """Chunks come in the sizes of the store, whichever thread asks next; who has enough just closes the stream."""
    image = ImageBuilder().layer(bytes(3 * MAX_CHUNK_BYTES), "none").build()
    chunks = export_archive([root(image)], store(image), ExportOptions())
    archive = b""
    for _ in range(3):
        with ThreadPoolExecutor(1) as pool:
            archive += pool.submit(contextvars.copy_context().run, next, chunks).result()
    rest = list(chunks)
    assert max(len(chunk) for chunk in rest) == MAX_CHUNK_BYTES
    assert archive + b"".join(rest) == export([root(image)], store(image))
    given_up = export_archive([root(image)], store(image), ExportOptions())
    next(given_up)
    given_up.close()  # type: ignore[attr-defined]  # it is a generator
    assert list(given_up) == []


@st.composite
def builders(draw: st.DrawFn, architecture: str) -> Image:
    """Draw an image of up to three small layers."""
    builder = ImageBuilder(draw(st.sampled_from(["oci", "docker"])), architecture=architecture)
    for content in draw(st.lists(st.binary(max_size=600), max_size=3)):
        builder = builder.layer(Layer().file("f", content), draw(st.sampled_from(["gzip", "zstd", "none"])))
    return builder.config(User=draw(st.text("abc", max_size=3))).build()


NAMES = st.lists(st.sampled_from(["a:1", "a:2", "team.example:5000/x/y:1", ""]), min_size=1, max_size=4, unique=True)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), names=NAMES)
def test_export_of_an_imported_export_is_the_same_archive(data: st.DataObject, names: list[str]) -> None:
    """Our own archives survive any number of journeys: what is imported is exported byte for byte as it came."""
    options = data.draw(st.sampled_from([ExportOptions(), DOCKER, ALL]))
    images: list[Image | Index] = []
    for _ in names:
        here, there = data.draw(builders(ARCHITECTURE)), data.draw(builders(OTHER))
        images.append(index([here, there]) if data.draw(st.booleans()) else here)
    content = store(*images)
    first = export([root(image, name) for image, name in zip(images, names, strict=True)], content, options)
    second_store = MemoryContent()
    imported = import_archive(io.BytesIO(first), second_store, ImportOptions())
    roots = [(image.reference, image.target) for image in imported.images]
    assert export(roots, second_store, options) == first
    assert {Digest(blob.digest.hex) for blob in second_store.walk()} >= {blob.digest for blob in imported.publications}
