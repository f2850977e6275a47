"""Pushes: what is sent in which order, what is mounted, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hythe.digest import Digest
from hythe.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from hythe.oci import default_platform, parse_platform
from hythe.reference import parse_reference
from hythe_distribution.hosts import source_of
from hythe_distribution.push import Order, Pushed
from scripts.lab.images import Blob, index
from tests.fixtures.waiting import until
from tests.unit.distribution.transfers import (
    OTHER_ARCHITECTURE,
    OTHER_PLATFORM,
    REFERENCE,
    Transfers,
    an_image,
    artifact,
    digest,
    digests,
    index_of,
    with_foreign_layer,
)

TARGET = "other.example/there:2"
THERE = source_of(parse_reference(TARGET), False)


async def push(transfers: Transfers, target: str = TARGET, image: str = str(REFERENCE), **order: Any) -> Pushed:
    """Push from the namespace ``default``."""
    async with transfers.holder.hold("default", "push") as held:
        return await transfers.pusher.push("default", Order(image, target, **order), held, transfers.sends.append)


def arrived(transfers: Transfers, wanted: set[Digest]) -> set[Digest]:
    """Return which of `wanted` the target has."""
    return {found for found in wanted if transfers.registry.has(THERE, found)}


async def test_pushed_image_is_whole_at_the_target(transfers: Transfers) -> None:
    """Every blob and the manifest arrive unchanged, the tag points to it, and the bytes are counted."""
    image = an_image("mine")
    transfers.serve(image)
    await transfers.pull()
    pushed = await push(transfers)
    assert arrived(transfers, digests(image)) == digests(image)
    assert transfers.registry.points_to(THERE, "2") == digest(image.root) == pushed.digest
    sent = sum(len(blob.data) for blob in (*image.blobs, image.manifest))
    assert (pushed.sent.sent_bytes, pushed.sent.mounted, pushed.sent.existing) == (sent, 0, 0)
    assert pushed.reference == TARGET


async def test_push_tells_how_each_blob_goes(transfers: Transfers) -> None:
    """Each blob waits first, is looked for, and ends as pushed."""
    image = an_image("mine")
    transfers.serve(image)
    await transfers.pull()
    await push(transfers)
    await until(lambda: sum(news.state == "pushed" for news in transfers.sends) == len(image.blobs))
    for blob in image.blobs:
        states = [news.state for news in transfers.sends if news.digest == digest(blob)]
        assert (states[0], states[1], states[-1]) == ("waiting", "checking", "pushed")


async def test_repeated_push_sends_no_blob(transfers: Transfers) -> None:
    """What the registry has is not sent again."""
    image = an_image("mine")
    transfers.serve(image)
    await transfers.pull()
    await push(transfers)
    again = await push(transfers)
    assert again.sent.existing == len(image.blobs)
    assert len(transfers.registry.sent) == len(image.blobs)


async def test_push_to_the_same_registry_mounts(transfers: Transfers) -> None:
    """Blobs that came from another repository of the target's registry don't travel."""
    image = an_image("mine")
    transfers.serve(image)
    await transfers.pull()
    pushed = await push(transfers, "registry.example/copy:1")
    assert pushed.sent.mounted == len(image.blobs)
    assert transfers.registry.sent == []


async def test_whole_index_is_pushed_children_first(transfers: Transfers) -> None:
    """An index arrives with all it points to, attestations too; its manifests are put before it, and the tag last."""
    both = index_of([an_image("other", OTHER_ARCHITECTURE), an_image("mine"), artifact("attestation")])
    transfers.serve(both)
    await transfers.pull(all_platforms=True)
    pushed = await push(transfers, all_platforms=True)
    assert arrived(transfers, digests(both)) == digests(both)
    assert transfers.registry.put == [*(image.manifest.digest for image in both.images), "2"]
    assert pushed.digest == digest(both.root)


async def test_unknown_entries_of_an_index_are_pushed_as_what_they_are_called(transfers: Transfers) -> None:
    """An entry whose type says manifest is put as one, any other as a blob."""
    as_blob, as_manifest = Blob(b"cache", "application/vnd.cache"), Blob(b'{"a":1}', "application/vnd.x.manifest+json")
    both = index_of([an_image("mine")], [as_blob.descriptor(), as_manifest.descriptor()])
    transfers.serve(both)
    transfers.registry.serve(source_of(REFERENCE, False), as_blob.data)
    transfers.registry.tag(source_of(REFERENCE, False), as_manifest.digest, as_manifest.media_type, as_manifest.data)
    await transfers.pull(all_platforms=True)
    await push(transfers, all_platforms=True)
    assert as_manifest.digest in transfers.registry.put
    assert digest(as_blob) in transfers.registry.sent


async def test_one_platform_is_pushed_without_its_index(transfers: Transfers) -> None:
    """With a platform the tag points to that manifest alone."""
    other, mine = an_image("other", OTHER_ARCHITECTURE), an_image("mine")
    transfers.serve(index([other, mine]))
    await transfers.pull()
    pushed = await push(transfers, platform=default_platform())
    assert transfers.registry.points_to(THERE, "2") == digest(mine.manifest) == pushed.digest
    assert arrived(transfers, digests(other)) == set()


async def test_missing_platform_is_refused_and_a_pull_is_named(transfers: Transfers) -> None:
    """A platform that is not here is not sent: the error says what is missing and which command brings it."""
    other = an_image("other", OTHER_ARCHITECTURE)
    transfers.serve(index([other, an_image("mine")]))
    await transfers.pull()
    with pytest.raises(FailedPrecondition) as raised:
        await push(transfers, platform=parse_platform(OTHER_PLATFORM))
    assert other.manifest.digest in raised.value.cause
    assert f"hythe pull --platform {OTHER_PLATFORM} {REFERENCE}" in raised.value.next_step
    with pytest.raises(FailedPrecondition) as raised:
        await push(transfers, all_platforms=True)
    assert "--all-platforms" in raised.value.next_step
    assert transfers.registry.put == []


async def test_missing_layer_is_refused_before_anything_is_sent(transfers: Transfers) -> None:
    """A push that cannot end well does not begin."""
    for image in (an_image("single"), index([an_image("mine"), an_image("other", OTHER_ARCHITECTURE)])):
        transfers.serve(image)
        await transfers.pull()
        layer = image.blobs[1]
        transfers.content.delete(digest(layer))
        with pytest.raises(FailedPrecondition) as raised:
            await push(transfers)
        assert layer.digest in raised.value.cause
    assert transfers.registry.sent == []


async def test_index_of_which_a_part_is_here_is_up_to_the_registry(transfers: Transfers) -> None:
    """A registry that takes sparse indexes gets what is here; of one that doesn't, the error says what to do."""
    other, mine = an_image("other", OTHER_ARCHITECTURE), an_image("mine")
    both = index([other, mine])
    transfers.serve(both)
    await transfers.pull()
    with pytest.raises(FailedPrecondition) as raised:
        await push(transfers)
    assert OTHER_PLATFORM in raised.value.message
    assert "--all-platforms" in raised.value.next_step
    transfers.registry.sparse = True
    assert (await push(transfers)).digest == digest(both.root)
    assert arrived(transfers, digests(both)) == {digest(both.root), *digests(mine)}


