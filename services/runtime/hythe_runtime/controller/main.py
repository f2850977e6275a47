"""The ``hythe-runtime`` process."""

from __future__ import annotations

from hythe.process_runner import serve
from hythe_runtime.controller.wiring import build


def main() -> None:
    """Serve until a signal; runtime keeps nothing durable, so several may run on one root."""
    serve("runtime", build, owns_directory=False)
