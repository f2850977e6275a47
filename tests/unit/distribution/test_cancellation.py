"""The order to stop, seen by a working thread."""

from __future__ import annotations

import threading

import pytest

from hythe_distribution.cancellation import Cancellation, Cancelled


def test_order_is_seen_and_wakes_what_waits() -> None:
    """After the order, checks fail and each registered call is made once."""
    cancellation, woken = Cancellation(), []
    cancellation.on_cancel(lambda: woken.append("a"))
    cancellation.check()
    cancellation.cancel()
    cancellation.cancel()
    assert woken == ["a"]
    assert cancellation.cancelled
    with pytest.raises(Cancelled):
        cancellation.check()


def test_call_registered_after_the_order_is_made_at_once() -> None:
    """Nothing that begins to wait after the order waits for ever."""
    cancellation, woken = Cancellation(), []
    cancellation.cancel()
    cancellation.on_cancel(lambda: woken.append("late"))()
    assert woken == ["late"]


def test_call_taken_back_is_not_made() -> None:
    """What doesn't wait any more isn't woken."""
    cancellation, woken = Cancellation(), []
    cancellation.on_cancel(lambda: woken.append("gone"))()
    cancellation.on_cancel(lambda: woken.append("stays"))
    cancellation.cancel()
    assert woken == ["stays"]


def test_wait_ends_with_its_time_or_with_the_order() -> None:
    """A pause takes as long as it should, and no moment longer than the work is wanted."""
    cancellation = Cancellation()
    cancellation.wait(0.001)
    threading.Timer(0.01, cancellation.cancel).start()
    with pytest.raises(Cancelled):
        cancellation.wait(3600)
    with pytest.raises(Cancelled):
        cancellation.wait(3600)
