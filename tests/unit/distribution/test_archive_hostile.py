"""Archives that are broken, cut off or meant to do harm: each is refused in words, and nothing is left half written."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hythe.errors import DataLoss, HytheError, InvalidArgument
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.archive.importing import ImportOptions, import_archive
from scripts.lab.images import Image, ImageBuilder, Layer, encode, index
from tests.fakes.archives import aci, aci_manifest, blob_path, docker_archive, link, oci_layout, tar_of
from tests.fakes.tars import entry, extended, header_with, record

MIB = 1 << 20
NO_IMAGE = b'{"schemaVersion":2,"manifests":[]}'


def an_image() -> Image:
    """Return an image of two layers, the second of them a plain tar."""
    return ImageBuilder().layer(Layer().file("a", b"data")).layer(Layer().file("b"), "none").build()


def refuse(archive: bytes | io.RawIOBase, kind: type[HytheError] = InvalidArgument) -> str:
    """Import what must be refused with an error of just this class, check that no ingest is left, return the message."""
    content = MemoryContent()
    stream = io.BytesIO(archive) if isinstance(archive, bytes) else archive
    with pytest.raises(kind) as caught:
        import_archive(stream, content, ImportOptions())  # type: ignore[arg-type]  # it only needs read()
    assert type(caught.value) is kind
    assert not list(content.ingests())
    return caught.value.whole


@pytest.mark.parametrize(
    ("archive", "text"),
    [
        (tar_of({"/etc/passwd": b""}), "absolute name"),
        (tar_of({"../../etc/passwd": b""}), "leaves the archive"),
        (tar_of({"a/../../b": b""}), "leaves the archive"),
        (tar_of({}, link("x", "../../etc/passwd")), "points out of the archive"),
        (tar_of({}, link("x", "/etc/passwd")), "points out of the archive"),
        (tar_of({}, link("x", "../up", hard=True)), "points out of the archive"),
        (tar_of({}, entry("x", tarfile.CHRTYPE)), "a device or a pipe"),
        (tar_of({}, entry("x", tarfile.BLKTYPE)), "a device or a pipe"),
        (tar_of({}, entry("x", tarfile.FIFOTYPE)), "a device or a pipe"),
        (tar_of({"a": b"1"}, entry("./a")), "'a' is in it twice"),
        (tar_of({}, entry("index.json", size=0), entry("index.json")), "'index.json' is in it twice"),
        (tar_of({}, link("a", "b"), entry("a")), "'a' is in it twice"),
        (tar_of({"new\nline": b""}), "not printable"),
        (header_with(0, b"\xff\xfe"), "not UTF-8"),
        (header_with(156, b"2\xff\xfe"), "target of link 'blob' is not UTF-8"),
        (header_with(124, b"\xff" * 12), "size is below 0"),
        (header_with(124, b"\x80" + b"\x7f" * 11), "beyond all bounds"),
        (header_with(124, b"00000000009\0"), "no octal number"),
        (header_with(156, b"S"), "sparse or of unknown type"),
        (header_with(156, b"Z"), "sparse or of unknown type"),
        (header_with(108, b"\x80" + b"\x7f" * 7), "beyond all bounds"),
        (extended(record(b"path", b"../x")), "leaves the archive"),
        (extended(record(b"path", b"a\0b")), "NUL"),
        (extended(b"99 path=x\n"), "pax record at byte 0 of its header is malformed"),
        (extended(b"path=x\n"), "pax record at byte 0 of its header is malformed"),
        (extended(record(b"size", b"-123")), "pax record size '-123' is no number"),
        (extended(record(b"size", b"9" * 18)), "beyond all bounds"),
        (extended(record(b"GNU.sparse.major", b"1")), "sparse"),
        (extended(record(b"mtime", b"soon")), "is no time"),
        (tar_of({"a" * 5000: b""}), "more than 4095 bytes"),
        (tar_of({}, entry("x", b"x", size=2 * MIB)), "extension header of 2097152 bytes"),
        (tar_of({}, entry("x", b"L", size=2 * MIB)), "extension header of 2097152 bytes"),
        (tar_of({}, entry("manifest.json", size=5 * MIB)), "manifest.json has 5242880 bytes, more than 4194304"),
        (b"no archive at all, but long enough for a header" * 20, "it is no tar archive"),
        (b"", "it is empty"),
        (tar_of({})[:512] + tar_of({"a": b""}), "data after a block of zeros"),
        (tar_of({"a": b""}), "it holds neither oci-layout"),
        (header_with(100, bytes(8)), "it holds neither oci-layout"),
        (tar_of({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}), "it holds neither oci-layout"),
        (tar_of({"oci-layout": b'{"imageLayoutVersion":"2"}', "index.json": b"{}"}), "version '2'"),
        (tar_of({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": NO_IMAGE}), "names no image"),
        (tar_of({"manifest.json": b'[{"Config":"a"}]', "a": bytes(5 * MIB)}), "Config has 5242880 bytes"),
        (tar_of({"manifest.json": b"[]"}), "lists 0 images"),
        (tar_of({"manifest.json": b"[1]"}), "is not an object"),
        (tar_of({"manifest.json": b"[" * 100_000}), "not JSON"),
        (tar_of({"manifest.json": b'{"schemaVersion":1,"fsLayers":[]}'}), "schema 1"),
        (tar_of({"manifest.json": b'[{"Config":"nowhere","RepoTags":[],"Layers":[]}]'}), "'nowhere' is not in it"),
        (tar_of({"manifest.json": b'[{"Config":"a"}]'}, link("a", "b"), link("b", "a")), "round in circles"),
        (tar_of({"manifest.json": b'[{"Config":"a"}]'}, link("a", "a")), "round in circles"),
    ],
)
def test_hostile_archive_is_refused_in_words(archive: bytes, text: str) -> None:
    """What an archive may not be is refused with the entry and the reason."""
    assert text in refuse(archive)


def test_archive_cut_off_anywhere_is_refused_and_nothing_half_written_stays() -> None:
    """An archive that ends too early is damaged, wherever that is, also between two entries."""
    whole = tar_of(docker_archive((an_image(), ["app:1"])))
    end = len(whole.rstrip(b"\0")) // 512 * 512
    for cut in range(512, end, 512):
        assert "too early" in (text := refuse(whole[:cut], DataLoss)) or "without its end mark" in text
    for cut in (700, 1100, 2000):
        assert "too early" in refuse(whole[:cut], DataLoss)


@pytest.mark.parametrize("cut", [12, 100, -4])
def test_compressed_archive_cut_off_is_refused(cut: int) -> None:
    """Of a compressed archive even the checksum at its very end must be there."""
    assert "ends early" in refuse(gzip.compress(tar_of(oci_layout((an_image(), {}))))[:cut], DataLoss)


def test_compressed_archive_that_is_damaged_is_refused() -> None:
    """A flipped bit in the checksum of a compressed archive is found."""
    packed = bytearray(gzip.compress(tar_of(oci_layout((an_image(), {})))))
    packed[-6] ^= 1
    assert "compressed stream is damaged" in refuse(bytes(packed), DataLoss)


@pytest.mark.parametrize("known", [False, True])
def test_blob_that_is_not_what_its_name_says_is_refused(known: bool) -> None:
    """A blob under the digest of another is refused, also when the store has that other already."""
    image, content = an_image(), MemoryContent()
    files = oci_layout((image, {}))
    if known:
        import_archive(io.BytesIO(tar_of(files)), content, ImportOptions())
    files[blob_path(image.layers[0])] = b"something else"
    with pytest.raises(DataLoss):
        import_archive(io.BytesIO(tar_of(files)), content, ImportOptions())
    assert not list(content.ingests())


def test_blob_of_another_size_than_its_descriptor_says_is_refused() -> None:
    """Descriptor and blob agree about the size, or the image is refused."""
    image = an_image()
    files = oci_layout((image, {}))
    files["index.json"] = encode({"schemaVersion": 2, "manifests": [{**image.manifest.descriptor(), "size": 7}]})
    assert "not 7 as is said of it" in refuse(tar_of(files), DataLoss)


def test_layers_of_a_docker_archive_in_the_wrong_order_are_refused() -> None:
    """A plain layer in the place of another is found before anything runs on it."""
    image = ImageBuilder().layer(Layer().file("a"), "none").layer(Layer().file("b"), "none").build()
    files = docker_archive((image, []))
    first, second = (name for name in files if name.endswith("layer.tar"))
    files[first], files[second] = files[second], files[first]
    assert "as the config says" in refuse(tar_of(files), DataLoss)


def test_config_that_tells_of_other_layers_is_refused() -> None:
    """An image whose config and layers don't agree in number is refused, in either form."""
    image = ImageBuilder(diff_ids=("sha256:" + "0" * 64,)).layer(Layer(), "none").layer(Layer(), "none").build()
    assert "diff ids" in refuse(tar_of(docker_archive((image, []))))
    assert "diff ids" in refuse(tar_of(oci_layout((image, {}))))


