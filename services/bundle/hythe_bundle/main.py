"""The bundle service: snapshots, unpacking, specs and bundles of one host."""

from __future__ import annotations

from hythe.process_runner import serve
from hythe_bundle.wiring import build


def main() -> None:
    """Run the service until a signal."""
    serve("bundle", build)
