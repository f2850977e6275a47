"""What the system's or an archive's refusal means to who asked for a copy."""

from __future__ import annotations

import errno
import os

from hythe.archive.failures import ArchiveError, DamagedError, LimitError
from hythe.errors import (
    DataLoss,
    FailedPrecondition,
    HytheError,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)

_NO_ROOM = "make room there, then try again; what was copied before is there"


def of_os(error: OSError, step: str) -> HytheError:
    """Return the error for a refusal of the kernel while `step` was done; the error's own file name stands in it."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    message = f"{step}: {name}" if name and not step.endswith(name) else step
    text = error.strerror or str(error)
    match error.errno:
        case errno.ENOENT:
            return NotFound(f"{message}: no such file or directory", details={"kind": "path"})
        case errno.ENOTDIR:
            return InvalidArgument(f"{message}: not a directory", details={"kind": "path"})
        case errno.ELOOP:
            return InvalidArgument(f"{message}: too many symbolic links, or one in the way", details={"kind": "path"})
        case errno.ENAMETOOLONG:
            return InvalidArgument(f"{message}: the name is too long", details={"kind": "path"})
        case errno.ENOSPC | errno.EDQUOT:
            return ResourceExhausted(f"{message}: no space left", cause=text, next_step=_NO_ROOM)
        case errno.EROFS:
            return FailedPrecondition(f"{message}: the file system is read-only", next_step="copy to a writable volume")
        case errno.EBUSY:
            return FailedPrecondition(
                f"{message}: something is mounted there, so it cannot be replaced",
                cause=text,
                next_step="write into it from inside the container instead",
            )
        case errno.EACCES | errno.EPERM:
            return PermissionDenied(f"{message}: not permitted", cause=text)
        case errno.ENOMEM:
            return ResourceExhausted(f"{message}: out of memory", cause=text)
    return Internal(f"{message}: the system refused", cause=text)


def of_archive(error: ArchiveError | DamagedError | LimitError, step: str) -> HytheError:
    """Return the error for an archive that cannot be used while `step` was done."""
    if isinstance(error, DamagedError):
        return DataLoss(f"{step}: {error}")
    if isinstance(error, LimitError):
        return ResourceExhausted(f"{step}: {error}")
    return InvalidArgument(f"{step}: {error}", outcome="failed")
