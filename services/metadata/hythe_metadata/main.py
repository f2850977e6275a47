"""The ``hythe-metadata`` process."""

from __future__ import annotations

from hythe.process_runner import serve
from hythe_metadata.wiring import build


def main() -> None:
    """Serve until a signal."""
    serve("metadata", build)
