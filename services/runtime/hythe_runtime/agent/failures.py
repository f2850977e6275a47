"""What a failed ``runc create`` or ``runc start`` means for the user: the exit codes that shells and Docker use."""

from __future__ import annotations

import re

from hythe.errors import FailedPrecondition

FAILED_CODE = 125
NOT_INVOKABLE_CODE = 126
NOT_FOUND_CODE = 127

_NOT_FOUND = ("executable file not found", "no such file or directory", "not a directory")
_NOT_INVOKABLE = ("permission denied", "exec format error", "is a directory")
_HOOK = "hook #"
"""A program of the host, not the container's own, whatever runc says about it."""
_EXEC = re.compile(r'exec: "|exec /|exec failed')


def exit_code_of(message: str) -> int:
    """Return 127 where `message` says that the command was not found, 126 where it cannot be run, else 125."""
    if _HOOK in message or not _EXEC.search(message):
        return FAILED_CODE
    if any(text in message for text in _NOT_FOUND):
        return NOT_FOUND_CODE
    if any(text in message for text in _NOT_INVOKABLE):
        return NOT_INVOKABLE_CODE
    return FAILED_CODE


def refused(step: str, phase: str, message: str) -> FailedPrecondition:
    """Return the error for runc's refusal of `step` (``start web``) in `phase`, with runc's own words as its cause."""
    code = exit_code_of(message)
    next_step = "look at the hook: it must be on the host and end with 0" if _HOOK in message else ""
    if code == NOT_FOUND_CODE:
        next_step = "use a command that the image has, or give its full path"
    elif code == NOT_INVOKABLE_CODE:
        next_step = "make the command executable in the image, or use another"
    return FailedPrecondition(
        f"{step} failed",
        phase=phase,
        cause=message.strip() or "no message",
        next_step=next_step,
        details={"exit_code": str(code)},
    )