async def test_nested_index_is_pushed_as_far_as_it_is_here(transfers: Transfers) -> None:
    """An index in an index counts as here when one of its manifests is."""
    inner = index([an_image("other", OTHER_ARCHITECTURE), an_image("mine")])
    outer = index_of(
        [], [inner.root.descriptor(platform={"os": "linux", "architecture": default_platform().architecture})]
    )
    transfers.serve(inner)
    transfers.registry.tag(source_of(REFERENCE, False), inner.root.digest, inner.root.media_type, inner.root.data)
    transfers.registry.tag(source_of(REFERENCE, False), "1", outer.root.media_type, outer.root.data)
    await transfers.pull()
    transfers.registry.sparse = True
    assert (await push(transfers)).digest == digest(outer.root)
    assert inner.root.digest in transfers.registry.put


async def test_foreign_layers_stay_where_they_are(transfers: Transfers) -> None:
    """A layer that its maker keeps for himself is neither needed here nor sent."""
    image = with_foreign_layer(an_image("mine"), b"foreign", "http://elsewhere.example/layer")
    transfers.serve(image)
    transfers.registry.serve("http://elsewhere.example/layer", b"foreign")
    await transfers.pull(foreign_layers="fetch")
    await push(transfers)
    assert not transfers.registry.has(THERE, digest(image.layers[0]))


