"""Log lines for people."""

from __future__ import annotations

from hythe.stack.log_lines import readable


def test_records_show_their_message_and_the_last_advice() -> None:
    """Who starts a stack sees why a service did not start and what to do, not JSON."""
    lines = [
        '{"time": "t", "level": "info", "message": "started", "next_step": "wait"}',
        '{"time": "t", "level": "error", "message": "open x: it is y", "next_step": "choose y"}',
    ]
    assert readable(lines) == (["info: started", "error: open x: it is y"], "choose y")


def test_lines_that_are_no_records_stay_as_they_are() -> None:
    """A traceback is shown line by line; there is no advice in it."""
    lines = ["Traceback (most recent call last):", '{"a": 1}', "3", '{"message": 3}', "{"]
    assert readable(lines) == (lines, "")
