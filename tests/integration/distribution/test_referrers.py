"""What refers to a manifest, in registries that list it, that don't, and that list nonsense; and how the list is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from hythe.digest import Digest, parse_digest
from hythe.errors import Conflict, HytheError, InvalidArgument, PermissionDenied, ResourceExhausted, Unavailable
from hythe_distribution.adapters.registry.asking import Asking
from hythe_distribution.adapters.registry.push import push_manifest
from hythe_distribution.adapters.registry.referrers import referrers
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Source
from scripts.lab.images import OCI_INDEX, OCI_MANIFEST, Blob, encode
from tests.fakes import faults
from tests.fakes.registry import Answer, FakeRegistry, Handler
from tests.integration.distribution import pushing
from tests.integration.distribution.pushing import EMPTY, artifact

NEVER = Cancellation()
IMAGE = Blob(
    encode({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": EMPTY.descriptor(), "layers": []}), OCI_MANIFEST
)
SUBJECT: Digest = parse_digest(IMAGE.digest)
TAG = f"sha256-{SUBJECT.hex}"
SBOM = artifact(IMAGE, "application/spdx+json", tool="syft")
SIGNATURE = artifact(IMAGE, "application/vnd.example.signature")
THIRD = artifact(IMAGE, "application/vnd.example.signature", number="2")
API = r"/referrers/"


@pytest.fixture
def asking() -> Iterator[Asking]:
    """What asks registries."""
    with pushing.asking() as made:
        yield made


@pytest.fixture
def source(fake_registry: FakeRegistry) -> Source:
    """A repository of the registry that can misbehave."""
    return Source(fake_registry.address, "app")


def attach(asking: Asking, source: Source, *manifests: Blob) -> None:
    """Push manifests that are about `IMAGE`."""
    for each in manifests:
        push_manifest(asking, source, each.digest, each.data, each.media_type, SUBJECT, NEVER)


def found(asking: Asking, source: Source, artifact_type: str = "") -> list[str]:
    """Return the digests of what refers to `IMAGE`."""
    return [str(each.digest) for each in referrers(asking, source, SUBJECT, artifact_type, NEVER)]


def index(*manifests: Any, **extra: Any) -> bytes:
    """Return an index with these entries."""
    return encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(manifests), **extra})


def tagged(registry: FakeRegistry) -> list[str]:
    """Return the digests in the referrers tag of `IMAGE`."""
    return [entry["digest"] for entry in json.loads(registry.pushed.manifests["app", TAG].data)["manifests"]]


def test_registry_with_referrers_api_lists_them_and_needs_no_tag(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """Where a registry keeps the list of referrers itself, that list is shown, and no tag is made."""
    fake_registry.pushed.referrers_api = True
    attach(asking, source, SBOM, SIGNATURE)
    listed = referrers(asking, source, SUBJECT, "", NEVER)
    assert [str(each.digest) for each in listed] == [SBOM.digest, SIGNATURE.digest]
    assert (listed[0].artifact_type, dict(listed[0].annotations)) == ("application/spdx+json", {"tool": "syft"})
    assert ("app", TAG) not in fake_registry.pushed.manifests


@pytest.mark.parametrize("filters", [True, False])
@pytest.mark.parametrize("api", [True, False])
def test_referrers_of_one_type_are_found_whoever_filters(
    asking: Asking, fake_registry: FakeRegistry, source: Source, api: bool, filters: bool
) -> None:
    """Asked for one type, one gets that type alone, whether or not the registry can filter."""
    fake_registry.pushed.referrers_api, fake_registry.pushed.filters = api, filters
    attach(asking, source, SBOM, SIGNATURE, THIRD)
    assert found(asking, source, "application/vnd.example.signature") == [SIGNATURE.digest, THIRD.digest]
    assert found(asking, source, "application/none") == []


def test_all_pages_are_read(asking: Asking, fake_registry: FakeRegistry, source: Source) -> None:
    """A list on several pages is shown whole."""
    fake_registry.pushed.referrers_api, fake_registry.pushed.page_size = True, 1
    attach(asking, source, SBOM, SIGNATURE, THIRD)
    assert found(asking, source) == [SBOM.digest, SIGNATURE.digest, THIRD.digest]


def test_pages_without_end_are_given_up(asking: Asking, fake_registry: FakeRegistry, source: Source) -> None:
    """A registry whose list has no end is asked for fifty pages and no more."""
    page = Answer(200, index(), {"Content-Type": OCI_INDEX, "Link": '<?page=2>; rel="next"'})
    fake_registry.break_at(API, lambda handler, answer: page)
    with pytest.raises(ResourceExhausted, match="more than 50 pages"):
        found(asking, source)
    assert len(fake_registry.requests) == 50


def test_list_that_is_too_large_is_given_up(asking: Asking, fake_registry: FakeRegistry, source: Source) -> None:
    """A registry that fills page after page with megabytes is stopped."""
    padding = index(annotations={"padding": "x" * 3_000_000})
    page = Answer(200, padding, {"Content-Type": OCI_INDEX, "Link": "<?page=2>; rel=next"})
    fake_registry.break_at(API, lambda handler, answer: page)
    with pytest.raises(ResourceExhausted, match="lists more than"):
        found(asking, source)
    assert len(fake_registry.requests) == 2


@pytest.mark.parametrize(
    ("link", "error"),
    [
        ('<http://localhost:1/v2/>; rel="next"', PermissionDenied),
        ('<http://user:secret@127.0.0.1/>; rel="next"', PermissionDenied),
        ('<ftp://x/>; rel="next"', Unavailable),
    ],
)
def test_next_page_elsewhere_is_refused(
    asking: Asking, fake_registry: FakeRegistry, source: Source, link: str, error: type[HytheError]
) -> None:
    """A registry may not lead to another server for the rest of its list."""
    page = Answer(200, index(), {"Content-Type": OCI_INDEX, "Link": link})
    fake_registry.break_at(API, lambda handler, answer: page)
    with pytest.raises(error) as caught:
        found(asking, source)
    assert "secret" not in caught.value.whole


@pytest.mark.parametrize("link", ['<?page=2>; rel="prev"', "nonsense", "<?page=2>", '<?page=2>; rel="nextly"'])
def test_links_to_other_than_the_next_page_are_not_followed(
    asking: Asking, fake_registry: FakeRegistry, source: Source, link: str
) -> None:
    """Only a link that says it is the next page is followed."""
    page = Answer(200, index(SBOM.descriptor()), {"Content-Type": OCI_INDEX, "Link": link})
    fake_registry.break_at(API, lambda handler, answer: page)
    assert found(asking, source) == [SBOM.digest]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404),
        Answer(405),
        Answer(200, b"<html>", {"Content-Type": "text/html"}),
        Answer(200, IMAGE.data, {"Content-Type": OCI_MANIFEST}),
    ],
)
def test_registry_without_the_api_is_asked_for_the_tag(
    asking: Asking, fake_registry: FakeRegistry, source: Source, answer: Answer
) -> None:
    """However a registry says that it knows no referrers, the tag is looked at."""
    attach(asking, source, SBOM)
    fake_registry.break_at(API, lambda handler, honest: answer)
    assert found(asking, source) == [SBOM.digest]


@pytest.mark.parametrize(("status", "error"), [(403, PermissionDenied), (500, Unavailable)])
def test_registry_that_fails_is_not_taken_for_one_without_referrers(
    asking: Asking, fake_registry: FakeRegistry, source: Source, status: int, error: type[HytheError]
) -> None:
    """A refusal or a failure is an error, not an empty list."""
    fake_registry.break_at(API, faults.status(status))
    with pytest.raises(error):
        found(asking, source)


@pytest.mark.parametrize(
    "raw",
    [
        IMAGE.data,
        b"[]",
        b"{}",
        b'{"manifests": 1}',
        index({"digest": "sha256:x"}),
        index(config=EMPTY.descriptor()),
        b"[" * 100_000,
    ],
)
def test_nonsense_under_the_tag_is_an_error(
    asking: Asking, fake_registry: FakeRegistry, source: Source, raw: bytes
) -> None:
    """A list of referrers that is none is an error that says so."""
    fake_registry.serve_manifest(Blob(raw, OCI_INDEX), f"app:{TAG}")
    with pytest.raises(InvalidArgument):
        found(asking, source)


@pytest.mark.parametrize("raw", [IMAGE.data, b"{}", b'{"Manifests": [{}]}', b'{"manifests": [1]}'])
def test_tag_that_is_no_index_is_not_overwritten(
    asking: Asking, fake_registry: FakeRegistry, source: Source, raw: bytes
) -> None:
    """What somebody else has under the referrers tag is left alone when it is no list of referrers."""
    fake_registry.serve_manifest(Blob(raw, OCI_INDEX), f"app:{TAG}")
    with pytest.raises(InvalidArgument):
        attach(asking, source, SBOM)
    assert ("app", TAG) not in fake_registry.pushed.manifests


@pytest.mark.parametrize("etags", [True, False])
def test_entry_that_another_writer_removed_is_added_again(
    asking: Asking, fake_registry: FakeRegistry, source: Source, etags: bool
) -> None:
    """When two push referrers of one image at once, both are in the list."""
    fake_registry.pushed.etags = etags
    attach(asking, source, SIGNATURE)

    def overtaken(handler: Handler, answer: Answer) -> Answer:
        if handler.command == "PUT":
            theirs = index(SIGNATURE.descriptor(), THIRD.descriptor())
            fake_registry.pushed.manifests["app", TAG] = Blob(theirs, OCI_INDEX)
        return answer

    fake_registry.break_at(f"/manifests/{TAG}", lambda handler, answer: answer, times=1)
    fake_registry.break_at(f"/manifests/{TAG}", overtaken, times=1)
    attach(asking, source, SBOM)
    assert tagged(fake_registry) == [SIGNATURE.digest, THIRD.digest, SBOM.digest]


def test_etag_keeps_another_writers_list(asking: Asking, fake_registry: FakeRegistry, source: Source) -> None:
    """Where the registry can tell that a list was changed meanwhile, the other's change is never overwritten."""
    fake_registry.pushed.etags = True
    attach(asking, source, SIGNATURE)

    def overtaken(handler: Handler, answer: Answer) -> Answer:
        fake_registry.pushed.manifests["app", TAG] = Blob(index(SIGNATURE.descriptor(), THIRD.descriptor()), OCI_INDEX)
        return answer

    fake_registry.break_at(f"/manifests/{TAG}", overtaken, times=1)
    attach(asking, source, SBOM)
    assert tagged(fake_registry) == [SIGNATURE.digest, THIRD.digest, SBOM.digest]
    puts = [each for each in fake_registry.requests if each.method == "PUT" and each.path.endswith(TAG)]
    assert [("if-match" in each.headers) for each in puts] == [False, True, True]


