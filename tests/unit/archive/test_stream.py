"""Decompression within bounds, and the stream that the tar walker reads from."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from backports import zstd

from hythe.archive import stream
from hythe.archive.failures import DamagedError, LimitError
from hythe.archive.stream import Blob, Source, ahead, hashed

DATA = os.urandom(3_000_000)
NO_LIMIT = 1 << 60


def inflate(tmp_path: Path, data: bytes, *, max_bytes: int = NO_LIMIT, max_ratio: int = NO_LIMIT) -> bytes:
    """Return what the blob `data` unpacks to."""
    (tmp_path / "blob").write_bytes(data)
    fd = os.open(tmp_path / "blob", os.O_RDONLY)
    try:
        chunks = list(Blob(fd).chunks(max_bytes=max_bytes, max_ratio=max_ratio))
    finally:
        os.close(fd)
    assert all(len(chunk) <= stream.CHUNK_BYTES for chunk in chunks)
    return b"".join(chunks)


@pytest.mark.parametrize(
    "blob",
    [
        DATA,
        gzip.compress(DATA, 1),
        gzip.compress(DATA[:10]) + gzip.compress(DATA[10:]),
        gzip.compress(DATA) + bytes(700_000),
        zstd.compress(DATA),
        zstd.compress(DATA[:10]) + zstd.compress(DATA[10:]),
        b"\x5a\x2a\x4d\x18\x02\0\0\0xx" + zstd.compress(DATA) + b"\x50\x2a\x4d\x18\x01\0\0\0x",
    ],
    ids=["plain", "gzip", "gzip members", "gzip padded", "zstd", "zstd frames", "zstd with notes"],
)
def test_blob_in_any_form_gives_its_bytes(tmp_path: Path, blob: bytes) -> None:
    """Plain, gzip and zstd are told apart by their first bytes; several members or frames are one stream."""
    assert inflate(tmp_path, blob) == DATA


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
def test_damaged_stream_is_noticed(tmp_path: Path, pack: object) -> None:
    """A stream that is cut, or followed by rubbish, raises; it never just ends."""
    assert callable(pack)
    whole = pack(DATA[:100_000])
    with pytest.raises(DamagedError, match="ends early"):
        inflate(tmp_path, whole[:-9])
    with pytest.raises(DamagedError):
        inflate(tmp_path, whole + b"rubbish")


def test_changed_checksum_of_gzip_is_noticed(tmp_path: Path) -> None:
    """gzip's own checksum is looked at."""
    whole = bytearray(gzip.compress(DATA[:1000]))
    whole[-6] ^= 1
    with pytest.raises(DamagedError):
        inflate(tmp_path, bytes(whole))


def test_empty_blob_is_an_empty_archive(tmp_path: Path) -> None:
    """A blob of no bytes unpacks to none."""
    assert inflate(tmp_path, b"") == b""


@pytest.mark.parametrize("blob", [gzip.compress(bytes(9_000_000)), bytes(9_000_000)], ids=["gzip", "plain"])
def test_blob_beyond_its_size_limit_is_refused(tmp_path: Path, blob: bytes) -> None:
    """No more than the limit comes out, however small the blob is."""
    with pytest.raises(LimitError):
        inflate(tmp_path, blob, max_bytes=2_000_000)


def test_bomb_is_refused_by_its_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that inflates a thousandfold is stopped by its ratio once it is large."""
    monkeypatch.setattr(stream, "RATIO_FREE_BYTES", 1 << 20)
    with pytest.raises(LimitError, match="to 1"):
        inflate(tmp_path, gzip.compress(bytes(64 << 20)), max_ratio=400)


def test_frame_with_a_huge_window_is_refused(tmp_path: Path) -> None:
    """A zstd frame that asks for a window of 1 GiB gets no such memory."""
    parameter = zstd.CompressionParameter
    options = {int(parameter.window_log): 30, int(parameter.content_size_flag): 0}
    packer = zstd.ZstdCompressor(options=options)
    with pytest.raises(DamagedError):
        inflate(tmp_path, packer.compress(DATA[:1000]) + packer.flush())


def test_reading_ahead_changes_nothing() -> None:
    """Chunks come in order and are hashed once, though a thread makes them."""
    digest = hashlib.sha256()
    pieces = [DATA[at : at + 1000] for at in range(0, 100_000, 1000)]
    assert list(ahead(hashed(iter(pieces), digest))) == pieces
    assert digest.hexdigest() == hashlib.sha256(DATA[:100_000]).hexdigest()


def test_error_in_the_thread_reaches_the_reader() -> None:
    """What goes wrong in the thread is raised where the chunks are read."""

    def broken() -> Iterator[bytes]:
        yield b"first"
        raise DamagedError("broken")

    reader = ahead(broken())
    assert next(reader) == b"first"
    with pytest.raises(DamagedError, match="broken"):
        next(reader)


def test_source_gives_exact_pieces() -> None:
    """Blocks and pieces come as asked for, whatever the chunks; too little is an error."""
    source = Source(iter([b"a" * 300, b"b" * 300, b"c" * 600]))
    assert source.block() == b"a" * 300 + b"b" * 212
    source.skip(100)
    assert source.offset == 612
    assert source.exactly(588) == b"c" * 588
    assert source.block() == b""
    with pytest.raises(DamagedError):
        source.exactly(1)
