"""The bytes of an archive as its reader wants them: exact pieces, views of file data, skipping, and an end that is checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from hythe.errors import DataLoss, InvalidArgument
from hythe_distribution.archive.compression import Codec, decompressed
from hythe_distribution.cancellation import Cancellation

READ_BYTES = 1 << 18
MAX_TRAILER_BYTES = 16 << 20
"""Most bytes after an archive's end mark; GNU tar pads to a record, which is 10 KiB by default."""


class Source:
    """A stream of uncompressed bytes, read once from front to back.

    Attributes:
        offset: bytes handed out so far.
    """

    def __init__(self, stream: BinaryIO, cancellation: Cancellation, zstd: Codec | None = None) -> None:
        """Read from `stream`, whose own errors pass through, until `cancellation` says stop; see `decompressed`."""
        self._chunks = decompressed(_read(stream, cancellation), zstd)
        self._chunk = memoryview(b"")
        self.offset = 0

    def at_end(self) -> bool:
        """Tell whether no byte is left.

        Raises:
            DataLoss: the compressed stream is damaged or ends early.
        """
        return not self._chunk and not self._advance()

    def pieces(self, size_bytes: int) -> Iterator[memoryview]:
        """Yield the next `size_bytes` bytes in views of at most 1 MiB.

        Raises:
            DataLoss: the archive ends before.
        """
        while size_bytes:
            if not self._chunk and not self._advance():
                raise DataLoss(f"read archive: it ends at least {size_bytes} bytes too early, at byte {self.offset}")
            piece = self._chunk[:size_bytes]
            self._chunk = self._chunk[len(piece) :]
            self.offset += len(piece)
            size_bytes -= len(piece)
            yield piece

    def take(self, size_bytes: int) -> bytes:
        """Return the next `size_bytes` bytes; the caller has bounded them.

        Raises:
            DataLoss: the archive ends before.
        """
        return b"".join(self.pieces(size_bytes))

    def skip(self, size_bytes: int) -> None:
        """Leave out the next `size_bytes` bytes.

        Raises:
            DataLoss: the archive ends before.
        """
        for _ in self.pieces(size_bytes):
            pass

    def finish(self) -> None:
        """Read what stands after the end mark, so that the sender is heard out and a compressed stream's checksum is checked.

        Raises:
            InvalidArgument: it is more than 16 MiB.
            DataLoss: the compressed stream is damaged or ends early.
        """
        end = self.offset
        while not self.at_end():
            self.skip(len(self._chunk))
            if self.offset - end > MAX_TRAILER_BYTES:
                raise InvalidArgument(f"read archive: more than {MAX_TRAILER_BYTES} bytes follow its end mark")

    def _advance(self) -> bool:
        self._chunk = memoryview(next(self._chunks, b""))
        return bool(self._chunk)


def _read(stream: BinaryIO, cancellation: Cancellation) -> Iterator[bytes]:
    cancellation.check()
    while chunk := stream.read(READ_BYTES):
        yield chunk
        cancellation.check()
