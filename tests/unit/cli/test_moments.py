"""Times on the command line: one way to give them, for every flag that takes one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.cli.moments import moment_s, rfc3339_us
from hythe.cli.output import epoch_s
from hythe.errors import InvalidArgument

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", NOW - 600),
        ("1h30m", NOW - 5400),
        ("1.5h", NOW - 5400),
        ("7d", NOW - 7 * 86_400),
        ("1700000000", 1_700_000_000),
        ("1700000000.25", 1_700_000_000.25),
        ("1970-01-02", 86_400),
        ("1970-01-01T01:00:00", 3600),
        ("1970-01-01T01:00:00+01:00", 0),
    ],
)
def test_times_are_spans_dates_and_seconds(text: str, seconds: float) -> None:
    """Whatever Docker takes as a time is one."""
    assert moment_s(text, NOW) == seconds


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "10", "10x", "-5m", "m", "2026-13-01", "9" * 400, "1e9", "253402300800", "٣m"]
)
def test_what_is_no_time_is_refused_with_the_flag(text: str) -> None:
    """The message names the flag and says what is expected."""
    if text == "10":  # seconds since 1970
        assert moment_s(text, NOW) == 10
        return
    with pytest.raises(InvalidArgument, match="read --since"):
        moment_s(text, NOW, "--since")


@given(st.integers(0, 253_402_300_799_000_000))
def test_time_written_is_the_time_read(micros: int) -> None:
    """What goes to the server is the moment that was asked for, to the microsecond that a float has."""
    assert abs((epoch_s(rfc3339_us(micros / 1_000_000)) or 0.0) - micros / 1_000_000) < 1e-4


def test_time_before_1970_is_written_as_1970() -> None:
    """A span that goes back further than time began is the beginning of time."""
    assert rfc3339_us(moment_s("100000d", NOW)) == "1970-01-01T00:00:00.000000Z"
