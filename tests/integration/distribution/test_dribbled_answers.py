"""The HTTP registry against servers that always send a little more and never come to an end."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from hythe.errors import Unavailable
from hythe_distribution.adapters.registry.client import HttpRegistry
from hythe_distribution.hosts import Source
from scripts.lab.images import Blob, Image
from tests.fakes import faults
from tests.fakes.registry import FakeRegistry
from tests.fixtures.waiting import eventually
from tests.integration.distribution.pulling import BLOB, NEVER, descriptor, fetch, some_image, source_at

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def client() -> Iterator[HttpRegistry]:
    """A client with short limits."""
    made = HttpRegistry(stall_timeout_s=0.3)
    yield made
    made.close()


@pytest.fixture
def image() -> Image:
    """An image with one layer."""
    return some_image()


@pytest.fixture
def layer(image: Image) -> Blob:
    """Its layer."""
    return image.layers[0]


@pytest.fixture
def source(fake_registry: FakeRegistry, image: Image) -> Source:
    """The image as the repository ``app`` of a registry."""
    return source_at(fake_registry, image)


@pytest.mark.parametrize(
    ("data", "again", "pause_s"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.0),
        (b"", b"x", 0.02),
        (OK + b"X-Long: ", b"x", 0.02),
        (CHUNKED + b"5;", b"x", 0.02),
        (CHUNKED + b"0\r\n", b"X-Trailer: x\r\n", 0.0),
    ],
    ids=["continue", "status", "header", "chunk extension", "trailers"],
)
def test_answer_that_never_gets_to_its_point_is_stalled(
    client: HttpRegistry,
    source: Source,
    layer: Blob,
    fake_registry: FakeRegistry,
    data: bytes,
    again: bytes,
    pause_s: float,
) -> None:
    """A server that keeps sending something gets no more time than one that is silent, and its connection is closed."""
    fake_registry.break_at(BLOB, faults.raw(data, again=again, pause_s=pause_s))
    began = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        fetch(client, source, layer)
    assert "timed out" in raised.value.cause
    assert time.monotonic() - began < 2
    eventually(lambda: fake_registry.busy == 0, what="the connection is closed")


def test_answer_that_thinks_before_it_hurries_arrives(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry
) -> None:
    """The clock begins anew with each piece of a body, so a slow one arrives as long as it never falls silent."""
    fake_registry.break_at(BLOB, faults.trickling(len(layer.data) // 4 + 1, 0.2))
    assert fetch(client, source, layer) == layer.data


def test_chunk_of_negative_length_is_no_answer(
    client: HttpRegistry, source: Source, fake_registry: FakeRegistry
) -> None:
    """More bytes than were asked for at a time are refused where they come in."""
    small = Blob(b"small", "application/octet-stream")
    fake_registry.break_at(BLOB, faults.raw(CHUNKED + b"-5\r\n" + bytes(3000)))
    with pytest.raises(Unavailable) as raised, client.open(source, descriptor(small), NEVER) as body:
        body.readinto(memoryview(bytearray(6)))
    assert "negative length" in raised.value.cause