async def test_push_without_a_target_goes_to_the_images_own_name(transfers: Transfers) -> None:
    """An image goes back to where it came from unless somewhere else is named."""
    image = an_image("mine")
    transfers.serve(image)
    await transfers.pull()
    assert (await push(transfers, "")).reference == str(REFERENCE)
    with pytest.raises(InvalidArgument) as raised:
        await push(transfers, "", image.root.digest)
    assert "no name" in raised.value.message


async def test_push_by_digest_must_name_what_is_sent(transfers: Transfers) -> None:
    """A target by digest takes that image and no other."""
    image = an_image("mine")
    transfers.serve(image)
    await transfers.pull()
    await push(transfers, f"other.example/there@{image.root.digest}")
    assert transfers.registry.put == [image.root.digest]
    with pytest.raises(InvalidArgument):
        await push(transfers, f"other.example/there@sha256:{'1' * 64}")


async def test_one_and_all_platforms_exclude_each_other(transfers: Transfers) -> None:
    """A push cannot be asked for both."""
    with pytest.raises(InvalidArgument):
        await push(transfers, platform=default_platform(), all_platforms=True)


async def test_image_that_is_not_here_is_not_found(transfers: Transfers) -> None:
    """Pushing what nobody pulled is NotFound; a name whose content is gone says that a pull brings it."""
    with pytest.raises(NotFound):
        await push(transfers)
    image = an_image("mine")
    transfers.serve(image)
    await transfers.pull()
    transfers.content.delete(digest(image.root))
    with pytest.raises(FailedPrecondition) as raised:
        await push(transfers)
    assert "hythe pull" in raised.value.next_step


async def test_known_referrers_are_sent_along(transfers: Transfers) -> None:
    """Signatures that were pulled with an image are pushed with it when asked for, and listed at the target."""
    image = an_image("mine")
    signature = artifact("signature", image.manifest)
    transfers.serve(image)
    transfers.serve_referrer(signature, image.manifest)
    await transfers.pull(referrers=True)
    assert (await push(transfers, "other.example/bare:1")).referrers == ()
    assert (await push(transfers, referrers=True)).referrers == (digest(signature.manifest),)
    _, found = await transfers.referrers.about(parse_reference(TARGET), None, False, "")
    assert [entry.digest for entry in found] == [digest(signature.manifest)]


async def test_no_more_than_four_blobs_are_sent_at_once(transfers: Transfers) -> None:
    """A large image does not open a connection per layer."""
    image = an_image("mine", layers=9)
    transfers.serve(image)
    await transfers.pull()
    transfers.registry.gate.clear()
    pushing = asyncio.create_task(push(transfers))
    await until(lambda: transfers.registry.pushing == 4)
    transfers.registry.gate.set()
    await pushing
    assert transfers.registry.most_pushing == 4


async def test_abandoned_push_stops_and_leaves_no_tag(transfers: Transfers) -> None:
    """When nobody waits for a push any more its uploads end, and the target has no new image."""
    image = an_image("mine")
    transfers.serve(image)
    await transfers.pull()
    transfers.registry.gate.clear()
    pushing = asyncio.create_task(push(transfers))
    await until(lambda: transfers.registry.pushing > 0)
    pushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pushing
    await until(lambda: transfers.registry.pushing == 0)
    assert transfers.registry.put == []


async def test_failed_blob_fails_the_push_and_leaves_no_tag(transfers: Transfers) -> None:
    """A registry that takes a part of an image never gets its manifest."""
    image = an_image("mine")
    transfers.serve(image)
    await transfers.pull()
    transfers.registry.refuses = Unavailable("push: the registry is full")
    with pytest.raises(Unavailable):
        await push(transfers)
    assert transfers.registry.put == []


async def test_document_changed_on_disk_is_not_pushed(transfers: Transfers) -> None:
    """A manifest that the disk has spoilt is noticed before anything is sent."""
    image = an_image("mine")
    transfers.serve(image)
    await transfers.pull()
    transfers.content.delete(digest(image.root))
    transfers.content.add(digest(image.root), b"spoilt")
    with pytest.raises(DataLoss):
        await push(transfers)
    assert transfers.registry.sent == []
