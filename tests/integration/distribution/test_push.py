"""Sending to a real docker-registry, also over a line that is cut."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from hythe.digest import parse_digest
from hythe.errors import InvalidArgument
from hythe_distribution.adapters.registry.asking import Asking
from hythe_distribution.adapters.registry.client import HttpRegistry
from hythe_distribution.adapters.registry.push import push_blob, push_manifest
from hythe_distribution.adapters.registry.referrers import referrers
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Source
from scripts.lab.images import Blob, Image, ImageBuilder, Index, Layer, encode, index
from scripts.lab.registry import Registry
from tests.fakes.cutting_relay import CuttingRelay
from tests.integration.distribution import pushing
from tests.integration.distribution.pushing import CHUNK_BYTES, EMPTY, Reports, artifact, descriptor, reading, send

NEVER = Cancellation()


@pytest.fixture
def asking() -> Iterator[Asking]:
    """What asks registries."""
    with pushing.asking() as made:
        yield made


@pytest.fixture
def relay(registry: Registry) -> Iterator[CuttingRelay]:
    """A line to the registry that can be cut."""
    with CuttingRelay(registry.address) as made:
        yield made


def layer(size_bytes: int) -> Blob:
    """Return a blob that no registry has yet."""
    return Blob(os.urandom(size_bytes), "application/vnd.oci.image.layer.v1.tar")


def push(asking: Asking, source: Source, image: Image | Index, tag: str) -> None:
    """Push an image as the service does: blobs, then manifests, the root last and by its tag."""
    for blob in image.blobs:
        send(asking, source, blob)
    for manifest in image.manifests:
        version = tag if manifest is image.root else manifest.digest
        push_manifest(asking, source, version, manifest.data, manifest.media_type, None, NEVER)


def stored(source: Source, blob: Blob) -> bytes:
    """Return what the registry has under the digest of `blob`."""
    client, data, buffer = HttpRegistry(), bytearray(), memoryview(bytearray(1 << 20))
    with client.open(source, descriptor(blob), NEVER) as body:
        while count := body.readinto(buffer):
            data += buffer[:count]
    client.close()
    return bytes(data)


def test_image_is_pushed_and_comes_back_byte_for_byte(asking: Asking, registry: Registry) -> None:
    """What is pushed to a registry can be pulled from it, manifest and every blob unchanged."""
    source = Source(registry.address, "push/image")
    image = ImageBuilder().layer(Layer().file("data", os.urandom(1000)), "none").build()
    push(asking, source, image, "1")
    client = HttpRegistry()
    document = client.manifest(source, "1", NEVER)
    client.close()
    assert (document.raw, document.media_type) == (image.manifest.data, image.manifest.media_type)
    assert [stored(source, blob) for blob in image.blobs] == [blob.data for blob in image.blobs]


def test_index_is_pushed_with_its_images(asking: Asking, registry: Registry) -> None:
    """An image for several platforms goes to a registry whole: a tag for the index, digests for its images."""
    source = Source(registry.address, "push/index")
    images = [
        ImageBuilder(architecture=name).layer(Layer().file("name", name.encode()), "none").build()
        for name in ("amd64", "arm64")
    ]
    whole = index(images)
    push(asking, source, whole, "1")
    client = HttpRegistry()
    assert client.manifest(source, "1", NEVER).raw == whole.root.data
    assert [client.manifest(source, each.manifest.digest, NEVER).raw for each in images] == [
        each.manifest.data for each in images
    ]
    client.close()


def test_blob_that_is_there_is_not_sent_again(asking: Asking, registry: Registry) -> None:
    """Pushing what the registry has costs one question and no bytes."""
    source, blob = Source(registry.address, "push/twice"), layer(1000)
    assert send(asking, source, blob) == "pushed"

    def read(offset: int) -> Iterator[bytes]:
        raise AssertionError("it was read again")

    assert send(asking, source, blob, read=read) == "exists"


def test_empty_blob_is_pushed(asking: Asking, registry: Registry) -> None:
    """A blob of no bytes can be pushed like any other."""
    source = Source(registry.address, "push/empty")
    blob = Blob(b"", "application/octet-stream")
    assert send(asking, source, blob) == "pushed"
    assert stored(source, blob) == b""


def test_blob_of_another_repository_is_mounted(asking: Asking, registry: Registry) -> None:
    """A blob that another repository of the registry has is taken from there, without its bytes being sent."""
    source, blob, reports = Source(registry.address, "push/mount-to"), layer(1000), Reports()
    send(asking, Source(registry.address, "push/mount-from"), blob)
    outcome = send(asking, source, blob, "push/nothing-here", "push/mount-from", reports=reports)
    assert (outcome, reports) == ("mounted", [])
    assert stored(source, blob) == blob.data


def test_blob_that_no_repository_has_is_sent_after_all(asking: Asking, registry: Registry) -> None:
    """Where the hint that another repository has a blob is wrong, the blob is sent."""
    source, blob = Source(registry.address, "push/no-mount"), layer(1000)
    assert send(asking, source, blob, "push/nothing-here") == "pushed"
    assert stored(source, blob) == blob.data


def test_large_blob_goes_in_chunks_and_progress_is_told(asking: Asking, registry: Registry) -> None:
    """While a large blob is pushed, one is told again and again how much of it the registry has."""
    source, blob, reports = Source(registry.address, "push/large"), layer(250_000), Reports()
    assert send(asking, source, blob, reports=reports) == "pushed"
    assert reports == [100_000, 200_000, 250_000]
    assert stored(source, blob) == blob.data


def test_blob_of_usual_size_goes_in_chunks_of_eight_mebibytes(asking: Asking, registry: Registry) -> None:
    """Without any setting a blob of 9 MiB goes in two requests, and one of 8 MiB in one."""
    source, reports = Source(registry.address, "push/usual"), Reports()
    for blob in (layer(9 << 20), layer(8 << 20)):
        push_blob(asking, source, descriptor(blob), reading(blob), (), NEVER, reports)
    assert reports == [8 << 20, 9 << 20, 8 << 20]


def test_line_cut_between_chunks_upload_goes_on_where_it_was(asking: Asking, relay: CuttingRelay) -> None:
    """When the connection breaks, bytes that the registry has are not sent again."""
    source, blob = Source(relay.address, "push/cut-between"), layer(350_000)
    reports = Reports(lambda taken: relay.cut_after(0) if taken == 2 * CHUNK_BYTES and not relay.cuts else None)
    assert send(asking, source, blob, reports=reports) == "pushed"
    assert relay.cuts == 1
    assert reports == [100_000, 200_000, 200_000, 300_000, 350_000]
    assert stored(source, blob) == blob.data


def test_line_cut_in_the_middle_of_a_chunk_blob_arrives_all_the_same(asking: Asking, relay: CuttingRelay) -> None:
    """When the registry forgets an upload because its connection broke, the blob is sent from the beginning."""
    source, blob = Source(relay.address, "push/cut-within"), layer(350_000)
    reports = Reports(lambda taken: relay.cut_after(60_000) if taken == 2 * CHUNK_BYTES and not relay.cuts else None)
    assert send(asking, source, blob, reports=reports) == "pushed"
    assert relay.cuts == 1
    assert reports[-1] == 350_000
    assert stored(source, blob) == blob.data


def test_manifest_with_missing_blobs_is_refused_in_the_registrys_words(asking: Asking, registry: Registry) -> None:
    """A manifest whose layers are not there is refused, and the error has what the registry says."""
    image = ImageBuilder().layer(Layer().file("data", os.urandom(100)), "none").build()
    source = Source(registry.address, "push/no-blobs")
    with pytest.raises(InvalidArgument, match="refuses it") as caught:
        push_manifest(asking, source, "1", image.manifest.data, image.manifest.media_type, None, NEVER)
    assert "BLOB_UNKNOWN" in caught.value.cause


def test_referrers_of_a_registry_without_their_api_are_kept_by_tag(asking: Asking, registry: Registry) -> None:
    """Signatures and the like pushed to a registry without referrers API are found again, by type too."""
    source = Source(registry.address, "push/referrers")
    image = ImageBuilder().layer(Layer().file("data", os.urandom(100)), "none").build()
    push(asking, source, image, "1")
    send(asking, source, EMPTY)
    subject = parse_digest(image.manifest.digest)
    sbom = artifact(image.manifest, "application/spdx+json", tool="syft")
    signature = artifact(image.manifest, "application/vnd.example.signature")
    for one in (sbom, signature, sbom):
        push_manifest(asking, source, one.digest, one.data, one.media_type, subject, NEVER)
    found = referrers(asking, source, subject, "", NEVER)
    assert [str(each.digest) for each in found] == [sbom.digest, signature.digest]
    assert (found[0].artifact_type, dict(found[0].annotations)) == ("application/spdx+json", {"tool": "syft"})
    only = referrers(asking, source, subject, "application/vnd.example.signature", NEVER)
    assert [str(each.digest) for each in only] == [signature.digest]


def test_manifest_that_nothing_refers_to_has_no_referrers(asking: Asking, registry: Registry) -> None:
    """What nothing refers to has an empty list, not an error."""
    source = Source(registry.address, "push/no-referrers")
    assert referrers(asking, source, parse_digest("sha256:" + "0" * 64), "", NEVER) == ()


def test_referrers_tag_keeps_what_others_wrote_into_it(asking: Asking, registry: Registry) -> None:
    """Fields that others put into the list of referrers are still there after one more was added."""
    source = Source(registry.address, "push/others")
    image = ImageBuilder().layer(Layer().file("data", os.urandom(100)), "none").build()
    push(asking, source, image, "1")
    send(asking, source, EMPTY)
    subject = parse_digest(image.manifest.digest)
    theirs, ours = artifact(image.manifest, "application/a"), artifact(image.manifest, "application/b")
    push_manifest(asking, source, theirs.digest, theirs.data, theirs.media_type, None, NEVER)
    entry = theirs.descriptor(artifactType="application/a", annotations={"by": "them"})
    kind = "application/vnd.oci.image.index.v1+json"
    old = {"schemaVersion": 2, "mediaType": kind, "manifests": [entry], "annotations": {"kept": "yes"}}
    tag = f"sha256-{subject.hex}"
    push_manifest(asking, source, tag, encode(old), kind, None, NEVER)
    push_manifest(asking, source, ours.digest, ours.data, ours.media_type, subject, NEVER)
    client = HttpRegistry()
    new = json.loads(client.manifest(source, tag, NEVER).raw)
    client.close()
    assert (new["annotations"], new["manifests"][0], len(new["manifests"])) == ({"kept": "yes"}, entry, 2)
