"""How long nested calls may take."""

from __future__ import annotations

import contextvars
from collections.abc import Callable

import pytest

from hythe import deadline
from hythe.deadline import Deadline


def within(seconds: float | None, measure: Callable[[], float]) -> float:
    """Return what `measure` says inside a request that has so many seconds left (None: no request)."""

    def inside() -> float:
        deadline.current.set(None if seconds is None else Deadline.after(seconds))
        return measure()

    return contextvars.copy_context().run(inside)


def test_call_outside_a_request_has_the_default_time() -> None:
    """Without an outer deadline a call waits the default."""
    assert within(None, deadline.nested_timeout_s) == deadline.DEFAULT_TIMEOUT_S


def test_inner_call_gives_up_before_the_outer_one() -> None:
    """A call made for a request ends early enough to answer that request."""
    assert within(1.0, deadline.nested_timeout_s) == pytest.approx(1.0 - deadline.NESTED_MARGIN_S, abs=0.05)


def test_long_request_does_not_lengthen_its_calls() -> None:
    """A service that is away is noticed in the default time, however patient the caller is."""
    assert within(60.0, deadline.nested_timeout_s) == deadline.DEFAULT_TIMEOUT_S


@pytest.mark.parametrize("left_s", [-5.0, 0.0, 0.1])
def test_late_request_still_gives_its_calls_a_moment(left_s: float) -> None:
    """Never is a call made with no time at all."""
    assert within(left_s, deadline.nested_timeout_s) == 0.05


def test_time_left_is_never_negative() -> None:
    """A deadline that has passed has zero seconds left."""
    assert Deadline.after(-1).remaining_s() == 0.0
