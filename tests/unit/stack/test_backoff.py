"""How soon a process that died is started again."""

from __future__ import annotations

from hythe.stack.backoff import Backoff


def test_process_that_keeps_dying_is_started_less_and_less_often() -> None:
    """From 0.1 s the wait doubles up to 10 s and stays there."""
    backoff = Backoff()
    waits = [backoff.after_death(0.5) for _ in range(9)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_half_a_minute_of_health_is_forgiven() -> None:
    """After 30 s of life the next death waits 0.1 s again."""
    backoff = Backoff()
    for _ in range(5):
        backoff.after_death(0)
    assert backoff.after_death(29.9) == 3.2
    assert backoff.after_death(30.0) == 0.1
    assert backoff.after_death(0) == 0.2
