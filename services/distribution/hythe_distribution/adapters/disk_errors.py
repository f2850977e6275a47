"""The one translation of what a file system refuses into the closed error set."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hythe.errors import DataLoss, FailedPrecondition, HytheError, ResourceExhausted

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def reported(step: str, directory: Path) -> Iterator[None]:
    """Run a block; a refusal of the file system below `directory` becomes an error that begins with `step`.

    Raises:
        ResourceExhausted: no room, quota or file size used up.
        FailedPrecondition: read-only, or not permitted.
        DataLoss: the disk cannot read or write.
        OSError: anything else, as it was.
    """
    try:
        yield
    except OSError as error:
        translated = _translate(step, directory, error)
        if translated is None:
            raise
        raise translated from error


def _translate(step: str, directory: Path, error: OSError) -> HytheError | None:
    cause = error.strerror or str(error)
    if error.errno in _NO_ROOM:
        return ResourceExhausted(
            f"{step}: no room on the file system of {directory}",
            cause=cause,
            next_step=f"free some space there (df {directory}), then try again",
            details={"kind": "disk"},
        )
    if error.errno in _NOT_ALLOWED:
        return FailedPrecondition(
            f"{step}: {directory} cannot be written",
            cause=cause,
            next_step=f"make {directory} writable for the distribution service, or choose another HYTHE_ROOT",
            details={"kind": "disk"},
        )
    if error.errno == errno.EIO:
        return DataLoss(f"{step}: the disk of {directory} fails", cause=cause, details={"kind": "disk"})
    return None
