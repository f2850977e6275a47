"""When requests are sent again, and which servers are passed over for a while."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hythe_distribution.breaker import Breaker
from hythe_distribution.hosts import Endpoint
from hythe_distribution.retry import delay_s, retry_after_s, worth_repeating

MIRROR = Endpoint("https", "mirror.example", 443)
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_only_what_may_pass_is_worth_repeating() -> None:
    """A refusal stays one; too many requests and a server's own faults may be over soon."""
    assert [status for status in (200, 301, 400, 401, 403, 404, 416) if worth_repeating(status)] == []
    assert all(worth_repeating(status) for status in (408, 429, 500, 502, 503, 504))


def test_delay_doubles_and_is_spread() -> None:
    """Tries come at growing distances, and not all clients at the same moment."""
    assert [delay_s(attempt, 1.0) for attempt in range(3)] == [0.1, 0.2, 0.4]
    assert [delay_s(attempt, 0.0) for attempt in range(3)] == [0.05, 0.1, 0.2]
    assert len({delay_s(1) for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("0", 0.0),
        (" 17 ", 17.0),
        ("9" * 400, 999999999999.0),
        ("Tue, 24 Nov 2026 12:00:20 GMT", 20.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("Tue, 24 Nov 2026 12:00:20 -0000", 20.0),
        ("Tue, 99 Nov 2026 12:00:20 GMT", None),
        ("\u0663", None),
    ],
)
def test_time_to_wait_is_read_as_seconds_or_as_a_date(header: str, seconds: float | None) -> None:
    """Both forms of Retry-After are honoured; what is neither is as good as nothing."""
    assert retry_after_s(header, NOW) == seconds


def test_server_that_fails_is_passed_over_for_a_growing_time() -> None:
    """A dead server is tried again after 5 s, then 10 s, up to once a minute."""
    clock = Clock()
    breaker = Breaker(clock)
    assert breaker.allows(MIRROR)
    breaker.failed(MIRROR)
    for pause_s in (5, 10, 20, 40, 60, 60):
        clock.now += pause_s - 0.1
        assert not breaker.allows(MIRROR)
        clock.now += 0.2
        assert breaker.allows(MIRROR)
        breaker.failed(MIRROR)


def test_after_an_outage_one_tries_and_the_others_wait_for_it() -> None:
    """Only one pull pays for finding out whether a server is back."""
    clock = Clock()
    breaker = Breaker(clock)
    breaker.failed(MIRROR)
    clock.now += 5
    assert [breaker.allows(MIRROR) for _ in range(3)] == [True, False, False]
    breaker.worked(MIRROR)
    assert [breaker.allows(MIRROR) for _ in range(3)] == [True, True, True]


def test_one_who_never_reports_does_not_keep_a_server_away() -> None:
    """If the one that tries a server is cancelled, another tries it later."""
    clock = Clock()
    breaker = Breaker(clock)
    breaker.failed(MIRROR)
    clock.now += 5
    assert breaker.allows(MIRROR)
    clock.now += 5
    assert breaker.allows(MIRROR)


def test_failures_at_the_same_time_count_once() -> None:
    """Four downloads that fail together don't make an outage four times as long."""
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(4):
        breaker.failed(MIRROR)
    clock.now += 5
    assert breaker.allows(MIRROR)


def test_servers_are_passed_over_each_for_itself() -> None:
    """Another port is another server, and memory is bounded."""
    breaker = Breaker(Clock())
    breaker.failed(MIRROR)
    assert breaker.allows(Endpoint("https", "mirror.example", 8443))
    for port in range(1001):
        breaker.failed(Endpoint("https", "many.example", port))
    assert breaker.allows(MIRROR)
