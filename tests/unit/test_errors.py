"""The closed set of errors."""

from __future__ import annotations

import pytest

from hythe.errors import ALL, BY_CODE, DeadlineExceeded, HytheError, Unavailable


def test_set_is_closed_and_each_code_is_its_own() -> None:
    """There are fourteen errors, each with its own code, number and gRPC code."""
    assert len(ALL) == 14
    assert set(HytheError.__subclasses__()) == set(ALL)
    assert {BY_CODE[error.code] for error in ALL} == set(ALL)
    assert len({error.number for error in ALL}) == 14
    assert len({error.grpc for error in ALL}) == 14
    assert all(400 <= error.number < 600 for error in ALL)


@pytest.mark.parametrize("error", ALL)
def test_code_is_the_name_of_the_class(error: type[HytheError]) -> None:
    """What is written in code, on the wire and in documents is one word."""
    assert error.code == error.__name__


def test_unknown_outcome_is_only_assumed_where_nobody_answered() -> None:
    """A timeout leaves the outcome unknown; no responders means that nothing was executed."""
    assert DeadlineExceeded("x").outcome == "unknown"
    assert Unavailable("x").outcome == "not started"
    assert [error for error in ALL if error.default_outcome == "unknown"] == [DeadlineExceeded]


def test_outcome_can_be_told_otherwise() -> None:
    """Whoever raises an error and knows more says so."""
    assert Unavailable("x", outcome="unknown").outcome == "unknown"


def test_details_are_a_copy() -> None:
    """Changing what an error was made from does not change the error."""
    facts = {"kind": "image"}
    error = Unavailable("x", details=facts)
    facts.clear()
    assert error.details == {"kind": "image"}


def test_text_of_an_error_is_its_message() -> None:
    """An error that reaches a log by `str` says what failed, and by `repr` where and why."""
    error = Unavailable("ask metadata", phase="begin", cause="no responders")
    assert str(error) == "ask metadata"
    assert repr(error) == "Unavailable('ask metadata', phase='begin', cause='no responders')"
