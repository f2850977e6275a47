"""Kept connections: how many, for how long, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hythe.errors import PermissionDenied
from hythe_distribution.adapters.registry.connections import MAX_IDLE_PER_ROUTE, MAX_IDLE_S, Connection, Pool, Route
from hythe_distribution.hosts import Endpoint
from tests.fakes.registry import FakeRegistry


@pytest.fixture
def route(fake_registry: FakeRegistry) -> Route:
    """The way to the server, as the user's own choice."""
    return Route(Endpoint("http", "127.0.0.1", int(fake_registry.address.rpartition(":")[2])))


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool with short limits."""
    made = Pool(1, 1, None)
    yield made
    made.close()


def used(pool: Pool, route: Route) -> Connection:
    """Return a connection that has had one answer."""
    connection = pool.new(route)
    connection.request("GET", "/v2/")
    connection.getresponse().read()
    return connection


def test_given_connection_is_taken_again(pool: Pool, route: Route) -> None:
    """The last one given back is the first taken; none is taken twice."""
    first, second = used(pool, route), used(pool, route)
    pool.give(first)
    pool.give(second)
    assert [pool.take(route), pool.take(route), pool.take(route)] == [second, first, None]
    first.close()
    second.close()


def test_connections_beyond_the_limit_are_closed(pool: Pool, route: Route) -> None:
    """No more than a few connections to one server are kept."""
    given = [used(pool, route) for _ in range(MAX_IDLE_PER_ROUTE + 3)]
    for connection in given:
        pool.give(connection)
    assert sum(connection.sock is not None for connection in given) == MAX_IDLE_PER_ROUTE


def test_connection_idle_for_too_long_is_closed_when_another_comes(pool: Pool, route: Route) -> None:
    """Connections to servers that nobody asks any more don't stay open for ever."""
    stale = used(pool, route)
    pool.give(stale)
    stale.idle_since -= MAX_IDLE_S + 1
    with FakeRegistry() as other:
        elsewhere = Route(Endpoint("http", "127.0.0.1", int(other.address.rpartition(":")[2])))
        pool.give(used(pool, elsewhere))
        assert stale.sock is None
        pool.close()


def test_connection_idle_for_too_long_is_not_taken(pool: Pool, route: Route) -> None:
    """A server may close an old connection at any moment, so a new one is made."""
    stale = used(pool, route)
    pool.give(stale)
    stale.idle_since -= MAX_IDLE_S + 1
    assert pool.take(route) is None
    assert stale.sock is None


def test_connection_that_the_server_has_closed_is_not_taken(pool: Pool, route: Route) -> None:
    """A connection that is dead already is passed over."""
    dead, alive = used(pool, route), used(pool, route)
    pool.give(alive)
    pool.give(dead)
    dead.abort()
    assert pool.take(route) is alive
    alive.close()


def test_connection_is_not_led_to_a_forbidden_address(pool: Pool, route: Route) -> None:
    """A name that means loopback is not connected to on the word of a registry elsewhere."""
    origin = Route(Endpoint("https", "registry.example", 443))
    led = pool.new(origin.to(Endpoint("http", "localhost", route.endpoint.port)))
    with pytest.raises(PermissionDenied):
        led.connect()


def test_connection_that_the_user_chose_is_not_lent_to_a_stranger(pool: Pool, route: Route) -> None:
    """A kept connection to loopback is no way around the rule that a registry elsewhere may not lead there."""
    own = used(pool, route)
    pool.give(own)
    origin = Route(Endpoint("https", "registry.example", 443))
    assert pool.take(origin.to(route.endpoint)) is None
    assert pool.take(route) is own
    own.close()


def test_name_that_breaks_the_rules_of_names_is_no_such_host(pool: Pool) -> None:
    """A host that a redirect names is looked up without harm, whatever it is."""
    for host in ("a..b", "x" * 300, "\u0600.example"):
        with pytest.raises(OSError, match=r"no such host|not known|resolution"):
            pool.new(Route(Endpoint("http", host, 80))).connect()
