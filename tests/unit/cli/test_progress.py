"""Progress of a pull or push: line by line, drawn on a terminal, as JSON; hostile reports do no harm."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import struct
import termios
from collections.abc import Iterator
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.cli.progress import RANK, JsonLines, Lines, Progress, make_progress
from hythe.cli.progress_screen import Drawn, Rate, Screen

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


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


@pytest.fixture
def terminal() -> Iterator[tuple[TextIO, int]]:
    """A terminal of 40 columns and 8 rows, and the descriptor of its other side."""
    outside, inside = os.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 8, 40, 0, 0))
    with open(inside, "w") as out:
        yield out, outside
    os.close(outside)


@pytest.mark.parametrize(
    ("mode", "kind"), [("plain", Lines), ("tty", Screen), ("json", JsonLines), ("quiet", Progress), ("auto", Lines)]
)
def test_mode_decides_how_progress_is_shown(mode: str, kind: type[Progress]) -> None:
    """`--progress` is obeyed wherever stderr goes."""
    assert type(make_progress(io.StringIO(), mode)) is kind


def test_progress_on_a_terminal_is_drawn_unless_it_shall_not(terminal: tuple[TextIO, int]) -> None:
    """By default a terminal gets a picture."""
    out, _ = terminal
    assert type(make_progress(out)) is Screen
    assert type(make_progress(out, "plain")) is Lines
    assert type(make_progress(out, quiet=True)) is Progress


def test_picture_is_no_wider_and_no_higher_than_the_terminal(terminal: tuple[TextIO, int]) -> None:
    """An image with more layers than the terminal has rows shows those that move, and how many others there are."""
    out, outside = terminal
    screen = Screen(out)
    for number in range(50):
        screen.layer(f"sha256:{number:064x}", "waiting", 0, 10**9)
    screen.layer(B, "fetching", 123_456_789, 987_654_321)
    screen.end()
    raw = b""
    while b"Total: 123.5 MB" not in raw or not raw.endswith(b"\x1b[?25h"):
        raw += os.read(outside, 1 << 20)  # the kernel hands it over piece by piece
    shown = raw.decode()
    picture = re.sub("\x1b\\[[?0-9]*[A-Za-z]", "", shown.rpartition("\x1b[?25l")[2])
    lines = picture.rstrip().split("\r\n")
    assert len(lines) == 7
    assert all(len(line) < 40 for line in lines)
    assert any("bbbbbbbbbbbb: Fetching 123.5 MB" in line for line in lines)
    assert "… and 46 more" in lines
    assert lines[-1].startswith("Total: 123.5 MB of 51.0 GB")


def test_total_counts_each_byte_once_and_what_is_here_not_at_all() -> None:
    """Unpacking, and layers that were here already, move no bytes."""
    out = io.StringIO()
    screen = Screen(out)
    screen.layer(A, "unpacking", 5, 900)
    screen.layer(A, "fetching", 60, 100)
    screen.layer(B, "exists", 0, 1000)
    screen.layer("sha256:" + "c" * 64, "pushing", 30, 100)
    screen.end()
    assert "Total: 90 B of 200 B" in out.getvalue()
    assert "aaaaaaaaaaaa: Unpacking 5 B of 900 B" in out.getvalue()


def test_rate_is_that_of_the_last_seconds() -> None:
    """A stall or a resumed download does not show yesterday's speed."""
    rate = Rate()
    for second in range(11):
        rate.note(second, second * 100)
    assert rate.per_s(10.0, 1000) == pytest.approx(100)
    rate.note(10.5, 5)
    assert rate.per_s(10.6, 5) is None


def test_line_of_a_moving_layer_has_its_rate() -> None:
    """How fast each layer comes is seen beside it."""
    layer = Drawn(A)
    layer.take("fetching", 0, 1000, 100.0)
    layer.take("fetching", 500, 1000, 101.0)
    assert layer.text(101.0) == "aaaaaaaaaaaa: Fetching 500 B of 1.0 kB  500 B/s"
    layer.take("verifying", 0, 1000, 101.1)
    assert layer.text(101.1) == "aaaaaaaaaaaa: Verifying 0 B of 1.0 kB"


def test_time_left_is_what_the_rate_says_and_the_picture_changes_ten_times_a_second() -> None:
    """The whole has an end that can be waited for, and drawing costs little."""
    out = io.StringIO()
    now = 0.0
    screen = Screen(out, lambda: now)
    for millisecond in range(1001):
        now = millisecond / 1000
        screen.layer(A, "fetching", millisecond * 10, 100_000)
    assert "Total: 9.1 kB of 100.0 kB  10.0 kB/s  9 s left" in out.getvalue()
    assert 10 <= out.getvalue().count("\x1b[?25l") <= 11


def test_progress_as_json_keeps_the_message_and_adds_a_time() -> None:
    """Programs get what the service said."""
    out = io.StringIO()
    progress = make_progress(out, "json")
    progress.message({"blob": {"digest": A, "state": "pushing", "done_bytes": 1, "total_bytes": 2}})
    line = json.loads(out.getvalue())
    assert line.pop("time").startswith("20")
    assert line == {"blob": {"digest": A, "state": "pushing", "done_bytes": 1, "total_bytes": 2}}


def test_blob_that_a_registry_has_is_not_said_to_be_here() -> None:
    """`exists` means here in a pull, and there in a push."""
    out = io.StringIO()
    progress = make_progress(out)
    progress.message({"layer": {"digest": A, "state": "exists", "done_bytes": 0, "total_bytes": 2}})
    progress.message({"blob": {"digest": B, "state": "exists", "done_bytes": 0, "total_bytes": 2}})
    assert out.getvalue().splitlines() == ["aaaaaaaaaaaa: Already here", "bbbbbbbbbbbb: Already there"]


_REPORTS = st.lists(
    st.tuples(
        st.sampled_from([A, B, "sha256:\x1b[2J", ""]),
        st.sampled_from([*RANK, "\x1b[31mred", "new"]),
        st.integers(-5, 1 << 62),
        st.integers(-5, 1 << 62),
    ),
    max_size=20,
)


@given(_REPORTS)
def test_no_report_can_steer_the_terminal_or_break_the_picture(reports: list[tuple[str, str, int, int]]) -> None:
    """Late, repeated, strange reports are shown as far as they can be."""
    for mode in ("plain", "tty"):
        out = io.StringIO()
        with make_progress(out, mode) as progress:
            for report in reports:
                progress.layer(*report)
        assert "\x1b[31m" not in out.getvalue()
        assert "\x1b[2J" not in out.getvalue()
