"""Archives without an end or beyond all measure: each is refused early, in bounded memory, and so is what nobody waits for."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from hythe.digest import parse_digest
from hythe.errors import InvalidArgument, NotFound, ResourceExhausted
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.adapters.memory_store import MemoryContent
from hythe_distribution.archive.importing import ImportOptions, import_archive
from hythe_distribution.archive.intake import Bounds, take_in
from hythe_distribution.archive.source import Source
from hythe_distribution.cancellation import Cancellation, Cancelled
from scripts.lab.images import ImageBuilder, Layer, encode, index
from tests.fakes.archives import aci, aci_manifest, blob_path, link, oci_layout, tar_of
from tests.fakes.tars import Endless, entry
from tests.unit.distribution.test_archive_hostile import MIB, an_image, refuse


@pytest.mark.parametrize(
    ("archive", "text"),
    [
        (tar_of({"a": b"", "b": b"", "c": b""}), "more than 2 blobs"),
        (tar_of({}, link("a", "b"), link("b", "c"), link("c", "d")), "more than 2 entries in it are no blobs"),
        (aci(aci_manifest(), Layer().file("rootfs/a").file("rootfs/b").file("rootfs/c")), "more than 2 entries"),
    ],
)
def test_archive_of_too_many_entries_is_refused(archive: bytes, text: str) -> None:
    """There is a most of blobs, of other entries, and of files in an ACI."""
    content = MemoryContent()
    with pytest.raises(InvalidArgument, match=text):
        take_in(Source(io.BytesIO(archive), Cancellation()), content, Bounds(2, 2, 2))
    assert not list(content.ingests())


def test_documents_that_name_too_many_blobs_are_refused() -> None:
    """What must be remembered of an archive is bounded, however often its documents name the same blob."""
    image = an_image()
    files = oci_layout((image, {}))
    roots = [index([image] * (1000 - i)).root for i in range(52)]
    files |= {blob_path(root): root.data for root in roots}
    files["index.json"] = encode({"schemaVersion": 2, "manifests": [root.descriptor() for root in roots]})
    assert "name more than 50000 blobs" in refuse(tar_of(files))


def test_bomb_in_place_of_a_document_is_refused_at_its_header() -> None:
    """A document of a gigabyte, packed into a megabyte, is refused before it is unpacked."""
    packer = zlib.compressobj(wbits=31)
    start = packer.compress(entry("manifest.json", size=1 << 30).tobuf()) + packer.flush(zlib.Z_SYNC_FLUSH)
    stream = Endless(start, packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH))
    assert "more than 4194304" in refuse(stream)
    assert stream.given < 64 * 1024


def test_archive_of_endless_entries_is_refused() -> None:
    """An archive that never ends is refused when it has had its share of entries."""
    assert "more than 10000 entries in it are no blobs" in refuse(Endless(b"", tar_of({}, entry("d", b"5"))[:512]))


def test_archive_with_endless_padding_is_refused() -> None:
    """What follows the end mark is read, but not for ever."""
    assert "follow its end mark" in refuse(Endless(tar_of({}), bytes(MIB)))


def test_blob_larger_than_the_disk_is_refused_at_its_header(tmp_path: Path) -> None:
    """A blob that says it has a tebibyte is refused for want of room before it is written."""
    content = DirectoryContent(tmp_path)
    stream = Endless(entry("big", size=1 << 40).tobuf(tarfile.GNU_FORMAT), bytes(MIB))
    with pytest.raises(ResourceExhausted):
        import_archive(stream, content, ImportOptions())  # type: ignore[arg-type]  # it only needs read()
    assert not list(content.ingests())
    assert stream.given < MIB


def test_import_holds_neither_the_archive_nor_a_blob_in_memory(tmp_path: Path) -> None:
    """An image of any size is taken in with the same few megabytes of memory."""
    image = ImageBuilder().layer(bytes(96 * MIB), "none").build()
    packed = gzip.compress(tar_of(oci_layout((image, {}))), 1)
    tracemalloc.start()
    try:
        import_archive(io.BytesIO(packed), DirectoryContent(tmp_path), ImportOptions())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB


class Faulty(io.BytesIO):
    """A stream of pieces of 1 KiB that calls `fault` when it has given `after` bytes."""

    def __init__(self, data: bytes, after: int, fault: Callable[[], None]) -> None:
        super().__init__(data)
        self._after = after
        self._fault = fault

    def read(self, size: int | None = -1) -> bytes:
        """Return the next piece."""
        if self.tell() == self._after:
            self._fault()
        return super().read(1024)


def broken() -> None:
    """Fail as a connection that breaks does."""
    raise ConnectionResetError


@pytest.mark.parametrize(
    "archive", [tar_of({"blob": bytes(9000)}), aci(aci_manifest(), Layer().file("rootfs/a", bytes(9000)))]
)
def test_import_that_nobody_waits_for_leaves_nothing(archive: bytes, tmp_path: Path) -> None:
    """A cancelled import, or one whose sender is gone, stops in the middle of a blob and leaves no ingest."""
    content = DirectoryContent(tmp_path)
    order = Cancellation()
    with pytest.raises(Cancelled):
        import_archive(Faulty(archive, 2048, order.cancel), content, ImportOptions(cancellation=order))
    with pytest.raises(ConnectionResetError):
        import_archive(Faulty(archive, 2048, broken), content, ImportOptions())
    assert not list((tmp_path / "ingest").iterdir())
    assert not list(content.walk())


def test_blob_that_is_deleted_during_an_import_is_missed() -> None:
    """Who deletes a blob under an import makes it fail; no image is made of what isn't there."""
    image, content = an_image(), MemoryContent()
    archive = tar_of(oci_layout((image, {})))
    stream = Faulty(archive, len(archive), lambda: content.delete(parse_digest(image.config.digest)))
    with pytest.raises(NotFound, match=f"{image.config.digest}: it was deleted meanwhile"):
        import_archive(stream, content, ImportOptions())
