"""The one translation of the operating system's errors into the closed set."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from hythe.errors import FailedPrecondition, ResourceExhausted

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@contextmanager
def os_errors(step: str, *, phase: str) -> Iterator[None]:
    """Run a block whose OSErrors mean that `step` failed.

    Raises:
        ResourceExhausted: no room, memory or descriptors.
        FailedPrecondition: anything else.
    """
    try:
        yield
    except OSError as error:
        kind = ResourceExhausted if error.errno in _FULL else FailedPrecondition
        raise kind(
            f"{step} failed", phase=phase, cause=str(error), outcome="not started", details={"exit_code": "125"}
        ) from error
