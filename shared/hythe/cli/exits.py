"""The exit codes of `hythe`: one table, shown by ``hythe --help`` and documented in docs/errors.md."""

from __future__ import annotations

from hythe import errors
from hythe.errors import HytheError

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
ALREADY_EXISTS = 4
NOT_ALLOWED = 5
PRECONDITION = 6
EXHAUSTED = 7
DATA_LOSS = 8
UNKNOWN = 9
SERVICE_AWAY = 10
BUS_AWAY = 11
UNHEALTHY = 12
RUN_OURS = 125
RUN_CANNOT_INVOKE = 126
RUN_NOT_FOUND = 127
BROKEN_PIPE = 141

MEANINGS: dict[int, str] = {
    OK: "done",
    FAILED: "failed in another way than those below",
    USAGE: "the command line is wrong, or a value in it is",
    NOT_FOUND: "what the command names does not exist",
    ALREADY_EXISTS: "the name is taken, or somebody else changed it first",
    NOT_ALLOWED: "not permitted: not root, or the key may not do this",
    PRECONDITION: "not possible in the present state; the error says what to do",
    EXHAUSTED: "no room: disk, memory or a limit",
    DATA_LOSS: "bytes do not match their digest or size",
    UNKNOWN: "no answer in time: whether it took effect is unknown",
    SERVICE_AWAY: "a service or a server that is needed does not answer; nothing was done",
    BUS_AWAY: "the stack is not running, or its bus does not answer",
    UNHEALTHY: "status: something is not healthy; doctor: something must be repaired; images check, content check: not whole",
    RUN_OURS: "run: Hythe failed, the container's command may not have run",
    RUN_CANNOT_INVOKE: "run: the command cannot be invoked",
    RUN_NOT_FOUND: "run: the command is not in the image",
    BROKEN_PIPE: "nobody reads the output any more",
}

_BY_ERROR: dict[type[HytheError], int] = {
    errors.InvalidArgument: USAGE,
    errors.Unauthenticated: NOT_ALLOWED,
    errors.PermissionDenied: NOT_ALLOWED,
    errors.NotFound: NOT_FOUND,
    errors.AlreadyExists: ALREADY_EXISTS,
    errors.Conflict: ALREADY_EXISTS,
    errors.FailedPrecondition: PRECONDITION,
    errors.ResourceExhausted: EXHAUSTED,
    errors.DataLoss: DATA_LOSS,
    errors.DeadlineExceeded: UNKNOWN,
    errors.Unavailable: SERVICE_AWAY,
}


def code_of(error: HytheError) -> int:
    """Return the exit code of a command, other than ``run``, that ended with `error`."""
    if isinstance(error, errors.Unavailable) and error.service == "nats-server":
        return BUS_AWAY
    if error.outcome == "unknown" and isinstance(error, errors.Unavailable):
        return UNKNOWN
    return _BY_ERROR.get(type(error), FAILED)


def code_of_run(error: HytheError) -> int:
    """Return the exit code of ``run`` that ended with `error`: 126 and 127 where the command itself was the trouble."""
    said = error.details.get("exit_code", "")
    return int(said) if said in (str(RUN_CANNOT_INVOKE), str(RUN_NOT_FOUND)) else RUN_OURS


def help_text() -> str:
    """Return the table as the end of ``hythe --help``."""
    lines = [f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items()]
    return "exit codes:\n" + "\n".join(lines) + "\n  run otherwise ends with the container's own code (128 + signal)"
