"""The command line reads errors exactly as the services do."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe import errors
from hythe.client import problem
from hythe.wire.problem import Problem, from_problem, to_problem


def _fields(error: errors.HytheError) -> dict[str, object]:
    return {"type": type(error), **{name: getattr(error, name) for name in Problem.model_fields if name != "code"}}


@given(
    st.sampled_from(errors.ALL),
    st.lists(st.text(max_size=20), min_size=7, max_size=7),
    st.sampled_from(problem.OUTCOMES),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5)),
)
def test_every_error_is_read_as_the_wire_model_reads_it(
    kind: type[errors.HytheError], texts: list[str], outcome: errors.Outcome, details: dict[str, str]
) -> None:
    """Class and every field are the same from both readers."""
    message, phase, host, cause, next_step, trace_id, service = texts
    error = kind(
        message,
        phase=phase,
        host=host,
        cause=cause,
        outcome=outcome,
        next_step=next_step,
        trace_id=trace_id,
        service=service,
        details=details,
    )
    data = to_problem(error).model_dump_json().encode()
    assert _fields(problem.decode(data)) == _fields(from_problem(data)) == _fields(error)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"code":"NotFound"}',
        b'{"message":"x"}',
        b'{"code":1,"message":"x"}',
        b'{"code":"NotFound","message":"x","outcome":"maybe"}',
        b'{"code":"NotFound","message":"x","details":{"a":1}}',
        b'{"code":"NotFound","message":"x","details":[]}',
        b'{"code":"NotFound","message":"x","phase":null}',
        b"\xff\xfe",
    ],
)
def test_unreadable_error_is_internal_with_unknown_outcome(data: bytes) -> None:
    """Neither reader guesses: an error that cannot be read says so."""
    for error in (problem.decode(data), from_problem(data)):
        assert type(error) is errors.Internal
        assert error.outcome == "unknown"


def test_code_and_fields_of_a_later_version_are_read_as_both_readers_do() -> None:
    """An unknown code becomes Internal, an unknown field is ignored."""
    data = json.dumps({"code": "Later", "message": "m", "outcome": "done", "new": 1}).encode()
    assert _fields(problem.decode(data)) == _fields(from_problem(data))
    assert type(problem.decode(data)) is errors.Internal
