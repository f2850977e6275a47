"""Tickets: what they allow, and everything they don't."""

from __future__ import annotations

import pytest

from hythe.errors import PermissionDenied
from hythe_distribution.tickets import Grant, Tickets

READ = Grant("GET", "blobs/sha256:00")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return the time that was set."""
        return self.now_s


def test_ticket_allows_the_request_it_was_made_for_once() -> None:
    """A URL that leaks after its use opens nothing."""
    tickets = Tickets()
    ticket = tickets.mint(READ)
    assert tickets.check(ticket, "GET", "blobs/sha256:00") == READ
    with pytest.raises(PermissionDenied, match="allows nothing") as raised:
        tickets.check(ticket, "GET", "blobs/sha256:00")
    assert raised.value.cause == "it was used before"


def test_repeatable_ticket_allows_many_requests() -> None:
    """An ingest is written in many requests under one ticket."""
    tickets = Tickets()
    grant = Grant("PATCH", "ingests/1", repeatable=True)
    ticket = tickets.mint(grant)
    for _ in range(3):
        assert tickets.check(ticket, "PATCH", "ingests/1") == grant


def test_ticket_runs_out() -> None:
    """A ticket is leave for now, not for later."""
    clock = Clock()
    tickets = Tickets(clock)
    ticket = tickets.mint(READ, lifetime_s=30)
    clock.now_s += 31
    with pytest.raises(PermissionDenied) as raised:
        tickets.check(ticket, READ.method, READ.resource)
    assert raised.value.cause == "it has run out"


@pytest.mark.parametrize(("method", "resource"), [("PATCH", READ.resource), ("GET", "blobs/sha256:01"), ("GET", "")])
def test_ticket_for_something_else_is_refused(method: str, resource: str) -> None:
    """Who may read one blob may read no other, and write none."""
    tickets = Tickets()
    with pytest.raises(PermissionDenied) as raised:
        tickets.check(tickets.mint(READ), method, resource)
    assert raised.value.cause == "it is for something else"


def test_ticket_of_another_process_is_refused() -> None:
    """The key is made at each start: tickets of before are void."""
    with pytest.raises(PermissionDenied) as raised:
        Tickets().check(Tickets().mint(READ), READ.method, READ.resource)
    assert raised.value.cause == "this process did not sign it"


def test_changed_ticket_is_refused() -> None:
    """No character of a ticket can be changed."""
    tickets = Tickets()
    ticket = tickets.mint(READ)
    for i, character in enumerate(ticket):
        forged = ticket[:i] + ("A" if character != "A" else "B") + ticket[i + 1 :]
        try:
            tickets.check(forged, READ.method, READ.resource)
        except PermissionDenied:
            continue
        assert i == len(ticket) - 1, "only the unused bits of the last character may differ"


@pytest.mark.parametrize("text", ["", "x", "é", "A" * 50, "A" * 5000, "====", "../..", "a b"])
def test_text_that_is_no_ticket_is_refused(text: str) -> None:
    """Anything can be sent as a ticket, and nothing comes of it."""
    with pytest.raises(PermissionDenied):
        Tickets().check(text, READ.method, READ.resource)


def test_used_tickets_are_forgotten_when_they_have_run_out() -> None:
    """Memory does not grow with the number of requests."""
    clock = Clock()
    tickets = Tickets(clock)
    for _ in range(100):
        clock.now_s += 31
        tickets.check(tickets.mint(READ, lifetime_s=30), READ.method, READ.resource)
    assert len(tickets._used) == 1
