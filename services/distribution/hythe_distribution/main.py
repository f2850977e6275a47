"""The distribution service: registry traffic, and which blobs this host has."""

from __future__ import annotations

from hythe.process_runner import serve
from hythe_distribution.wiring import build


def main() -> None:
    """Run the service until a signal."""
    serve("distribution", build)
