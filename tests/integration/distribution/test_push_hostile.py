"""Sending to a registry that fails, loses, lies, leads elsewhere, or is given up in the middle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hythe.errors import (
    DataLoss,
    HytheError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from hythe_distribution.adapters.registry.asking import Asking
from hythe_distribution.adapters.registry.push import push_manifest
from hythe_distribution.adapters.registry.upload_session import range_end
from hythe_distribution.cancellation import Cancellation, Cancelled
from hythe_distribution.hosts import Source
from scripts.lab.images import OCI_MANIFEST, Blob
from tests.fakes import faults
from tests.fakes.pushed import problem
from tests.fakes.registry import Answer, FakeRegistry, Fault, Handler, Recorded
from tests.fixtures.waiting import eventually
from tests.integration.distribution import pushing
from tests.integration.distribution.pushing import EMPTY, Reports, artifact, reading, send

NEVER = Cancellation()
LARGE = Blob(bytes(range(256)) * 1000, "application/octet-stream")
SMALL = Blob(b"a small blob", "application/octet-stream")
UPLOADS = r"/blobs/uploads/"
SESSION = r"/blobs/uploads/upload-"


@pytest.fixture
def asking() -> Iterator[Asking]:
    """What asks registries."""
    with pushing.asking() as made:
        yield made


@pytest.fixture
def source(fake_registry: FakeRegistry) -> Source:
    """A repository of the registry that can misbehave."""
    return Source(fake_registry.address, "app")


@pytest.fixture
def other_registry() -> Iterator[FakeRegistry]:
    """A second registry, on another port."""
    with FakeRegistry() as server:
        yield server


def only(method: str, fault: Fault) -> Fault:
    """Return the fault for requests of one method; others are answered honestly."""

    def chosen(handler: Handler, answer: Answer) -> Answer | None:
        return fault(handler, answer) if handler.command == method else answer

    return chosen


def with_headers(**headers: str) -> Fault:
    """Answer honestly but for some headers, named as in `faults.status`; an empty one is left out."""

    def fault(handler: Handler, answer: Answer) -> Answer:
        changed = {**answer.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return replace(answer, headers={name: value for name, value in changed.items() if value})

    return fault


def requests(registry: FakeRegistry, method: str) -> list[Recorded]:
    """Return the requests of one method so far."""
    return [each for each in registry.requests if each.method == method]


def ranges(registry: FakeRegistry) -> list[str]:
    """Return which ranges were sent as chunks."""
    return [each.headers["content-range"] for each in requests(registry, "PATCH")]


def test_broken_chunk_goes_on_behind_the_last_byte_that_arrived(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """When the connection breaks within a chunk, only what the registry lacks is sent."""
    fake_registry.pushed.cut_after(100_000, 30_000)
    reports = Reports()
    assert send(asking, source, LARGE, reports=reports) == "pushed"
    assert ranges(fake_registry) == ["0-99999", "100000-199999", "130000-229999", "230000-255999"]
    assert reports == [100_000, 130_000, 230_000, 256_000]
    assert fake_registry.pushed.blobs["app", LARGE.digest] == LARGE.data


def test_small_blob_whose_connection_breaks_goes_on_where_it_was(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """A blob that goes in one piece is taken up again in the middle as well."""
    fake_registry.pushed.cut_after(5)
    assert send(asking, source, SMALL) == "pushed"
    assert ranges(fake_registry) == ["5-11"]
    assert fake_registry.pushed.blobs["app", SMALL.digest] == SMALL.data


@pytest.mark.parametrize("status", [500, 503, 416, 429])
def test_chunk_answered_with_a_failure_goes_on_from_what_the_registry_has(
    asking: Asking, fake_registry: FakeRegistry, source: Source, status: int
) -> None:
    """A registry that fails for a moment after taking a chunk is asked what it has, and goes on."""
    fake_registry.break_at(SESSION, only("PATCH", faults.status(status)), times=1)
    assert send(asking, source, LARGE) == "pushed"
    assert ranges(fake_registry) == ["0-99999", "100000-199999", "200000-255999"]


def test_upload_that_the_registry_has_lost_starts_anew(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """When a registry has forgotten an upload, another one is begun."""
    reports = Reports(lambda taken: fake_registry.pushed.uploads.clear() if len(reports) == 2 else None)
    assert send(asking, source, LARGE, reports=reports) == "pushed"
    assert reports == [100_000, 200_000, 0, 100_000, 200_000, 256_000]
    assert len(requests(fake_registry, "POST")) == 2


def test_registry_that_says_it_has_more_than_was_sent_starts_anew(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """A registry that claims bytes it was never sent is not believed: the blob is sent from the beginning."""
    fake_registry.break_at(SESSION, only("PATCH", with_headers(Range="0-199999")), times=1)
    assert send(asking, source, LARGE) == "pushed"
    assert ranges(fake_registry)[:2] == ["0-99999", "0-99999"]
    assert fake_registry.pushed.blobs["app", LARGE.digest] == LARGE.data
    assert not fake_registry.pushed.uploads


def test_registry_that_takes_part_of_a_chunk_gets_the_rest(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """When a registry says that it took only a part of a chunk, the next one begins there."""

    def half(handler: Handler, answer: Answer) -> Answer:
        (held,) = fake_registry.pushed.uploads.values()
        del held[50_000:]
        return replace(answer, headers={**answer.headers, "Range": "bytes=0-49999"})

    fake_registry.break_at(SESSION, only("PATCH", half), times=1)
    assert send(asking, source, LARGE) == "pushed"
    assert ranges(fake_registry)[1] == "50000-149999"


def test_answer_that_got_lost_after_the_blob_was_made_counts_as_pushed(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """When only the last answer is lost, the blob is there and is not sent again."""
    fake_registry.break_at(SESSION, only("PUT", faults.hang_up()), times=1)
    assert send(asking, source, LARGE) == "pushed"
    assert len(requests(fake_registry, "POST")) == 1


@pytest.mark.parametrize("fault", [faults.hang_up(), faults.status(500)])
def test_registry_that_never_gets_further_is_given_up(
    asking: Asking, fake_registry: FakeRegistry, source: Source, fault: Fault
) -> None:
    """After five breaks in which the registry took nothing more the push fails, and says how far it came."""

    def forgetful(handler: Handler, answer: Answer) -> Answer | None:
        for held in fake_registry.pushed.uploads.values():
            del held[100_000:]
        return fault(handler, answer)

    reports = Reports(lambda taken: fake_registry.break_at(SESSION, only("PATCH", forgetful)))
    with pytest.raises(Unavailable, match="5 times without taking more than 100000 of 256000 bytes"):
        send(asking, source, LARGE, reports=reports)
    assert ranges(fake_registry) == ["0-99999", *["100000-199999"] * 5]
    assert not fake_registry.pushed.uploads


def test_line_that_breaks_often_but_gets_further_arrives(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """A bad line is no reason to give up as long as each attempt brings something."""
    fake_registry.pushed.cut_after(*[20_000] * 12)
    assert send(asking, source, LARGE) == "pushed"
    assert fake_registry.pushed.blobs["app", LARGE.digest] == LARGE.data


def test_chunks_are_as_large_as_the_registry_demands(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """A registry that wants larger chunks gets larger chunks."""
    fake_registry.pushed.least_chunk_bytes = 150_000
    assert send(asking, source, LARGE) == "pushed"
    assert ranges(fake_registry) == ["0-149999", "150000-255999"]


def test_registry_that_says_other_bytes_arrived_is_an_error(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """A registry that finds another digest than promised refuses the blob, and the push says so."""
    other = Blob(LARGE.data[:-1] + b"x", LARGE.media_type)
    with pytest.raises(DataLoss, match="other bytes arrived"):
        send(asking, source, LARGE, read=reading(other))
    assert not fake_registry.pushed.blobs


@pytest.mark.parametrize("stated", ["sha256:" + "0" * 64, "sha256:nonsense"])
@pytest.mark.parametrize("method", ["HEAD", "PUT"])
def test_registry_that_states_another_digest_is_not_believed(
    asking: Asking, fake_registry: FakeRegistry, source: Source, method: str, stated: str
) -> None:
    """A push succeeds only if the registry says that it has the very digest that was pushed, or says nothing."""
    if method == "HEAD":
        fake_registry.pushed.blobs["app", SMALL.digest] = SMALL.data
    fake_registry.break_at(r"/blobs/", only(method, with_headers(Docker_Content_Digest=stated)))
    with pytest.raises(DataLoss):
        send(asking, source, SMALL)


def test_blob_that_is_there_with_another_size_is_an_error(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """A registry that has a blob of that digest with another size is not relied on."""
    fake_registry.pushed.blobs["app", SMALL.digest] = SMALL.data + b"!"
    fake_registry.break_at(r"/blobs/sha256", with_headers(Docker_Content_Digest=""))
    with pytest.raises(DataLoss, match="13 bytes, not 12"):
        send(asking, source, SMALL)


def test_store_that_has_too_few_bytes_is_an_error_at_once(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """When the content store gives fewer bytes than the blob should have, the push fails and says so."""
    short = Blob(LARGE.data[:150_000], LARGE.media_type)
    with pytest.raises(DataLoss, match="only 150000 of 256000 bytes"):
        send(asking, source, LARGE, read=reading(short))
    assert len(requests(fake_registry, "PATCH")) <= 2
    assert not fake_registry.pushed.uploads


def test_store_that_fails_is_not_taken_for_the_registry(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """When the content store is away, the push fails with the store's own error and doesn't try the registry again."""

    def read(offset: int) -> Iterator[bytes]:
        yield LARGE.data[:10]
        raise Unavailable("read blob: the store is away")

    with pytest.raises(Unavailable, match="the store is away"):
        send(asking, source, LARGE, read=read)
    assert len(requests(fake_registry, "POST")) == 1


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("ftp://127.0.0.1/x", Unavailable),
        ("http://[nonsense", Unavailable),
        ("http://127.0.0.1:99999/x", Unavailable),
        ("/v2/app/a place with spaces", Unavailable),
        ("http://user:secret@127.0.0.1/x", PermissionDenied),
        ("javascript:alert(1)", Unavailable),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_nonsense_in_place_of_a_location_is_refused(
    asking: Asking, fake_registry: FakeRegistry, source: Source, location: str, error: type[HytheError], method: str
) -> None:
    """A registry that sends the bytes nowhere, or where none may go, is refused at once, without showing a password."""
    fake_registry.break_at(UPLOADS, only(method, with_headers(Location=location)))
    with pytest.raises(error) as caught:
        send(asking, source, LARGE)
    assert "secret" not in caught.value.whole
    assert len(requests(fake_registry, "POST")) == 1


def test_upload_without_a_location_is_refused(asking: Asking, fake_registry: FakeRegistry, source: Source) -> None:
    """A registry that opens an upload and doesn't say where is told apart from one that is away."""
    fake_registry.break_at(UPLOADS, only("POST", with_headers(Location="")))
    with pytest.raises(Unavailable, match="does not say where to send the bytes"):
        send(asking, source, LARGE)
    assert len(requests(fake_registry, "POST")) == 1


