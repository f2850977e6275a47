"""The ``hythe-agent`` process."""

from __future__ import annotations

from hythe.process_runner import serve
from hythe_runtime.agent.wiring import build


def main() -> None:
    """Serve until a signal; a second agent on the same root is refused."""
    serve("agent", build)
