"""Progress on a terminal: one line a layer and a line for the whole, drawn again in place."""

from __future__ import annotations

import os
import time

from hythe.cli.output import duration, size
from hythe.cli.progress import Layer, Progress, rank

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

REDRAW_S = 0.1
RATE_OVER_S = 3.0
FALLBACK = (80, 24)
_HERE_ALREADY = ("exists", "there", "mounted")
_TRANSFER = ("waiting", "fetching", "verifying", "fetched", "checking", "pushing", "pushed")


class Rate:
    """Bytes per second over the last 3 s of what a counter showed; None as long as too little is known."""

    __slots__ = ("_points",)

    def __init__(self) -> None:
        self._points: list[tuple[float, int]] = []

    def note(self, now_s: float, count: int) -> None:
        """Take the counter's value now; one that went back begins anew."""
        if self._points and count < self._points[-1][1]:
            self._points.clear()
        if not self._points or now_s - self._points[-1][0] >= REDRAW_S:
            self._points.append((now_s, count))
        while len(self._points) > 2 and now_s - self._points[1][0] > RATE_OVER_S:
            del self._points[0]

    def per_s(self, now_s: float, count: int) -> float | None:
        """Return the rate up to now."""
        if not self._points or now_s - self._points[0][0] < 2 * REDRAW_S:
            return None
        return max(0.0, (count - self._points[0][1]) / (now_s - self._points[0][0]))


class Drawn(Layer):
    """A layer on the screen, with what of it was transferred beside its present state.

    Attributes:
        came_bytes: of these `size_bytes` were transferred so far; both 0 for a blob that was there already.
    """

    __slots__ = ("came_bytes", "rate", "size_bytes")

    def __init__(self, digest: str) -> None:
        super().__init__(digest, "", 0, 0)
        self.came_bytes = 0
        self.size_bytes = 0
        self.rate = Rate()

    def take(self, state: str, done_bytes: int, total_bytes: int, now_s: float) -> None:
        """Take one report; of an earlier state than the one shown, only what it says of the transfer."""
        if state in _HERE_ALREADY:
            self.came_bytes = self.size_bytes = 0
        elif state in _TRANSFER:
            self.size_bytes = max(self.size_bytes, total_bytes)
            whole = state in ("verifying", "fetched", "pushed")
            came = self.size_bytes if whole else done_bytes if state in ("fetching", "pushing") else 0
            self.came_bytes = min(self.size_bytes, max(self.came_bytes, came))
        if rank(state) < rank(self.state):
            return
        if state != self.state:
            self.rate = Rate()
        self.state, self.done_bytes, self.total_bytes = state, done_bytes, total_bytes
        self.rate.note(now_s, done_bytes)

    def text(self, now_s: float) -> str:
        """Return its line, with the rate of its present state."""
        line = self.line(moving=True)
        rate = self.rate.per_s(now_s, self.done_bytes) if self.moving and self.total_bytes else None
        return f"{line}  {size(int(rate))}/s" if rate else line


class Screen(Progress):
    """Progress on a terminal: drawn at most ten times a second, never wider or higher than the terminal.

    The cursor is hidden only while a picture is written, so that nothing has to bring it back.
    """

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._layers: dict[str, Drawn] = {}
        self._drawn = 0
        self._at = -REDRAW_S
        self._rate = Rate()

    def layer(self, digest: str, state: str, done_bytes: int, total_bytes: int) -> None:
        """Take one report."""
        now = self._clock()
        known = self._layers.get(digest) or self._layers.setdefault(digest, Drawn(digest))
        known.take(state, done_bytes, total_bytes, now)
        self._rate.note(now, self._came_bytes())
        if now - self._at >= REDRAW_S:
            self._draw(now)

    def _came_bytes(self) -> int:
        return sum(layer.came_bytes for layer in self._layers.values())

    def _draw(self, now: float) -> None:
        self._at = now
        columns, rows = self._measure()
        lines = [*self._visible_lines(now, rows - 2), self._total(now)]
        lines = [line if len(line) < columns else f"{line[: max(0, columns - 2)]}…" for line in lines if line]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        body = "".join(f"\x1b[2K{line}\n" for line in lines)
        self._out.write(f"\x1b[?25l{up}{body}\x1b[J\x1b[?25h")
        self._out.flush()
        self._drawn = len(lines)

    def _visible_lines(self, now: float, room: int) -> list[str]:
        """Return the layers' lines; where they are too many, those that move first, and how many others there are."""
        layers = list(self._layers.values())
        room = max(1, room)
        if len(layers) <= room:
            return [layer.text(now) for layer in layers]
        moving = [layer for layer in layers if layer.moving]
        shown = [*moving, *(layer for layer in reversed(layers) if not layer.moving)][: room - 1]
        kept = set(shown)
        return [*(layer.text(now) for layer in layers if layer in kept), f"… and {len(layers) - len(shown)} more"]

    def _total(self, now: float) -> str:
        """Return the line for the sum of the layers seen so far; empty where nothing had to be transferred."""
        came, whole = self._came_bytes(), sum(layer.size_bytes for layer in self._layers.values())
        if not whole:
            return ""
        text = f"Total: {size(came)} of {size(whole)}"
        if came >= whole:
            return text
        rate = self._rate.per_s(now, came)
        return f"{text}  {size(int(rate))}/s  {duration((whole - came) / rate)} left" if rate else text

    def _measure(self) -> tuple[int, int]:
        try:
            columns, rows = os.get_terminal_size(self._out.fileno())
        except (OSError, ValueError):  # no terminal, or no descriptor at all
            return FALLBACK
        return columns or FALLBACK[0], rows or FALLBACK[1]

    def end(self) -> None:
        """Draw the last state."""
        if self._layers:
            self._draw(self._clock())
