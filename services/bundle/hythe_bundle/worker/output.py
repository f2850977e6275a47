"""Where an archive goes: hashed, compressed, hashed again and written, beside the reading of the files."""

from __future__ import annotations

import _thread
import hashlib
import os
import time
from _queue import SimpleQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hythe.archive.compressors import Compressor

PIECE_BYTES = 1 << 20
AHEAD = 4


class Output:
    """Takes an archive in any pieces and handles it in pieces of 1 MiB, so that equal archives are compressed equally.

    Attributes:
        archive_bytes: bytes taken.
        blob_bytes: bytes written.
        busy_ns: time that hashing and compressing took.
    """

    def __init__(
        self,
        fd: int,
        compressor: Compressor,
        *,
        progress: Callable[[int], None],
        wrote: Callable[[int, int], None] = lambda fd, size: None,
        only_blob: bool = False,
    ) -> None:
        """Write to `fd` what `compressor` makes of it.

        Args:
            progress: told the bytes of the archive taken, at each piece.
            wrote: told what was written: `fd` and bytes; called in another thread. What it raises ends the work.
            only_blob: do not hash the archive itself.
        """
        self._fd = fd
        self._compressor = compressor
        self._progress = progress
        self._wrote = wrote
        self._archive_digest = None if only_blob else hashlib.sha256()
        self._blob_digest = hashlib.sha256()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._pieces: SimpleQueue[bytes | None] = SimpleQueue()
        self._free: SimpleQueue[None] = SimpleQueue()
        self._ended: SimpleQueue[BaseException | None] = SimpleQueue()
        self._failed = False
        self.archive_bytes = 0
        self.blob_bytes = 0
        self.busy_ns = 0
        for _ in range(AHEAD):
            self._free.put(None)
        _thread.start_new_thread(self._run, ())

    def write(self, data: bytes) -> None:
        """Take the next bytes of the archive.

        Raises:
            OSError: what was taken before could not be written.
        """
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= PIECE_BYTES:
            whole = b"".join(self._waiting)
            at = 0
            while len(whole) - at >= PIECE_BYTES:
                self._hand_on(whole[at : at + PIECE_BYTES])
                at += PIECE_BYTES
            self._waiting = [whole[at:]]
            self._waiting_bytes = len(whole) - at

    def finish(self) -> tuple[str, str]:
        """Write the rest; return the digests, 64 hex digits, of the archive, if it was hashed, and of what was written.

        Raises:
            OSError: it could not be written.
        """
        if self._waiting_bytes:
            self._hand_on(b"".join(self._waiting))
        self._pieces.put(None)
        if (error := self._ended.get()) is not None:
            raise error
        archive = self._archive_digest.hexdigest() if self._archive_digest is not None else ""
        return archive, self._blob_digest.hexdigest()

    def _hand_on(self, piece: bytes) -> None:
        self._free.get()
        if self._failed and (error := self._ended.get()) is not None:
            raise error
        self.archive_bytes += len(piece)
        self._pieces.put(piece)
        self._progress(self.archive_bytes)

    def _run(self) -> None:
        try:
            while (piece := self._pieces.get()) is not None:
                began_ns = time.monotonic_ns()
                if self._archive_digest is not None:
                    self._archive_digest.update(piece)
                ready = self._compressor.compress(piece)
                self._blob_digest.update(ready)
                self.busy_ns += time.monotonic_ns() - began_ns
                self._put(ready)
                self._free.put(None)
            ready = self._compressor.flush()
            self._blob_digest.update(ready)
            self._put(ready)
            self._ended.put(None)
        except BaseException as error:  # noqa: BLE001 (raised again by the writer, which would wait for ever otherwise)
            self._failed = True
            self._ended.put(error)
            self._free.put(None)

    def _put(self, data: bytes) -> None:
        self.blob_bytes += len(data)
        view = memoryview(data)
        while view:
            count = os.write(self._fd, view)
            self._wrote(self._fd, count)
            view = view[count:]
