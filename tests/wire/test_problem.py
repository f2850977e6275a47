"""Errors on the wire."""

from __future__ import annotations

import pytest

from hythe.errors import ALL, HytheError, Internal, NotFound
from hythe.wire.problem import from_problem, to_problem

FIELDS = ("message", "phase", "host", "cause", "outcome", "next_step", "trace_id", "service", "details")


def full(kind: type[HytheError]) -> HytheError:
    """Return an error with every field set."""
    return kind(
        "start web: it failed",
        phase="runc create",
        host="h2",
        cause="no such file",
        outcome="unknown",
        next_step="make it",
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        service="agent",
        details={"kind": "mount"},
    )


@pytest.mark.parametrize("kind", ALL)
def test_error_arrives_as_it_was_raised(kind: type[HytheError]) -> None:
    """Each of the fourteen errors comes out of the wire as its own class with all its fields."""
    error = full(kind)
    arrived = from_problem(to_problem(error).model_dump_json().encode())
    assert type(arrived) is kind
    assert {field: getattr(arrived, field) for field in FIELDS} == {field: getattr(error, field) for field in FIELDS}


@pytest.mark.parametrize("kind", ALL)
def test_default_outcome_travels(kind: type[HytheError]) -> None:
    """What an error says of the request's outcome is the same on both sides."""
    assert from_problem(to_problem(kind("x")).model_dump_json().encode()).outcome == kind.default_outcome


def test_code_of_a_newer_version_is_internal_with_its_text() -> None:
    """An error that this version does not know keeps its message and outcome."""
    data = to_problem(NotFound("find x")).model_dump_json().replace('"NotFound"', '"Novelty"').encode()
    arrived = from_problem(data)
    assert type(arrived) is Internal
    assert (arrived.message, arrived.outcome) == ("find x", "not started")


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{}", b"\xff", b'{"code": "NotFound"}', b'{"code": 5, "message": ""}']
)
def test_unreadable_error_is_internal_and_its_outcome_unknown(data: bytes) -> None:
    """Whatever a service answers, the caller gets an error of the set and no false certainty."""
    arrived = from_problem(data)
    assert type(arrived) is Internal
    assert arrived.outcome == "unknown"


def test_unknown_outcome_word_is_not_taken_for_certainty() -> None:
    """An outcome that isn't one of ours is not understood."""
    data = to_problem(NotFound("x")).model_dump_json().replace('"not started"', '"maybe"').encode()
    assert from_problem(data).outcome == "unknown"
