"""How far a pull or push is: on a terminal one line a layer, drawn in place; elsewhere one line for each change of state."""

from __future__ import annotations

import time

from hythe.cli.output import size, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

MODES = ("auto", "plain", "tty", "json", "quiet")
WORDS = {
    "waiting": "Waiting",
    "fetching": "Fetching",
    "verifying": "Verifying",
    "fetched": "Fetched",
    "exists": "Already here",
    "unpacking": "Unpacking",
    "unpacked": "Unpacked",
    "checking": "Checking",
    "pushing": "Pushing",
    "pushed": "Pushed",
    "mounted": "Mounted",
    "there": "Already there",
    "copying": "Copying",
    "packing": "Packing",
}
RANK = {
    "waiting": 0,
    "fetching": 1,
    "verifying": 2,
    "fetched": 3,
    "exists": 3,
    "unpacking": 4,
    "unpacked": 5,
    "checking": 1,
    "pushing": 2,
    "pushed": 3,
    "mounted": 3,
    "there": 3,
    "copying": 1,
    "packing": 1,
}
"""Fetching and unpacking overlap and report apart; what is shown of a layer never goes back to a lower rank."""


class Layer:
    """Where one blob stands; the byte counts are those of its present state."""

    __slots__ = ("digest", "done_bytes", "state", "total_bytes")

    def __init__(self, digest: str, state: str, done_bytes: int, total_bytes: int) -> None:
        self.digest = digest
        self.state = state
        self.done_bytes = done_bytes
        self.total_bytes = total_bytes

    @property
    def moving(self) -> bool:
        """Tell whether bytes are counted in its state."""
        return self.state in ("fetching", "verifying", "unpacking", "pushing", "copying", "packing")

    def line(self, *, moving: bool) -> str:
        """Return its line; with `moving`, how far the present state is."""
        name = visible(self.digest.removeprefix("sha256:")[:12])
        text = f"{name}: {WORDS.get(self.state) or visible(self.state)}"
        if moving and self.moving and not self.total_bytes:
            return f"{text} {size(self.done_bytes)}"  # how much there will be, nobody knows
        if not self.total_bytes or self.state in ("waiting", "checking", "exists", "there"):
            return text
        if moving and self.moving:
            return f"{text} {size(self.done_bytes)} of {size(self.total_bytes)}"
        return f"{text} {size(self.total_bytes)}"


def rank(state: str) -> int:
    """Return where a state stands in a blob's life; an unknown one stands before all."""
    return RANK.get(state, -1)


class Progress:
    """Shows nothing: what the others have in common. Used as a block, it leaves the terminal in order however that ends."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def message(self, payload: dict[str, Any]) -> None:
        """Take one progress message of a pull, push or copy, or of work on a bundle."""
        layer, blob = payload.get("layer"), payload.get("blob")
        if layer:
            self.layer(layer["digest"], layer["state"], layer["done_bytes"], layer["total_bytes"])
        elif blob:
            state = "there" if blob["state"] == "exists" else blob["state"]
            self.layer(blob["digest"], state, blob["done_bytes"], blob["total_bytes"])
        elif step := payload.get("step"):
            self.layer("rootfs", step, payload["done_bytes"], payload["total_bytes"])

    def layer(self, digest: str, state: str, done_bytes: int, total_bytes: int) -> None:
        """Take one report."""

    def end(self) -> None:
        """Show the last state."""


class Lines(Progress):
    """Plain progress: one line for each change of a layer's state."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._states: dict[str, str] = {}

    def layer(self, digest: str, state: str, done_bytes: int, total_bytes: int) -> None:
        """Take one report."""
        if rank(state) <= rank(self._states.get(digest, "")):
            return
        self._states[digest] = state
        print(Layer(digest, state, done_bytes, total_bytes).line(moving=False), file=self._out, flush=True)


class JsonLines(Progress):
    """Progress for programs: each message as it came, with its `time`, on a line of its own."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def message(self, payload: dict[str, Any]) -> None:
        """Take one progress message of a pull, push or copy."""
        from hythe.cli.output import json_text, rfc3339

        now = time.time()
        stamp = f"{rfc3339(now)[:-1]}.{int(now % 1 * 1_000_000):06d}Z"
        print(json_text({"time": stamp, **payload}), file=self._out, flush=True)


def make_progress(out: TextIO, mode: str = "auto", *, quiet: bool = False) -> Progress:
    """Return what shows progress on `out`.

    Args:
        mode: one of `MODES`. By default it is drawn in place on a terminal, and written line by line elsewhere.
        quiet: show nothing, whatever `mode` says.
    """
    if quiet or mode == "quiet":
        return Progress()
    if mode == "json":
        return JsonLines(out)
    if mode == "tty" or (mode == "auto" and out.isatty()):
        from hythe.cli.progress_screen import Screen  # only on terminals

        return Screen(out)
    return Lines(out)