def test_index_nested_too_deep_is_refused() -> None:
    """Indexes in indexes end somewhere."""
    image = an_image()
    files = oci_layout((image, {}))
    blob = image.manifest
    for _ in range(5):
        blob = index([Image(blob, (), "linux", "amd64")]).root
        files[blob_path(blob)] = blob.data
    files["index.json"] = encode({"schemaVersion": 2, "manifests": [blob.descriptor()]})
    assert "nested more than 3 deep" in refuse(tar_of(files))


FORMS = (
    tar_of(oci_layout((an_image(), {}))),
    tar_of(docker_archive((an_image(), ["app:1"])), link("again", "manifest.json")),
    aci(
        aci_manifest(app={"exec": ["/a"]}),
        Layer().file("rootfs/a", b"x", xattrs={"user.k": "v"}).hardlink("rootfs/b", "rootfs/a"),
    ),
    gzip.compress(tar_of(oci_layout((an_image(), {})))),
)
DAMAGE = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255))
"""A place, from the beginning to the end of an archive, and the byte to write there."""


@settings(max_examples=300, deadline=None)
@given(form=st.sampled_from(FORMS), damages=st.lists(DAMAGE, max_size=4))
def test_archive_damaged_anywhere_is_taken_whole_or_refused(form: bytes, damages: list[tuple[float, int]]) -> None:
    """Whatever bytes of an archive are changed, the answer is an image or one of the known errors, and no ingest is left."""
    archive, content = bytearray(form), MemoryContent()
    for place, value in damages:
        archive[int(place * len(archive.rstrip(b"\0")))] = value
    try:
        imported = import_archive(io.BytesIO(bytes(archive)), content, ImportOptions())
        assert {blob.digest for blob in imported.publications} <= {blob.digest for blob in content.walk()}
    except HytheError as error:
        assert error.code in ("InvalidArgument", "DataLoss", "Unimplemented")
    assert not list(content.ingests())
