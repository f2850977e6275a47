"""How far a pull is: on a terminal one line a layer, drawn in place; elsewhere one line for each change of state."""

from __future__ import annotations

import time

from hythe.cli.output import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

REDRAW_S = 0.1
WORDS = {
    "waiting": "Waiting",
    "fetching": "Fetching",
    "verifying": "Verifying",
    "fetched": "Fetched",
    "exists": "Already here",
    "unpacking": "Unpacking",
    "unpacked": "Unpacked",
}
RANK = {"waiting": 0, "fetching": 1, "verifying": 2, "fetched": 3, "exists": 3, "unpacking": 4, "unpacked": 5}
"""Fetching and unpacking overlap and report apart; what is shown of a layer never goes back to a lower rank."""


class Layer:
    """Where one blob stands; the byte counts are those of its present state."""

    __slots__ = ("digest", "done_bytes", "state", "total_bytes")

    def __init__(self, digest: str, state: str, done_bytes: int, total_bytes: int) -> None:
        self.digest = digest
        self.state = state
        self.done_bytes = done_bytes
        self.total_bytes = total_bytes

    def line(self, *, moving: bool) -> str:
        """Return its line; with `moving`, how far the present state is."""
        text = f"{self.digest.removeprefix('sha256:')[:12]}: {WORDS.get(self.state, self.state)}"
        if not self.total_bytes or self.state in ("waiting", "exists"):
            return text
        if moving and self.state in ("fetching", "verifying", "unpacking"):
            return f"{text} {size(self.done_bytes)} of {size(self.total_bytes)}"
        return f"{text} {size(self.total_bytes)}"


def _rank(state: str) -> int:
    return RANK.get(state, -1)


class Lines:
    """Plain progress: one line for each change of a layer's state; none at all without `out`."""

    def __init__(self, out: TextIO | None) -> None:
        self._out = out
        self._states: dict[str, str] = {}

    def layer(self, digest: str, state: str, done_bytes: int, total_bytes: int) -> None:
        """Take one report."""
        if self._out is None or _rank(state) <= _rank(self._states.get(digest, "")):
            return
        self._states[digest] = state
        print(Layer(digest, state, done_bytes, total_bytes).line(moving=False), file=self._out, flush=True)

    def end(self) -> None:
        """Nothing is pending: every line is out."""


class Screen:
    """Progress on a terminal: one line a layer, drawn again in place."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._layers: dict[str, Layer] = {}
        self._drawn = 0
        self._at = 0.0

    def layer(self, digest: str, state: str, done_bytes: int, total_bytes: int) -> None:
        """Take one report; draws at most ten times a second."""
        known = self._layers.get(digest)
        if known is not None and _rank(state) < _rank(known.state):
            return
        self._layers[digest] = Layer(digest, state, done_bytes, total_bytes)
        if time.monotonic() - self._at >= REDRAW_S:
            self._draw()

    def _draw(self) -> None:
        self._at = time.monotonic()
        lines = "".join(f"\x1b[2K{layer.line(moving=True)}\n" for layer in self._layers.values())
        self._out.write((f"\x1b[{self._drawn}A" if self._drawn else "") + lines)
        self._out.flush()
        self._drawn = len(self._layers)

    def end(self) -> None:
        """Draw the last state."""
        if self._layers:
            self._draw()


def make_progress(out: TextIO, *, quiet: bool = False) -> Lines | Screen:
    """Return what shows progress on `out`: in place on a terminal, else line by line; nothing when `quiet`."""
    if quiet:
        return Lines(None)
    return Screen(out) if out.isatty() else Lines(out)
