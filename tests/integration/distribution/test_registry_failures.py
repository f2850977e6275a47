"""The HTTP registry against servers that fail for a while, send other parts than were asked for, or next to nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from hythe.errors import (
    DataLoss,
    HytheError,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from hythe_distribution.adapters.registry.client import HttpRegistry
from hythe_distribution.cancellation import Cancellation, Cancelled
from hythe_distribution.credentials import Credentials
from hythe_distribution.hosts import Source
from scripts.lab.images import Blob, Image
from tests.fakes import faults
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_auth import PASSWORD, USER, wants_basic
from tests.integration.distribution.pulling import (
    BLOB,
    MANIFEST,
    NEVER,
    Logins,
    descriptor,
    fetch,
    read,
    some_image,
    source_at,
    swallowing,
)

LIMIT_TEXT = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}'


@pytest.fixture
def client() -> Iterator[HttpRegistry]:
    """A client with short limits."""
    made = HttpRegistry(connect_timeout_s=0.5, stall_timeout_s=0.3, foreign_on_loopback=True)
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


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_failure_is_not_noticed(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry, status: int
) -> None:
    """A registry that fails once or twice serves the pull all the same."""
    fake_registry.break_at(BLOB, faults.status(status), times=2)
    assert fetch(client, source, layer) == layer.data
    assert len(fake_registry.requests) == 3


def test_connection_that_is_hung_up_on_is_made_again(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry
) -> None:
    """A lost connection is no reason to fail."""
    fake_registry.break_at(BLOB, faults.hang_up(), times=3)
    assert fetch(client, source, layer) == layer.data
    fake_registry.break_at(BLOB, faults.hang_up())
    with pytest.raises(Unavailable):
        fetch(client, source, layer)


def test_lasting_failure_ends_after_four_tries(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry
) -> None:
    """A registry that goes on failing is not asked for ever."""
    fake_registry.break_at(BLOB, faults.status(503))
    with pytest.raises(Unavailable) as raised:
        fetch(client, source, layer)
    assert raised.value.cause == "HTTP 503 Service Unavailable"
    assert len(fake_registry.requests) == 4


@pytest.mark.parametrize("status", [400, 403, 404])
def test_refusal_is_not_repeated(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry, status: int
) -> None:
    """What will not change is asked once."""
    fake_registry.break_at(BLOB, faults.status(status))
    with pytest.raises(HytheError):
        fetch(client, source, layer)
    assert len(fake_registry.requests) == 1


def test_pull_limit_of_docker_hub_is_told_with_its_own_words(
    client: HttpRegistry, source: Source, fake_registry: FakeRegistry
) -> None:
    """A limit that stays ends in what the registry says about it."""
    fake_registry.break_at(MANIFEST, faults.status(429, LIMIT_TEXT))
    assert client.head(source, "1", NEVER) is None
    with pytest.raises(ResourceExhausted) as raised:
        client.manifest(source, "1", NEVER)
    assert raised.value.cause == "TOOMANYREQUESTS: You have reached your pull rate limit."
    assert [request.method for request in fake_registry.requests] == ["HEAD", *["GET"] * 4]


@pytest.mark.parametrize("as_date", [False, True])
def test_time_that_a_registry_asks_for_is_waited(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry, as_date: bool
) -> None:
    """Retry-After is honoured, as seconds and as a date."""
    # a date has whole seconds: two from now are more than one, whatever the fraction
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    fake_registry.break_at(BLOB, faults.status(429, Retry_After=date if as_date else "1"), times=1)
    started = time.monotonic()
    assert fetch(client, source, layer) == layer.data
    assert time.monotonic() - started >= 0.9


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("wait", ["31", "3600", "9" * 5000, "Fri, 31 Dec 2200 23:59:59 GMT"])
def test_longer_wait_than_anybody_has_is_told_at_once(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry, status: int, wait: str
) -> None:
    """A registry that asks for an hour does not hold the pull for an hour."""
    fake_registry.break_at(BLOB, faults.status(status, LIMIT_TEXT, Retry_After=wait))
    with pytest.raises(ResourceExhausted) as raised:
        fetch(client, source, layer)
    assert "asks to wait" in raised.value.message
    assert "rate limit" in raised.value.cause
    assert len(fake_registry.requests) == 1


def test_wait_between_tries_ends_with_a_cancellation(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry
) -> None:
    """Ctrl-C is not held up by a Retry-After."""
    fake_registry.break_at(BLOB, faults.status(429, Retry_After="30"))
    cancellation = Cancellation()
    timer = threading.Timer(0.1, cancellation.cancel)
    timer.start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        fetch(client, source, layer, cancellation)
    assert time.monotonic() - started < 5
    timer.join()


def test_body_that_trickles_is_stalled(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry
) -> None:
    """A server that sends a few bytes now and then, to hold a connection, is given up, chunked or not."""
    for fault in (faults.paced(10, 0.02), faults.trickling(10, 0.02)):
        fake_registry.mend()
        fake_registry.break_at(BLOB, fault)
        started = time.monotonic()
        with pytest.raises(Unavailable) as raised:
            fetch(client, source, layer)
        assert "stalled after" in raised.value.message
        assert time.monotonic() - started < 2


def test_slow_reader_does_not_make_a_body_stalled(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry
) -> None:
    """Time in which we read nothing ourselves is not held against the server."""
    with client.open(source, descriptor(layer), NEVER) as body:
        buffer, data, waiting = memoryview(bytearray(100)), b"", threading.Event()
        for _ in range(5):
            data += bytes(buffer[: body.readinto(buffer)])
            waiting.wait(0.15)
        assert data + read(body) == layer.data


def test_short_body_may_be_slow(client: HttpRegistry, source: Source, fake_registry: FakeRegistry) -> None:
    """Fewer bytes than the limit are no stall where there are no more, or where the stall time is not over."""
    fake_registry.break_at(MANIFEST, faults.paced(200, 0.05))
    assert client.manifest(source, "1", NEVER).raw


def test_chunked_body_arrives(client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry) -> None:
    """A body of unknown length is read to its end as it comes."""
    fake_registry.break_at(BLOB, faults.trickling(30_000, 0.0))
    assert fetch(client, source, layer) == layer.data


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (0, 100), (1000, None), (1000, 1), (-1, 1), (-500, None)])
def test_part_of_a_blob_is_what_was_asked_for(
    client: HttpRegistry, source: Source, layer: Blob, offset: int, length: int | None
) -> None:
    """From an offset on, as many bytes as wanted; the server says that it knows ranges."""
    start = offset % len(layer.data)
    with client.open(source, descriptor(layer), NEVER, offset=start, length=length) as body:
        assert (body.offset, body.ranged) == (start, True)
        assert read(body) == layer.data[start:][:length]


def test_server_without_ranges_sends_all_from_the_start(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry
) -> None:
    """Who asked for a part learns that the whole comes."""
    fake_registry.break_at(BLOB, faults.ignore_range())
    with client.open(source, descriptor(layer), NEVER, offset=1000, length=10) as body:
        assert (body.offset, body.ranged) == (0, False)
        assert read(body) == layer.data


def test_whole_blob_is_asked_for_without_a_range(client: HttpRegistry, source: Source, layer: Blob) -> None:
    """A whole blob comes from servers that know no ranges, too."""
    with client.open(source, descriptor(layer), NEVER) as body:
        assert (body.offset, body.ranged) == (0, False)


def test_part_that_there_is_not_is_out_of_range_before_anybody_is_asked(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry
) -> None:
    """A range beyond the blob is our own fault and costs no request."""
    size = len(layer.data)
    for offset, length in ((0, 0), (-1, None), (0, -1), (size, None), (size + 1, None), (0, size + 1), (size - 1, 2)):
        with pytest.raises(OutOfRange):
            client.open(source, descriptor(layer), NEVER, offset=offset, length=length)
    assert fake_registry.requests == []


@pytest.mark.parametrize(
    "content_range",
    [
        "",
        "bytes",
        "bytes 0-9/{size}",
        "bytes 100-108/{size}",
        "bytes 100-110/{size}",
        "bytes 100-109/5",
        "bytes 100-109/99999999999999999999999",
        "bits 100-109/{size}",
        "bytes */{size}",
    ],
)
def test_other_part_than_was_asked_for_is_refused_before_its_first_byte(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry, content_range: str
) -> None:
    """A server that answers with another range would spoil the blob, so it is not read."""
    text = content_range.format(size=len(layer.data))
    fake_registry.break_at(BLOB, faults.status(206, b"0123456789", Content_Range=text))
    with pytest.raises(DataLoss):
        client.open(source, descriptor(layer), NEVER, offset=100, length=10)


def test_part_of_another_length_than_it_says_is_refused(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry
) -> None:
    """Content-Length and Content-Range must agree."""
    text = f"bytes 100-109/{len(layer.data)}"
    fake_registry.break_at(BLOB, faults.status(206, b"012345678", Content_Range=text))
    with pytest.raises(DataLoss):
        client.open(source, descriptor(layer), NEVER, offset=100, length=10)


def test_blob_of_another_size_shows_when_a_range_is_refused(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry
) -> None:
    """A 416 that tells another size is data loss; one that doesn't is the server's failure."""
    fake_registry.break_at(BLOB, faults.status(416, Content_Range="bytes */7"), times=1)
    with pytest.raises(DataLoss):
        client.open(source, descriptor(layer), NEVER, offset=10)
    fake_registry.break_at(BLOB, faults.status(416))
    with pytest.raises(Unavailable):
        client.open(source, descriptor(layer), NEVER, offset=10)


def test_part_that_nobody_asked_for_is_refused(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry
) -> None:
    """A 206 to a request for the whole is not taken for the whole."""
    fake_registry.break_at(BLOB, faults.status(206, layer.data))
    with pytest.raises(InvalidArgument):
        client.open(source, descriptor(layer), NEVER)


def test_redirected_range_stays_one(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry
) -> None:
    """A registry that keeps its blobs elsewhere can be resumed from there."""
    with FakeRegistry() as other:
        other.serve(some_image(), "app:1")
        fake_registry.break_at(BLOB, faults.redirect(f"http://{other.address}/v2/app/blobs/{layer.digest}"))
        with client.open(source, descriptor(layer), NEVER, offset=1000, length=10) as body:
            assert read(body) == layer.data[1000:1010]


@pytest.mark.parametrize(
    "location",
    [
        "http://[::1",
        "http://:80/",
        "//",
        "http://a..b/",
        "http://" + "x" * 300 + "/",
        "gopher://x/",
        "http://127.0.0.1:0x50/",
        "\u00ff",
        "http://\u00e4..b/",
        "http://127.0.0.1\0.example/",
        "http://user:pass@127.0.0.1/",
        "http://user:pass/word@127.0.0.1/",
        "ftp://user:pass@127.0.0.1/",
        "ftp://127.0.0.1/pass?pass",
        "?" * 3000,
    ],
)
def test_location_that_is_nonsense_is_an_error_and_nothing_worse(
    client: HttpRegistry, source: Source, layer: Blob, fake_registry: FakeRegistry, location: str
) -> None:
    """Whatever a redirect says, it ends in an error of ours."""
    fake_registry.break_at(BLOB, faults.redirect(location))
    with pytest.raises((Unavailable, PermissionDenied)) as raised:
        fetch(client, source, layer)
    assert "pass" not in raised.value.whole


def test_foreign_layer_comes_from_the_first_url_that_has_it(
    client: HttpRegistry, layer: Blob, image: Image, fake_registry: FakeRegistry
) -> None:
    """A layer is taken from where its descriptor says, from an offset on, and what lacks it is passed over."""
    fake_registry.serve(image, "app:1")
    base = f"http://{fake_registry.address}/v2/app/blobs"
    wanted = descriptor(layer, f"{base}/sha256:{'0' * 64}", f"{base}/{layer.digest}")
    with client.open_foreign(wanted, NEVER) as body:
        assert read(body) == layer.data
    with client.open_foreign(wanted, NEVER, offset=500) as body:
        assert (body.offset, read(body)) == (500, layer.data[500:])


def test_foreign_layer_never_gets_a_login(image: Image, layer: Blob, fake_registry: FakeRegistry) -> None:
    """Not even the registry's own host gets its login when a descriptor leads there (CVE-2020-15157)."""
    fake_registry.serve(image, "app:1")
    fake_registry.break_at(MANIFEST, wants_basic())
    logins = Logins({fake_registry.address: Credentials(USER, PASSWORD)})
    client = HttpRegistry(credentials=logins, foreign_on_loopback=True)
    client.manifest(source_at(fake_registry), "1", NEVER)
    fake_registry.break_at(BLOB, wants_basic())
    with pytest.raises(HytheError):
        client.open_foreign(descriptor(layer, f"http://{fake_registry.address}/v2/app/blobs/{layer.digest}"), NEVER)
    assert "authorization" in fake_registry.requests[-2].headers
    assert "authorization" not in fake_registry.requests[-1].headers
    client.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://203.0.113.1/x",
        "https://169.254.169.254/latest/meta-data",
        "https://[fe80::1]/",
        "ftp://x/",
        "file:///etc/passwd",
        "https://ann:pass@example.com/",
        "https://example.com:99999/",
        "https://example.com/a b",
        "",
        "x",
    ],
)
def test_foreign_layer_that_leads_where_it_may_not_is_refused(client: HttpRegistry, layer: Blob, url: str) -> None:
    """A manifest cannot make this host ask its cloud's metadata service, or anybody without TLS."""
    with pytest.raises(PermissionDenied) as raised:
        client.open_foreign(descriptor(layer, url), NEVER)
    assert "pass" not in raised.value.whole.replace("/etc/passwd", "")


