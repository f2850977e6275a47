"""Kept connections: how many, for how long, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hythe.errors import PermissionDenied
from hythe_distribution.adapters.registry.connections import MAX_IDLE_PER_ENDPOINT, MAX_IDLE_S, Connection, Pool
from hythe_distribution.hosts import Endpoint
from tests.fakes.registry import FakeRegistry


@pytest.fixture
def endpoint(fake_registry: FakeRegistry) -> Endpoint:
    """The server."""
    return Endpoint("http", "127.0.0.1", int(fake_registry.address.rpartition(":")[2]))


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool with short limits."""
    made = Pool(1, 1, None)
    yield made
    made.close()


def used(pool: Pool, endpoint: Endpoint) -> Connection:
    """Return a connection that has had one answer."""
    connection = pool.new(endpoint, endpoint)
    connection.request("GET", "/v2/")
    connection.getresponse().read()
    return connection


def test_given_connection_is_taken_again(pool: Pool, endpoint: Endpoint) -> None:
    """The last one given back is the first taken; none is taken twice."""
    first, second = used(pool, endpoint), used(pool, endpoint)
    pool.give(first)
    pool.give(second)
    assert [pool.take(endpoint), pool.take(endpoint), pool.take(endpoint)] == [second, first, None]
    first.close()
    second.close()


def test_connections_beyond_the_limit_are_closed(pool: Pool, endpoint: Endpoint) -> None:
    """No more than a few connections to one server are kept."""
    given = [used(pool, endpoint) for _ in range(MAX_IDLE_PER_ENDPOINT + 3)]
    for connection in given:
        pool.give(connection)
    assert sum(connection.sock is not None for connection in given) == MAX_IDLE_PER_ENDPOINT


def test_connection_idle_for_too_long_is_closed_when_another_comes(pool: Pool, endpoint: Endpoint) -> None:
    """Connections to servers that nobody asks any more don't stay open for ever."""
    stale = used(pool, endpoint)
    pool.give(stale)
    stale.idle_since -= MAX_IDLE_S + 1
    with FakeRegistry() as other:
        elsewhere = Endpoint("http", "127.0.0.1", int(other.address.rpartition(":")[2]))
        pool.give(used(pool, elsewhere))
        assert stale.sock is None
        pool.close()


def test_connection_idle_for_too_long_is_not_taken(pool: Pool, endpoint: Endpoint) -> None:
    """A server may close an old connection at any moment, so a new one is made."""
    stale = used(pool, endpoint)
    pool.give(stale)
    stale.idle_since -= MAX_IDLE_S + 1
    assert pool.take(endpoint) is None
    assert stale.sock is None


def test_connection_that_the_server_has_closed_is_not_taken(pool: Pool, endpoint: Endpoint) -> None:
    """A connection that is dead already is passed over."""
    dead, alive = used(pool, endpoint), used(pool, endpoint)
    pool.give(alive)
    pool.give(dead)
    dead.abort()
    assert pool.take(endpoint) is alive
    alive.close()


def test_connection_is_not_led_to_a_forbidden_address(pool: Pool, endpoint: Endpoint) -> None:
    """A name that means loopback is not connected to on the word of a registry elsewhere."""
    led = pool.new(Endpoint("http", "localhost", endpoint.port), Endpoint("https", "registry.example", 443))
    with pytest.raises(PermissionDenied):
        led.connect()
