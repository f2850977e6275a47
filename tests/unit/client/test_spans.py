"""How span messages become a trace: its tree, what is missing, clocks of hosts, the critical path."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.client.critical_path import mark_critical_path
from hythe.client.skew import offset_ns
from hythe.client.spans import Process, Span, Trace, build_trace, to_json

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
BEGIN_NS = 1_700_000_000_000_000_000
MS = 1_000_000


def span(
    span_id: str, parent: str, start_ms: float, end_ms: float, kind: str = "internal", **more: Any
) -> dict[str, Any]:
    """Return one span as it is published; a client span is a request to a service."""
    attributes = {"messaging.destination.name": "hythe.v1.rpc.default.cli.x.y.z"} if kind == "client" else {}
    return {
        "trace_id": TRACE,
        "span_id": span_id,
        "parent_span_id": parent,
        "name": span_id,
        "kind": kind,
        "start_ns": BEGIN_NS + int(start_ms * MS),
        "end_ns": BEGIN_NS + int(end_ms * MS),
        "status": "ok",
        "status_message": "",
        "attributes": attributes,
        "events": [],
        **more,
    }


def message(
    service: str, *spans: dict[str, Any], host: str = "h1", still_open: int = 0, dropped: int = 0
) -> dict[str, Any]:
    """Return a span message of one process."""
    return {"service": service, "host": host, "pid": 7, "open": still_open, "dropped": dropped, "spans": list(spans)}


def find(trace: Trace, span_id: str) -> Span:
    """Return one span of a trace."""
    return next(found for _, found in trace.spans() if found.span_id == span_id)


def critical_ms(trace: Trace) -> dict[str, float]:
    """Return the time each span spent on the critical path, in milliseconds, where there is any."""
    return {found.span_id: found.critical_ns / MS for _, found in trace.spans() if found.critical_ns}


def a_run() -> list[dict[str, Any]]:
    """Return the messages of a small complete run."""
    return [
        message("metadata", span("begin", "ask-begin", 12, 18, "server"), span("commit", "begin", 13, 17)),
        message("runtime", span("run", "ask-run", 5, 95, "server"), span("ask-begin", "run", 10, 20, "client")),
        message("cli", span("root", "", 0, 100), span("ask-run", "root", 2, 97, "client")),
    ]


def test_messages_of_processes_become_one_tree() -> None:
    """Each span hangs below its parent, whatever process it came from and in whatever order."""
    trace = build_trace(a_run())
    assert [(depth, found.span_id) for depth, found in trace.spans()] == [
        (0, "root"),
        (1, "ask-run"),
        (2, "run"),
        (3, "ask-begin"),
        (4, "begin"),
        (5, "commit"),
    ]
    assert trace.complete, trace.problems
    assert (trace.trace_id, trace.round_trips, len(trace.processes)) == (TRACE, 2, 3)
    assert trace.end_ns - trace.start_ns == 100 * MS


def test_no_messages_are_an_incomplete_trace() -> None:
    """A trace of which nothing has arrived is empty and not complete."""
    trace = build_trace([])
    assert trace.root is None
    assert not trace.complete
    assert to_json(trace)["spans"] == []


def test_fsyncs_are_summed_over_all_spans() -> None:
    """The budget of a run can be counted from its trace."""
    messages = [message("cli", span("a", "", 0, 9, attributes={"hythe.fsyncs": 2}), span("b", "a", 1, 2))]
    messages.append(message("agent", span("c", "a", 1, 2, attributes={"hythe.fsyncs": 3})))
    assert build_trace(messages).fsyncs == 5


def test_caller_of_the_command_is_no_missing_parent() -> None:
    """A command run inside somebody else's trace is complete, though its caller's span is stored elsewhere."""
    trace = build_trace([message("cli", span("root", "00f067aa0ba902b7", 0, 1))])
    assert trace.complete
    assert trace.root is not None


def test_missing_parent_makes_the_trace_incomplete() -> None:
    """Spans without their parent are kept, shown apart, and named as what is missing."""
    trace = build_trace([a_run()[0], a_run()[2]])
    assert [orphan.span_id for orphan in trace.orphans] == ["begin"]
    assert any("parent ask-begin of begin" in problem for problem in trace.problems)


def test_open_spans_of_the_latest_message_make_it_incomplete() -> None:
    """Only what a process said last counts: spans that had not ended then are still to come."""
    early = message("runtime", span("x", "root", 1, 2), still_open=2)
    late = message("runtime", span("y", "root", 2, 3))
    command = message("cli", span("root", "", 0, 4))
    assert not build_trace([command, early]).complete
    assert build_trace([command, early, late]).complete
    assert not build_trace([command, late, early]).complete


def test_request_without_its_answering_span_is_incomplete() -> None:
    """A process of which nothing has arrived yet is noticed by the request that it answered; a refused one needs none."""
    command = message("cli", span("root", "", 0, 4), span("ask", "root", 1, 3, "client"))
    assert any("what answered ask" in problem for problem in build_trace([command]).problems)
    failed = message("cli", span("root", "", 0, 4), span("ask", "root", 1, 3, "client", status="error"))
    assert build_trace([failed]).complete


def test_trace_without_the_command_is_incomplete() -> None:
    """Until the command's own span is there, the trace is not whole."""
    trace = build_trace(a_run()[:2])
    assert trace.root is None
    assert "the command's own span has not arrived" in trace.problems