def test_foreign_layer_on_this_host_is_refused_unless_allowed(
    image: Image, layer: Blob, fake_registry: FakeRegistry
) -> None:
    """Servers that listen on loopback alone are not reached on a manifest's word, with TLS or without."""
    fake_registry.serve(image, "app:1")
    client = HttpRegistry()
    port = fake_registry.address.rpartition(":")[2]
    for url in (f"http://127.0.0.1:{port}/x", f"https://127.0.0.1:{port}/x", f"https://localhost:{port}/x"):
        with pytest.raises(PermissionDenied):
            client.open_foreign(descriptor(layer, url), NEVER)
    assert fake_registry.requests == []
    client.close()


def test_foreign_layer_that_nobody_has_is_not_found(
    client: HttpRegistry, layer: Blob, fake_registry: FakeRegistry
) -> None:
    """No URL, and URLs that have nothing, are told as a blob that there is not; only a few of many are asked."""
    urls = [f"http://{fake_registry.address}/{i}" for i in range(50)]
    for wanted in (descriptor(layer), descriptor(layer, *urls)):
        with pytest.raises(NotFound) as raised:
            client.open_foreign(wanted, NEVER)
        assert raised.value.details["kind"] == "blob"
    assert len(fake_registry.requests) == 8


def test_dialling_ends_with_a_cancellation(layer: Blob) -> None:
    """A host that swallows packets does not hold up Ctrl-C for the whole connect time."""
    patient = HttpRegistry(connect_timeout_s=30)
    cancellation = Cancellation()
    timer = threading.Timer(0.1, cancellation.cancel)
    timer.start()
    started = time.monotonic()
    with swallowing() as port, pytest.raises((Cancelled, HytheError)):
        patient.head(Source(f"127.0.0.1:{port}", "app"), "1", cancellation)
    assert time.monotonic() - started < 5
    timer.join()
    patient.close()
