"""What commands print: columns, JSON Lines, sizes and times, and nothing that steers a terminal."""

from __future__ import annotations

import io
import json

import pytest

from hythe.cli import output
from hythe.cli.progress import Lines, make_progress
from hythe.cli.progress_screen import Screen


def test_columns_are_as_wide_as_their_widest_cell(capsys: pytest.CaptureFixture[str]) -> None:
    """Headers and cells line up; no blanks at the ends of lines."""
    output.table(("A", "LONG", "C"), [("xxx", "y", ""), ("", "zzzzzz", "c")])
    assert capsys.readouterr().out == "A     LONG     C\nxxx   y\n      zzzzzz   c\n"


def test_hostile_names_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters are shown, not obeyed, in tables and warnings."""
    output.table(("N",), [("\x1b[2Jx\n",)])
    output.warn("a\x07b")
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert "\\x1b[2Jx\\n" in captured.out
    assert captured.err == "warning: a\\x07b\n"


def test_json_line_is_one_line_of_utf8(capsys: pytest.CaptureFixture[str]) -> None:
    """One object per line, whatever its strings hold."""
    output.json_line({"a": "ü\n", "b": None})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"a": "ü\n", "b": None}


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (195_200_000, "195.2 MB"), (10**16, "10000.0 TB")]
)
def test_sizes_are_decimal(count: int, text: str) -> None:
    """As Docker shows them."""
    assert output.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_durations_are_in_their_largest_fitting_unit(seconds: float, text: str) -> None:
    """Short to read, never negative."""
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2026-11-23T20:15:00.250000Z", 1795464900.25),
        ("", None),
        ("yesterday", None),
        ("2026-11-23", None),
    ],
)
def test_times_are_read_or_left_out(text: str, seconds: float | None) -> None:
    """A time that cannot be read shows nothing."""
    assert output.epoch_s(text) == seconds
    assert output.since(text, 0) == ("" if seconds is None else "0 s ago")


def test_progress_elsewhere_than_on_a_terminal_is_one_line_per_change() -> None:
    """Logs of a build stay short: each state of a layer once."""
    out = io.StringIO()
    progress = make_progress(out)
    assert isinstance(progress, Lines)
    for state, done in (("waiting", 0), ("fetching", 1), ("fetching", 2), ("verifying", 2), ("unpacked", 2)):
        progress.layer("sha256:" + "ab" * 32, state, done, 2000)
    progress.end()
    assert out.getvalue().splitlines() == [
        "abababababab: Waiting",
        "abababababab: Fetching 2.0 kB",
        "abababababab: Verifying 2.0 kB",
        "abababababab: Unpacked 2.0 kB",
    ]


def test_progress_on_a_terminal_is_drawn_in_place_and_never_goes_back() -> None:
    """One line per layer; a late report of an earlier state is not shown."""
    out = io.StringIO()
    screen = Screen(out)
    screen.layer("sha256:" + "a" * 64, "unpacking", 1, 2)
    screen.layer("sha256:" + "a" * 64, "fetched", 2, 2)
    screen.layer("sha256:" + "b" * 64, "fetching", 1, 2)
    screen.end()
    last = out.getvalue().rpartition("A")[2]
    assert "aaaaaaaaaaaa: Unpacking 1 B of 2 B" in last
    assert "bbbbbbbbbbbb: Fetching 1 B of 2 B" in last


def test_quiet_progress_says_nothing() -> None:
    """`--quiet` is quiet."""
    out = io.StringIO()
    progress = make_progress(out, quiet=True)
    progress.layer("sha256:" + "a" * 64, "fetching", 1, 2)
    progress.end()
    assert out.getvalue() == ""