def test_upload_goes_on_in_place_when_the_registry_names_no_new_one(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """A registry that answers a chunk without a new place gets the next one in the old place."""
    fake_registry.break_at(UPLOADS, only("PATCH", with_headers(Location="")))
    assert send(asking, source, LARGE) == "pushed"


def test_upload_on_another_host_gets_the_bytes_but_no_token(
    asking: Asking, fake_registry: FakeRegistry, other_registry: FakeRegistry, source: Source
) -> None:
    """A registry may have blobs sent to another server; that one never sees the credentials."""
    upload = other_registry.pushed.open_upload()
    location = f"http://{other_registry.address}/v2/app/blobs/uploads/{upload}?signed=yes"

    def elsewhere(handler: Handler, answer: Answer) -> Answer | None:
        return faults.bearer()(handler, replace(answer, headers={"Location": location}))

    fake_registry.break_at(UPLOADS, elsewhere)
    fake_registry.break_at(r"/v2/", faults.bearer())
    assert send(asking, source, LARGE) == "pushed"
    assert other_registry.pushed.blobs["app", LARGE.digest] == LARGE.data
    assert "authorization" in requests(fake_registry, "POST")[-1].headers
    assert not [each for each in other_registry.requests if "authorization" in each.headers]


def test_registry_that_wants_a_token_gets_it_with_every_request(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """Pushing to a registry that wants a token works, and the token goes along with every chunk."""
    fake_registry.break_at(r"/v2/", faults.bearer())
    assert send(asking, source, LARGE) == "pushed"
    assert all("authorization" in each.headers for each in requests(fake_registry, "PATCH"))


def test_cancelled_push_ends_soon_and_closes_its_upload(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """A push that nobody waits for any more stops in the middle, and the registry forgets what it had of it."""
    cancellation, ended = Cancellation(), []
    fake_registry.break_at(SESSION, only("PATCH", stalling))

    def push() -> None:
        try:
            send(asking, source, LARGE, cancellation=cancellation)
        except Cancelled as error:
            ended.append(error)

    thread = threading.Thread(target=push)
    thread.start()
    eventually(lambda: requests(fake_registry, "PATCH"), what="a chunk is on its way")
    cancellation.cancel()
    thread.join(5)
    assert len(ended) == 1
    assert not fake_registry.pushed.uploads


def stalling(handler: Handler, answer: Answer) -> None:
    """Answer nothing until the registry closes."""
    handler.server.registry.released.wait()
    handler.close_connection = True


def test_upload_that_fails_is_closed(asking: Asking, fake_registry: FakeRegistry, source: Source) -> None:
    """A push that fails leaves no half of a blob in the registry."""
    refusal = problem(413, "SIZE_TOO_LARGE")
    fake_registry.break_at(SESSION, only("PATCH", faults.status(413, refusal.body)))
    with pytest.raises(InvalidArgument) as caught:
        send(asking, source, LARGE)
    assert "SIZE_TOO_LARGE" in caught.value.cause
    assert not fake_registry.pushed.uploads


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 500])
def test_refused_mount_is_followed_by_sending(
    asking: Asking, fake_registry: FakeRegistry, source: Source, status: int
) -> None:
    """Where a blob may not be taken from another repository, even after a login, it is sent."""

    def refuse(handler: Handler, answer: Answer) -> Answer | None:
        if "mount=" not in handler.path:
            return answer
        return faults.bearer(never=True)(handler, answer) if status == 401 else Answer(status)

    fake_registry.break_at(UPLOADS, refuse)
    assert send(asking, source, SMALL, "other") == "pushed"


def test_mounts_that_fail_leave_no_upload_behind(asking: Asking, fake_registry: FakeRegistry, source: Source) -> None:
    """However many repositories are tried in vain, no upload stays open."""
    assert send(asking, source, SMALL, "one", "two", "app", "three", "four") == "pushed"
    assert [each.path for each in requests(fake_registry, "POST")] == [
        f"/v2/app/blobs/uploads/?mount=sha256%3A{SMALL.digest[7:]}&from={name}" for name in ("one", "two", "three")
    ]
    assert not fake_registry.pushed.uploads


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, Unauthenticated), (403, PermissionDenied), (404, NotFound), (429, ResourceExhausted), (503, Unavailable)],
)
def test_registry_that_refuses_an_upload_is_an_error_of_its_kind(
    asking: Asking, fake_registry: FakeRegistry, source: Source, status: int, error: type[HytheError]
) -> None:
    """A push that the registry refuses fails with what it says."""
    fake_registry.break_at(UPLOADS, faults.status(status))
    with pytest.raises(error):
        send(asking, source, SMALL)