def test_repeated_message_changes_nothing() -> None:
    """A message stored twice shows each span once."""
    assert to_json(build_trace(a_run() + a_run())) == to_json(build_trace(a_run()))


@pytest.mark.parametrize(
    "strange",
    [
        "text",
        None,
        {},
        span("x", "root", 5, 1),
        {**span("x", "root", 0, 1), "end_ns": 10**30},
        {**span("x", "root", 0, 1), "start_ns": "0"},
        {**span("x", "root", 0, 1), "span_id": 5},
    ],
)
def test_span_that_cannot_be_read_is_left_out_and_said(strange: object) -> None:
    """Whatever a process publishes, the rest of the trace is shown."""
    trace = build_trace([message("cli", span("root", "", 0, 1)), {**message("agent"), "spans": [strange]}])
    assert [found.span_id for _, found in trace.spans()] == ["root"]
    assert "1 span could not be read" in trace.problems


@pytest.mark.parametrize("strange", [{}, {"spans": 5}, {"service": 1, "spans": [], "open": "x"}])
def test_message_that_cannot_be_read_is_left_out(strange: dict[str, Any]) -> None:
    """A message of another form does no harm."""
    trace = build_trace([message("cli", span("root", "", 0, 1)), strange])
    assert [found.span_id for _, found in trace.spans()] == ["root"]


def test_span_of_another_trace_is_left_out() -> None:
    """Only one trace is shown at a time."""
    other = span("x", "root", 0, 1, trace_id="0" * 31 + "1")
    assert [found.span_id for _, found in build_trace([message("cli", span("root", "", 0, 1), other)]).spans()] == [
        "root"
    ]


def test_spans_in_a_ring_are_shown_as_orphans() -> None:
    """Spans that name each other as parents neither hang the viewer nor vanish."""
    ring = message("agent", span("a", "b", 0, 1), span("b", "a", 0, 1), span("c", "b", 0, 1), span("d", "d", 0, 1))
    trace = build_trace([message("cli", span("root", "", 0, 2)), ring])
    assert sorted(found.span_id for _, found in trace.spans()) == ["a", "b", "c", "d", "root"]
    assert not trace.complete


def test_deep_trace_is_no_problem() -> None:
    """A chain of thousands of spans is built and marked without recursion."""
    chain = [span("0", "", 0, 1)] + [span(str(number), str(number - 1), 0, 1) for number in range(1, 3000)]
    trace = build_trace([message("cli", *chain)])
    assert max(depth for depth, _ in trace.spans()) == 2999


@pytest.mark.parametrize(
    ("asked", "answered", "expected"),
    [
        ((0, 100), (10, 90), 0),
        ((0, 100), (0, 80), 10),
        ((1000, 1100), (10, 90), 1000),
        ((0, 100), (5_010, 5_090), -5000),
        ((0, 100), (50, 400), 0),
        ((0, 100), (500, 900), -500),
    ],
)
def test_answer_lies_in_the_middle_of_its_question(
    asked: tuple[int, int], answered: tuple[int, int], expected: int
) -> None:
    """The answering host's clock is moved so that the way there is as long as the way back."""
    assert offset_ns(asked, answered) == expected


