"""Archives and blobs as files: written whole or not at all, and read piece by piece, with a line on the terminal that counts."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

from hythe.cli.output import size
from hythe.errors import FailedPrecondition, NotFound, ResourceExhausted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNK_BYTES = 256 << 10
REDRAW_S = 0.1


def read_stdin() -> Iterator[bytes]:
    """Return stdin piece by piece.

    Raises:
        FailedPrecondition: it is a terminal.
    """
    if os.isatty(0):
        raise FailedPrecondition(
            "read the archive from stdin: stdin is a terminal", next_step="name a file, or redirect stdin from one"
        )
    return _read(0)


def read_file(path: str) -> tuple[Iterator[bytes], int]:
    """Return a file piece by piece, and its size; 0 for a pipe.

    Raises:
        NotFound: there is no such file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"read {path}: no such file", next_step="correct the name") from None
    return _read(descriptor), os.fstat(descriptor).st_size


def _read(descriptor: int) -> Iterator[bytes]:
    while data := os.read(descriptor, CHUNK_BYTES):
        yield data


def check_stdout() -> None:
    """Make sure that an archive can be written to stdout.

    Raises:
        FailedPrecondition: it is a terminal.
    """
    if os.isatty(1):
        raise FailedPrecondition(
            "write the archive to stdout: stdout is a terminal", next_step="say -o FILE, or redirect stdout into one"
        )


def write_stdout(chunks: Iterable[bytes]) -> None:
    """Write everything to stdout."""
    for chunk in chunks:
        _write_all(1, chunk)


def write_file(chunks: Iterable[bytes], path: str) -> None:
    """Write everything into a file that is there under its name only when it is whole and on the disk.

    A file of that name is replaced, by one that its owner alone may read, as Docker's is: images hold secrets. A device or
    a pipe is written to.

    Raises:
        ResourceExhausted: the disk is full.
        HytheError: whatever `chunks` raises.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        descriptor = os.open(target, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for chunk in chunks:
                _write_all(descriptor, chunk)
        finally:
            os.close(descriptor)
        return
    partial = target.with_name(f".{target.name[:200]}.{os.urandom(4).hex()}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise NotFound(f"write {path}: there is no such directory", next_step="make the directory first") from None
    try:
        try:
            for chunk in chunks:
                _write_all(descriptor, chunk)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.rename(target)
    except BaseException as error:
        partial.unlink()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceExhausted(f"write {path}: the disk is full", cause=str(error.strerror)) from error
        raise


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def counted(chunks: Iterable[bytes], word: str, total_bytes: int = 0, *, quiet: bool = False) -> Iterator[bytes]:
    """Yield `chunks`, and on a terminal keep a line on stderr that says how many bytes went by.

    Args:
        word: what is being done, e.g. ``Sending``.
        total_bytes: how many there will be; 0 where nobody knows.
    """
    if quiet or not sys.stderr.isatty():
        yield from chunks
        return
    done, began, drawn = 0, time.monotonic(), 0.0
    whole = f" of {size(total_bytes)}" if total_bytes else ""
    try:
        for chunk in chunks:
            done += len(chunk)
            now = time.monotonic()
            if now - drawn >= REDRAW_S:
                rate = f"  {size(int(done / (now - began)))}/s" if now - began > 2 * REDRAW_S else ""
                sys.stderr.write(f"\r\x1b[2K{word} {size(done)}{whole}{rate}")
                sys.stderr.flush()
                drawn = now
            yield chunk
    finally:
        sys.stderr.write("\r\x1b[2K")
        sys.stderr.flush()