@pytest.mark.parametrize("status", [400, 404, 413, 415, 422])
def test_refused_manifest_is_an_invalid_argument(
    asking: Asking, fake_registry: FakeRegistry, source: Source, status: int
) -> None:
    """A manifest that the registry refuses is an error of the manifest, in the registry's words."""
    fake_registry.break_at("/manifests/", faults.status(status, problem(status, "MANIFEST_INVALID").body))
    with pytest.raises(InvalidArgument, match="refuses it") as caught:
        push_manifest(asking, source, "1", b"{}", OCI_MANIFEST, None, NEVER)
    assert caught.value.cause == "MANIFEST_INVALID: not so"


@pytest.mark.parametrize(("status", "error"), [(403, PermissionDenied), (500, Unavailable)])
def test_manifest_that_may_not_be_put_is_an_error_of_its_kind(
    asking: Asking, fake_registry: FakeRegistry, source: Source, status: int, error: type[HytheError]
) -> None:
    """Leave that is missing and a registry that fails are no fault of the manifest."""
    fake_registry.break_at("/manifests/", faults.status(status))
    with pytest.raises(error):
        push_manifest(asking, source, "1", b"{}", OCI_MANIFEST, None, NEVER)


def test_manifest_stored_under_another_digest_is_an_error(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """A registry that stores a manifest under another digest has changed it, and the push fails."""
    fake_registry.break_at("/manifests/", faults.lying_digest_header())
    manifest = artifact(EMPTY, "application/a")
    with pytest.raises(DataLoss, match="says that it has"):
        push_manifest(asking, source, "1", manifest.data, manifest.media_type, None, NEVER)


@pytest.mark.parametrize(
    ("header", "taken"),
    [("0-99", 100), ("bytes=0-99", 100), ("bytes 0-99", 100), ("0-0", 0), ("", None), ("5-9", None), ("0-x", None)],
)
def test_range_header_says_how_much_was_taken(header: str, taken: int | None) -> None:
    """What a registry says of the bytes it has is read in all its spellings, and nonsense is nothing."""
    assert range_end(header) == taken


def test_range_header_of_any_length_is_read_safely() -> None:
    """A number of any length in a Range header does no harm."""
    assert range_end("0-" + "9" * 10_000) is None
