"""Copies from registry to registry: what travels, what stays here, and what becomes visible."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hythe.errors import InvalidArgument, NotFound, PermissionDenied
from hythe.oci import default_platform, parse_platform
from hythe.reference import Reference, parse_reference
from hythe_distribution.copying import CopyOrder
from hythe_distribution.hosts import source_of
from hythe_distribution.push import Pushed
from scripts.lab.images import Image, index
from tests.fixtures.waiting import until
from tests.unit.distribution.transfers import (
    OTHER_ARCHITECTURE,
    OTHER_PLATFORM,
    REFERENCE,
    SOURCE,
    Transfers,
    an_image,
    artifact,
    digest,
    digests,
    index_of,
)

TARGET = parse_reference("other.example/there:2")
THERE = source_of(TARGET, False)


async def copy(transfers: Transfers, target: Reference = TARGET, **order: Any) -> Pushed:
    """Copy for the namespace ``default``."""
    async with transfers.holder.hold("default", "copy") as held:
        wanted = CopyOrder(REFERENCE, target, **order)
        return await transfers.copier.copy("default", wanted, held, transfers.sends.append)


async def test_copied_index_is_whole_and_unchanged(transfers: Transfers) -> None:
    """All platforms and attestations arrive under their digests, and no name is registered here."""
    both = index_of([an_image("mine"), an_image("other", OTHER_ARCHITECTURE), artifact("attestation")])
    transfers.serve(both)
    copied = await copy(transfers)
    assert all(transfers.registry.has(THERE, found) for found in digests(both))
    assert transfers.registry.points_to(THERE, "2") == digest(both.root) == copied.digest
    assert transfers.names.records == {}


async def test_copied_blobs_are_visible_with_where_they_are(transfers: Transfers) -> None:
    """What came to this host on the way can be seen and collected, and mounted from either registry later."""
    image = an_image("mine")
    transfers.serve(image)
    await copy(transfers)
    assert transfers.visible() == digests(image)
    assert transfers.labels(image.layers[0]) == {
        "containerd.io/distribution.source.registry.example": "app",
        "containerd.io/distribution.source.other.example": "there",
    }
    assert transfers.labels(image.manifest)["containerd.io/gc.ref.content.l.0"] == image.layers[0].digest


async def test_copy_within_a_registry_fetches_no_layer(transfers: Transfers) -> None:
    """Source and target at one registry: blobs are mounted there and never come here."""
    image = an_image("mine")
    transfers.serve(image)
    copied = await copy(transfers, parse_reference("registry.example/there:2"))
    assert copied.sent.mounted == len(image.blobs)
    assert transfers.registry.opened == []
    assert transfers.here() == {digest(image.manifest)} == transfers.visible()


async def test_blobs_that_the_target_has_are_not_fetched(transfers: Transfers) -> None:
    """Only what is missing at the target travels."""
    image = an_image("mine")
    transfers.serve(image)
    transfers.registry.serve(THERE, image.layers[0].data)
    copied = await copy(transfers)
    assert copied.sent.existing == 1
    assert digest(image.layers[0]) not in {found for _, found in transfers.registry.opened}


async def test_one_platform_is_copied_without_its_index(transfers: Transfers) -> None:
    """With a platform the target's tag points to that manifest; a platform that isn't offered is NotFound."""
    mine, other = an_image("mine"), an_image("other", OTHER_ARCHITECTURE)
    transfers.serve(index([mine, other]))
    copied = await copy(transfers, platform=parse_platform(OTHER_PLATFORM))
    assert transfers.registry.points_to(THERE, "2") == digest(other.manifest) == copied.digest
    assert not transfers.registry.has(THERE, digest(mine.manifest))
    with pytest.raises(NotFound):
        await copy(transfers, platform=parse_platform("plan9/amd64"))
    with pytest.raises(InvalidArgument):
        await copy(transfers, platform=default_platform(), all_platforms=True)


async def test_what_is_no_container_image_can_be_copied(transfers: Transfers) -> None:
    """A chart or signature is copied like an image: nothing of it needs to run."""
    chart: Image = artifact("chart")
    transfers.serve(chart)
    assert (await copy(transfers)).digest == digest(chart.manifest)


async def test_referrers_are_copied_when_wanted(transfers: Transfers) -> None:
    """Signatures of the index and of its manifests are about the same digests at the target."""
    mine = an_image("mine")
    root = index([mine])
    of_root, of_manifest = artifact("of root", root.root), artifact("of manifest", mine.manifest)
    transfers.serve(root)
    transfers.serve_referrer(of_root, root.root)
    transfers.serve_referrer(of_manifest, mine.manifest)
    copied = await copy(transfers, referrers=True)
    assert set(copied.referrers) == {digest(of_root.manifest), digest(of_manifest.manifest)}
    _, found = await transfers.referrers.about(TARGET, None, False, "")
    assert [entry.digest for entry in found] == [digest(of_root.manifest)]
    assert digests(of_manifest) <= transfers.visible()


async def test_refused_image_is_not_copied(transfers: Transfers) -> None:
    """What a verifier refuses does not get to the target by way of this host."""
    transfers.serve(an_image("mine"))
    transfers.verdict.refusal = PermissionDenied("verify image: no")
    for platform in (None, default_platform()):
        with pytest.raises(PermissionDenied):
            await copy(transfers, platform=platform)
    assert transfers.registry.put == []


async def test_layer_missing_at_the_source_fails_the_copy(transfers: Transfers) -> None:
    """A source without a layer is NotFound, and the target's tag is not touched."""
    image = an_image("mine")
    transfers.serve(image)
    transfers.registry.serve(SOURCE, image.layers[0].data, instead=NotFound("fetch: not here"))
    with pytest.raises(NotFound):
        await copy(transfers)
    assert transfers.registry.put == []


async def test_abandoned_copy_stops_fetching_and_sending(transfers: Transfers) -> None:
    """When nobody waits for a copy any more, neither its downloads nor its uploads go on."""
    image = an_image("mine")
    transfers.serve(image)
    transfers.registry.gate.clear()
    copying = asyncio.create_task(copy(transfers))
    await until(lambda: transfers.registry.running > 0)
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    await until(lambda: transfers.registry.running == 0 and transfers.registry.pushing == 0)
    assert transfers.registry.put == []