def test_other_host_is_shifted_with_all_below_it() -> None:
    """A host whose clock is an hour ahead is drawn where it belongs, with its events, and a third one after it."""
    hour = 3_600_000
    event = {"name": "created", "time_ns": BEGIN_NS + (hour + 35) * MS, "attributes": {}}
    trace = build_trace(
        [
            message("cli", span("root", "", 0, 100), span("ask", "root", 10, 90, "client")),
            message(
                "agent",
                span("run", "ask", hour + 30, hour + 90, "server"),
                span("create", "run", hour + 31, hour + 40, events=[event]),
                span("ask-2", "run", hour + 50, hour + 80, "client"),
                host="h2",
            ),
            message("bundle", span("prepare", "ask-2", 5, 25, "server"), host="h3"),
        ]
    )
    starts = {found.span_id: (found.start_ns - BEGIN_NS) / MS for _, found in trace.spans()}
    assert starts == {"root": 0, "ask": 10, "run": 20, "create": 21, "ask-2": 40, "prepare": 45}
    assert (find(trace, "create").events[0].time_ns - BEGIN_NS) / MS == 25
    assert find(trace, "create").shift_ns == find(trace, "run").shift_ns == -(hour + 10) * MS
    assert find(trace, "root").shift_ns == 0


def test_spans_of_one_host_are_not_shifted() -> None:
    """Between processes of one host there is one clock, and what it says is shown."""
    trace = build_trace(a_run())
    assert all(found.shift_ns == 0 for _, found in trace.spans())


def test_critical_path_goes_back_through_what_finished_last() -> None:
    """Time is charged to what was waited for, not to what ran beside it."""
    trace = build_trace(
        [
            message(
                "cli",
                span("root", "", 0, 100),
                span("first", "root", 0, 30),
                span("beside", "root", 0, 25),
                span("second", "root", 40, 90),
                span("inner", "second", 50, 60),
            )
        ]
    )
    assert critical_ms(trace) == {"root": 20, "first": 30, "second": 40, "inner": 10}
    assert not find(trace, "beside").critical


def test_clean_up_after_the_answer_is_not_on_the_critical_path() -> None:
    """What a service does after it has answered is charged to nobody."""
    trace = build_trace(
        [
            message("cli", span("root", "", 0, 100), span("ask", "root", 0, 100, "client")),
            message(
                "agent",
                span("run", "ask", 1, 150, "server"),
                span("start", "run", 10, 95),
                span("clean-up", "run", 99, 149),
                span("late", "run", 101, 140),
            ),
        ]
    )
    assert critical_ms(trace) == {"ask": 1, "run": 14, "start": 85}


def test_answer_that_ends_a_little_late_is_on_the_critical_path() -> None:
    """A span that ends just after its parent, as the last step of an answer does, was waited for."""
    trace = build_trace([message("cli", span("root", "", 0, 100), span("last", "root", 90, 100.5))])
    assert critical_ms(trace) == {"root": 90, "last": 10}


@st.composite
def trees(draw: st.DrawFn) -> Span:
    """Return a root with spans below it at any times, inside and outside their parents."""
    process = Process("cli", "h1", 1)
    instants = st.integers(0, 5 * MS)
    root = Span(process, "root", "", "root", "internal", 2 * MS, 4 * MS)
    everyone = [root]
    for number in range(draw(st.integers(0, 12))):
        start, end = sorted((draw(instants), draw(instants)))
        parent = draw(st.sampled_from(everyone))
        kind = draw(st.sampled_from(["internal", "client", "server"]))
        child = Span(process, str(number), parent.span_id, "", kind, start, end)
        parent.children.append(child)
        everyone.append(child)
    return root


@given(trees())
def test_critical_path_is_as_long_as_the_root(root: Span) -> None:
    """However spans overlap, the times on the critical path sum up to the command's duration and none is negative."""
    mark_critical_path(root)
    times = [found.critical_ns for _, found in root.walk()]
    assert sum(times) == root.duration_ns
    assert min(times) >= 0
    assert all(found.critical or not found.critical_ns for _, found in root.walk())


def test_json_form_is_plain_lower_snake_case() -> None:
    """The machine-readable form can be dumped as it is and names things as all other output does."""
    data = json.loads(json.dumps(to_json(build_trace(a_run()))))
    assert (data["trace_id"], data["complete"], data["problems"], data["round_trips"]) == (TRACE, True, [], 2)
    commit = data["spans"][-1]
    assert (commit["name"], commit["depth"], commit["service"], commit["host"]) == ("commit", 5, "metadata", "h1")
    assert (commit["offset_ns"], commit["duration_ns"], commit["status"]) == (13 * MS, 4 * MS, "ok")
    assert all(key == key.lower() and "-" not in key for key in (*data, *commit))
