"""What `hythe cp` says: how far it is, on a terminal; what came of it, there or as JSON; warnings always."""

from __future__ import annotations

import sys
import time

from hythe.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hythe.cli.context import Context

REDRAW_S = 0.1
_ERASE = "\r\x1b[K"


class Shown:
    """One copy as its user sees it; a block, at whose end the terminal is in order.

    Attributes:
        warnings: what this side has to say at the end.
    """

    def __init__(self, context: Context, source: str, destination: str) -> None:
        self._json = context.as_json
        self._source = source
        self._destination = destination
        self._drawing = not context.args.quiet and not self._json and sys.stderr.isatty()
        self._moved = 0
        self._drawn_at = 0.0
        self.warnings: list[str] = []

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._drawn_at:
            print(end=_ERASE, file=sys.stderr, flush=True)

    def moved(self, size: int) -> None:
        """Count bytes of file data."""
        self._moved += size
        if not self._drawing:
            return
        now = time.monotonic()
        if now - self._drawn_at >= REDRAW_S:
            self._drawn_at = now
            name = output.visible(self._destination)
            print(end=f"{_ERASE}Copying to {name}: {output.size(self._moved)}", file=sys.stderr, flush=True)

    def result(self, result: dict[str, Any] | None) -> None:
        """Say what came of it; `result` is the operation's (`hythe.wire.copy.CopyDone`)."""
        assert result is not None
        if self._drawn_at:
            print(end=_ERASE, file=sys.stderr)
            self._drawn_at = 0.0
        warnings = [*map(str, result.get("warnings", ())), *self.warnings]
        for text in warnings:
            output.warn(text)
        if self._json:
            output.json_line(
                {
                    "source": self._source,
                    "destination": self._destination,
                    "entries": result["entries"],
                    "bytes": result["file_bytes"],
                    "warnings": warnings,
                }
            )
        elif self._drawing:
            name = output.visible(self._destination)
            print(f"Successfully copied {output.size(result['file_bytes'])} to {name}", file=sys.stderr)
