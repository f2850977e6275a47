"""The bytes of a layer: decompressed within bounds, hashed in the same pass, handed out in the sizes that are needed."""

from __future__ import annotations

import _thread
import os
from _queue import SimpleQueue

from hythe.archive.failures import DamagedError, LimitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    class Hash(Protocol):
        """What `hashlib` objects offer."""

        def update(self, data: bytes, /) -> None: ...

    class Decompressor(Protocol):
        """What the decompressors of isal and zstd offer alike."""

        @property
        def needs_input(self) -> bool: ...
        @property
        def eof(self) -> bool: ...
        @property
        def unused_data(self) -> bytes: ...
        def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


READ_BYTES = 256 * 1024
CHUNK_BYTES = 1024 * 1024
RATIO_FREE_BYTES = 1 << 30
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE_MAGIC = b"\x2a\x4d\x18"
_ZSTD_WINDOW_LOG = 27


class Blob:
    """A layer's file, read from where it stands: gzip, zstd or plain, told by its first bytes.

    Making one reads those bytes and imports what is needed, so that nothing is imported after the chroot.

    Attributes:
        taken: compressed bytes read so far.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.taken = 0
        self._first = self._read()
        self._make: Callable[[], Decompressor] | None = None
        self._errors: tuple[type[Exception], ...] = (EOFError,)
        if self._first.startswith(_GZIP_MAGIC):
            from isal import igzip_lib

            self._make = lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
            self._errors = (EOFError, igzip_lib.error)  # type: ignore[assignment]  # its stub says instance for class
        elif self._first.startswith(_ZSTD_MAGIC) or _is_skippable_frame(self._first):
            from backports import zstd

            options = {int(zstd.DecompressionParameter.window_log_max): _ZSTD_WINDOW_LOG}
            self._make = lambda: zstd.ZstdDecompressor(options=options)
            self._errors = (EOFError, zstd.ZstdError)

    def _read(self) -> bytes:
        data = os.read(self._fd, READ_BYTES)
        self.taken += len(data)
        return data

    def chunks(self, *, max_bytes: int, max_ratio: int) -> Iterator[bytes]:
        """Yield the uncompressed bytes in chunks of at most 1 MiB.

        Several gzip members or zstd frames one after the other count as one stream; zeros after the last are padding.
        Memory stays bounded whatever the input: no call inflates more than a chunk, no zstd window is above 128 MiB.

        Args:
            max_bytes: most uncompressed bytes.
            max_ratio: most uncompressed bytes for each compressed byte, checked once 1 GiB came out.

        Raises:
            DamagedError: the compressed stream is damaged or ends early.
            LimitError: there is more than `max_bytes`, or than `max_ratio` allows.
        """
        data = self._first
        if self._make is None:
            while data:
                if self.taken > max_bytes:
                    raise LimitError(f"the layer has more than {max_bytes} bytes")
                yield data
                data = self._read()
            return
        inner, given = self._make(), 0
        while True:
            try:
                chunk = inner.decompress(data, CHUNK_BYTES)
            except self._errors as error:
                raise DamagedError(f"decompress after {self.taken} bytes: {error}") from None
            data = b""
            if chunk:
                given += len(chunk)
                if given > RATIO_FREE_BYTES and given > self.taken * max_ratio:
                    raise LimitError(f"decompress: {given} bytes from {self.taken} are more than {max_ratio} to 1")
                if given > max_bytes:
                    raise LimitError(f"the layer has more than {max_bytes} bytes")
                yield chunk
            if inner.eof:
                data = inner.unused_data or self._read()
                while data and not data.strip(b"\0"):
                    data = self._read()
                if not data:
                    return
                inner = self._make()
            elif inner.needs_input:
                data = self._read()
                if not data:
                    raise DamagedError(f"decompress after {self.taken} bytes: the compressed stream ends early")


def _is_skippable_frame(start: bytes) -> bool:
    """Tell whether a zstd stream begins with a frame of somebody's own, which decompresses to nothing (RFC 8878, 3.1.2)."""
    return len(start) > 3 and start[0] & 0xF0 == 0x50 and start[1:4] == _ZSTD_SKIPPABLE_MAGIC


def hashed(chunks: Iterator[bytes], digest: Hash) -> Iterator[bytes]:
    """Pass `chunks` through and feed each to `digest`, so that no second pass is needed."""
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def ahead(chunks: Iterator[bytes], depth: int = 4) -> Iterator[bytes]:
    """Pass `chunks` through, made by a thread that runs at most `depth` chunks ahead.

    Inflating and hashing release the interpreter, so they overlap with the kernel's work of making files.
    """
    ready: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
    free: SimpleQueue[None] = SimpleQueue()
    for _ in range(depth):
        free.put(None)

    def work() -> None:
        try:
            for chunk in chunks:
                free.get()
                ready.put(chunk)
            ready.put(None)
        except BaseException as error:  # noqa: BLE001 (raised again by the reader, which would wait for ever otherwise)
            ready.put(error)

    _thread.start_new_thread(work, ())
    while (item := ready.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        free.put(None)
        yield item


class Source:
    """A stream of chunks as the tar walker wants it: exact pieces, views of file data, skipping.

    Attributes:
        offset: bytes handed out so far.
    """

    __slots__ = ("_at", "_chunk", "_chunks", "offset")

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0
        self.offset = 0

    def block(self) -> bytes:
        """Return the next 512 bytes, or nothing at a clean end.

        Raises:
            DamagedError: the stream ends within the block.
        """
        at = self._at
        if at + 512 <= len(self._chunk):
            self._at = at + 512
            self.offset += 512
            return self._chunk[at : at + 512]
        if at == len(self._chunk) and not self._advance():
            return b""
        return self.exactly(512)

    def exactly(self, size: int) -> bytes:
        """Return the next `size` bytes.

        Raises:
            DamagedError: the stream ends before.
        """
        return b"".join(self.pieces(size))

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield the next `size` bytes in views of at most a chunk.

        Raises:
            DamagedError: the stream ends before.
        """
        while size:
            if self._at == len(self._chunk) and not self._advance():
                raise DamagedError(f"the archive ends {size} bytes too early")
            piece = memoryview(self._chunk)[self._at : self._at + size]
            self._at += len(piece)
            self.offset += len(piece)
            size -= len(piece)
            yield piece

    def skip(self, size: int) -> None:
        """Leave out the next `size` bytes.

        Raises:
            DamagedError: the stream ends before.
        """
        for _ in self.pieces(size):
            pass

    def skip_padding(self, size: int) -> None:
        """Leave out the next `size` bytes, or what there is of them up to the end."""
        while size and (self._at < len(self._chunk) or self._advance()):
            step = min(size, len(self._chunk) - self._at)
            self._at += step
            self.offset += step
            size -= step

    def drain(self) -> None:
        """Read to the end; what follows an archive's end mark belongs to the layer's digest too."""
        self.offset += len(self._chunk) - self._at
        while self._advance():
            self.offset += len(self._chunk)
        self._at = len(self._chunk)

    def _advance(self) -> bool:
        self._chunk, self._at = next(self._chunks, b""), 0
        return bool(self._chunk)
