"""What `hythe up` says while it works: one line per step, on the terminal and to the command that detached it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from hythe.errors import BY_CODE, HytheError, Internal

_READY = "ready"
_FAILED = "failed"


class Report:
    """Writes lines to stderr and, while somebody waits there, to a pipe."""

    def __init__(self, pipe: int | None = None) -> None:
        self._pipe = pipe

    def line(self, text: str) -> None:
        """Say one line; that nobody can take it (a closed terminal, a full disk) stops nothing."""
        try:
            print(text, file=sys.stderr, flush=True)
        except OSError:
            pass
        self._send({"line": text})

    def step(self, name: str, pid: int, text: str) -> None:
        """Say how a process fares."""
        self.line(f"  {name:<13} pid {pid:<8} {text}")

    def end(self, error: HytheError | None = None) -> None:
        """Tell whoever waits that the stack is up, or why not; nobody is told anything more."""
        if error is None:
            self._send({_READY: True})
        else:
            names = ("message", "phase", "host", "cause", "outcome", "next_step", "service", "details")
            self._send({_FAILED: {"code": error.code, **{name: getattr(error, name) for name in names}}})
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def _send(self, message: dict[str, Any]) -> None:
        if self._pipe is None:
            return
        try:
            os.write(self._pipe, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            os.close(self._pipe)
            self._pipe = None


def follow(pipe: int) -> None:
    """Repeat the lines of a detached `hythe up` on stderr until it is ready.

    Raises:
        HytheError: what it failed with, or Internal when it ended without a word.
    """
    with os.fdopen(pipe, "rb") as messages:
        for raw in messages:
            message = json.loads(raw)
            if "line" in message:
                print(message["line"], file=sys.stderr, flush=True)
            elif _FAILED in message:
                fields = message[_FAILED]
                raise BY_CODE.get(fields.pop("code"), Internal)(fields.pop("message"), **fields)
            else:
                return
    raise Internal("start the stack: `hythe up` ended without a word", next_step="read <root>/log/up.log")
