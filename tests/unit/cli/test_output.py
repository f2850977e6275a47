"""What commands print: columns, JSON Lines, sizes and times, and nothing that steers a terminal."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hythe.cli import output


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
        ("2024-02-29T00:00:00Z", 1709164800.0),
        ("0001-01-01T00:00:00Z", -62135596800.0),
        ("2026-11-23T22:15:00+02:00", 1795464900.0),
        ("2026-11-23T15:15:00.5-05:00", 1795464900.5),
        ("2026-13-23T20:15:00Z", None),
        ("2026-11-23T20:15:00", None),
        ("2026-11-23T20:15:00.1e999Z", None),
        ("\uff12\uff10\uff12\uff16-11-23T20:15:00Z", None),
        ("2026-11-23T20:15:00+0x:00", None),
    ],
)
def test_times_are_read_or_left_out(text: str, seconds: float | None) -> None:
    """A time that cannot be read shows nothing."""
    assert output.epoch_s(text) == seconds
    assert (output.since(text, seconds or 0) == "") == (seconds is None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "Less than a second ago"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (60, "About a minute ago"),
        (150, "2 minutes ago"),
        (3600, "About an hour ago"),
        (3600 * 1.6, "2 hours ago"),
        (3600 * 47, "47 hours ago"),
        (86_400 * 3, "3 days ago"),
        (86_400 * 21, "3 weeks ago"),
        (86_400 * 90, "3 months ago"),
        (86_400 * 365 * 3, "3 years ago"),
    ],
)
def test_ages_are_in_dockers_words(seconds: float, text: str) -> None:
    """A column that people know reads as they know it."""
    assert output.age("1970-01-01T00:00:00Z", seconds) == text


def test_age_of_an_unknown_time_is_not_made_up() -> None:
    """An image that does not say when it was made has no age."""
    assert output.age("", 0) == output.age("yesterday", 0) == "N/A"


@given(st.datetimes(timezones=st.just(UTC)))
def test_any_time_is_read_as_the_calendar_says(moment: datetime) -> None:
    """Leap years and centuries are counted right."""
    assert output.epoch_s(moment.isoformat().replace("+00:00", "Z")) == pytest.approx(moment.timestamp(), abs=1e-6)


@example("\x7f\x9b31m\u202e")
@given(
    st.recursive(
        st.text() | st.none() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    )
)
def test_json_cannot_steer_the_terminal_and_means_the_same(value: object) -> None:
    """Whatever strings hold, JSON is printable and reads back as it was."""
    for indent in (None, 2):
        text = output.json_text(value, indent=indent)
        assert text.replace("\n", "").isprintable()
        assert json.loads(text) == value


def test_commands_print_json_only_by_what_escapes_it() -> None:
    """What images and bundles say of themselves reaches no terminal by a way past `json_text`."""
    directory = Path(output.__file__).parent
    assert [path.name for path in directory.glob("*.py") if "print(json.dumps" in path.read_text()] == []