def test_list_that_others_keep_overwriting_is_a_conflict(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """When others overwrite the list every time, the push says so after three attempts."""

    def overtaken(handler: Handler, answer: Answer) -> Answer:
        fake_registry.pushed.manifests["app", TAG] = Blob(index(THIRD.descriptor()), OCI_INDEX)
        return answer

    fake_registry.break_at(f"/manifests/{TAG}", overtaken)
    with pytest.raises(Conflict, match="others keep replacing"):
        attach(asking, source, SBOM)
    assert ("app", SBOM.digest) in fake_registry.pushed.manifests


def test_registry_that_names_another_subject_gets_the_tag_too(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """A registry that acknowledges some other subject than ours is not relied on to list the manifest."""

    def other_subject(handler: Handler, answer: Answer) -> Answer:
        return replace(answer, headers={**answer.headers, "OCI-Subject": SBOM.digest})

    fake_registry.break_at("/manifests/sha256:", other_subject)
    attach(asking, source, SBOM)
    assert tagged(fake_registry) == [SBOM.digest]


def test_artifact_without_a_type_is_listed_by_its_config(
    asking: Asking, fake_registry: FakeRegistry, source: Source
) -> None:
    """A manifest that names no artifact type is listed by the type of its config, as the specification wants it."""
    old = artifact(IMAGE, "")
    attach(asking, source, old)
    assert found(asking, source, EMPTY.media_type) == [old.digest]
