"""Subjects: built and parsed in one place, whatever the names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe import subjects
from hythe.errors import InvalidArgument
from hythe.subjects import EventSubject, HostSubject, IoSubject, RpcSubject

hostile = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["*", ">", "a.b", ".", "..", "_", "=", "$SYS", "_INBOX.x", " ", "\t", "a\r\nPUB x 0\r\n"]
)


def matches(pattern: str, subject: str) -> bool:
    """Tell whether a subscription or permission to `pattern` covers `subject`, by NATS's rules."""
    wanted, given_ = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given_) > index
        if index >= len(given_) or token not in ("*", given_[index]):
            return False
    return len(wanted) == len(given_)


def is_literal(subject: str) -> bool:
    """Tell whether `subject` is one that can be published: no empty token, wildcard or white space."""
    return all(token and token not in ("*", ">") for token in subject.split(".")) and not set(subject) & set(" \t\r\n")


@given(hostile, hostile)
def test_request_subject_says_what_went_in(namespace: str, caller: str) -> None:
    """Whatever the names, the subject has its eight tokens and they come back."""
    subject = subjects.rpc(namespace, caller, "metadata", "container", "begin")
    assert is_literal(subject)
    assert subjects.parse_rpc(subject) == RpcSubject(namespace, caller, "metadata", "container", "begin")
    assert matches(subjects.rpc_of_service("metadata"), subject)
    assert matches(subjects.rpc_from(caller, "metadata"), subject)
    assert not matches(subjects.rpc_of_service("runtime"), subject)


@given(hostile, hostile, hostile)
def test_nobody_can_speak_as_another_caller(namespace: str, caller: str, other: str) -> None:
    """The permission of one key never covers a subject of another, whatever their names."""
    subject = subjects.rpc(namespace, caller, "metadata", "container", "begin")
    assert matches(subjects.rpc_from(other, "metadata"), subject) == (other == caller)


@given(hostile, hostile, hostile)
def test_host_never_hears_what_is_for_another(namespace: str, host: str, other: str) -> None:
    """The subscription of one host covers no subject of another, though names contain dots and wildcards."""
    subject = subjects.host_rpc(namespace, host, "agent", "container", "run")
    assert is_literal(subject)
    assert subjects.parse_rpc(subject) == HostSubject(namespace, host, "agent", "container", "run")
    assert matches(subjects.host_rpc_of_service(other, "agent"), subject) == (other == host)
    assert matches(subjects.host_rpc_any("agent"), subject)


@given(hostile, hostile, hostile, hostile)
def test_event_subject_says_what_went_in(namespace: str, host: str, object_id: str, other: str) -> None:
    """Image references and host names of any form make one event subject that is nobody else's."""
    subject = subjects.event(namespace, host, "image", object_id, "created")
    assert is_literal(subject)
    assert subjects.parse_event(subject) == EventSubject(namespace, host, "image", object_id, "created")
    assert matches(subjects.events_of_namespace(other), subject) == (other == namespace)
    assert matches(subjects.events_from_host(other), subject) == (other == host)
    assert matches(subjects.events_of_object(namespace, host, "image", other), subject) == (other == object_id)
    assert matches(subjects.events_of_noun("image"), subject)
    assert matches(subjects.ALL_EVENTS, subject)


@given(hostile, hostile, hostile)
def test_io_subject_says_what_went_in(namespace: str, host: str, other: str) -> None:
    """A container's streams reach only its client, and only its host may send them."""
    channel = "0123456789abcdef" * 2
    subject = subjects.io(namespace, host, channel, "stdout")
    assert is_literal(subject)
    assert subjects.parse_io(subject) == IoSubject(namespace, host, channel, "stdout")
    assert matches(subjects.io_of_channel(namespace, channel), subject)
    assert matches(subjects.io_of_host(other), subject) == (other == host)
    assert matches(subjects.io_of_namespace(other), subject) == (other == namespace or other == "*")
    assert matches(subjects.io_to_host(host, "stdout"), subject)
    assert not matches(subjects.io_to_host(host, "stdin"), subject)


@given(hostile, hostile)
def test_beats_and_statuses_of_hosts_are_apart(host: str, other: str) -> None:
    """No host can speak for another."""
    assert (subjects.beat(host) == subjects.beat(other)) == (host == other)
    assert matches(subjects.ALL_BEATS, subjects.beat(host))
    status = subjects.status("ns", host)
    assert matches(subjects.ALL_STATUSES, status)
    assert matches(subjects.statuses_from_host(other), status) == (host == other)


@given(hostile)
def test_spans_of_a_trace_and_its_root_are_apart(namespace: str) -> None:
    """Listing roots finds the root message of each trace and nothing else."""
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    plain, root = subjects.span(namespace, trace_id), subjects.span(namespace, trace_id, root=True)
    assert is_literal(plain)
    assert matches(subjects.root_spans(namespace), root)
    assert not matches(subjects.root_spans(namespace), plain)
    assert matches(subjects.ALL_SPANS, plain)
    assert matches(subjects.ALL_SPANS, root)


@given(hostile, hostile)
def test_inboxes_of_keys_are_apart(key: str, other: str) -> None:
    """Nobody may listen where another's answers arrive."""
    inbox = f"{subjects.inbox_prefix(key)}.abc.1"
    assert subjects.is_inbox(inbox)
    assert matches(f"{subjects.inbox_prefix(other)}.>", inbox) == (key == other)


@pytest.mark.parametrize(
    "reply", ["", "_INBOX", "hythe.v1.host.a.b.agent.container.run", "_INBOX.*", "_INBOX.a.>", "x_INBOX.a", "$JS.API.x"]
)
def test_reply_subject_that_is_no_inbox_is_known(reply: str) -> None:
    """An answer can never be made to arrive as a command."""
    assert not subjects.is_inbox(reply)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "hythe.v1.rpc",
        "hythe.v1.event.a.b.c.d.e",
        "hythe.v2.rpc.a.b.c.d.e",
        "other.v1.rpc.a.b.c.d.e",
        "hythe.v1.rpc.a.b.c.d.e.f",
        "hythe.v1.rpc.=zz.b.c.d.e",
        "hythe.v1.rpc.a.=.c.d.e",
    ],
)
def test_subject_that_is_no_request_is_refused(subject: str) -> None:
    """Nothing else is taken for a request."""
    with pytest.raises(InvalidArgument):
        subjects.parse_rpc(subject)


@pytest.mark.parametrize(
    "subject", ["", "hythe.v1.rpc.a.b.c.d.e", "hythe.v1.event.a.b.c.d", "hythe.v1.event.a.b.c.=.e"]
)
def test_subject_that_is_no_event_is_refused(subject: str) -> None:
    """Nothing else is taken for an event."""
    with pytest.raises(InvalidArgument):
        subjects.parse_event(subject)


@pytest.mark.parametrize("subject", ["", "hythe.v1.io.a.b.c", "hythe.v1.io.a.b.c.d.e", "hythe.v1.rpc.a.b.c.d"])
def test_subject_that_is_no_channel_is_refused(subject: str) -> None:
    """Nothing else is taken for a stream of a channel."""
    with pytest.raises(InvalidArgument):
        subjects.parse_io(subject)
