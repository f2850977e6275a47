"""Pulls of all platforms, foreign layers and referrers, and what makes their blobs visible and keeps them."""

from __future__ import annotations

import json

import pytest

from hythe.digest import digest_of
from hythe.errors import (
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
)
from hythe.oci import Descriptor, default_platform
from hythe.reference import parse_reference
from hythe_distribution.resolver import Resolved
from scripts.lab.images import OCI_INDEX, Blob, Index, encode, index
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
    with_foreign_layer,
)

ANNOTATED = "containerd.io/distribution.source.registry.example"
URL = "http://elsewhere.example/layer"


async def test_all_platforms_bring_every_manifest_of_the_index(transfers: Transfers) -> None:
    """With all platforms each image of an index comes whole, the one that runs here is told, and all are listed."""
    other, mine = an_image("other", OTHER_ARCHITECTURE), an_image("mine")
    both = index([other, mine])
    transfers.serve(both)
    pulled = await transfers.pull(all_platforms=True)
    assert transfers.here() == digests(both)
    assert [str(image.platform) for image in pulled.image.images] == [OTHER_PLATFORM, str(default_platform())]
    assert pulled.image.chosen.config.digest == digest(mine.config)
    assert isinstance(transfers.news[0], Resolved)
    assert transfers.news[0].chosen.config.digest == digest(mine.config)


async def test_all_platforms_of_which_none_runs_here_are_brought(transfers: Transfers) -> None:
    """An index without anything for this host can be fetched whole; its first image is told."""
    other = an_image("other", OTHER_ARCHITECTURE)
    transfers.serve(index([other]))
    pulled = await transfers.pull(all_platforms=True)
    assert str(pulled.image.chosen.platform) == OTHER_PLATFORM


async def test_attestations_and_unknown_entries_come_along(transfers: Transfers) -> None:
    """What an index has beside images is fetched too, so that it can be pushed again whole, but is no platform."""
    image, attestation = an_image("mine"), artifact("attestation")
    as_blob, as_manifest = Blob(b"cache", "application/vnd.cache"), Blob(b'{"a":1}', "application/vnd.x.manifest+json")
    both = index_of([image, attestation], [as_blob.descriptor(), as_manifest.descriptor()])
    transfers.serve(both)
    transfers.registry.serve(SOURCE, as_blob.data)
    transfers.registry.tag(SOURCE, as_manifest.digest, as_manifest.media_type, as_manifest.data)
    pulled = await transfers.pull(all_platforms=True)
    assert transfers.here() == digests(both) | {digest(as_blob), digest(as_manifest)}
    assert len(pulled.image.images) == 1
    assert transfers.visible() == transfers.here()


async def test_single_platform_leaves_the_rest_of_the_index(transfers: Transfers) -> None:
    """Without all platforms nothing comes of attestations and other platforms."""
    image = an_image("mine")
    both = index_of([image, artifact("attestation"), an_image("other", OTHER_ARCHITECTURE)])
    transfers.serve(both)
    await transfers.pull()
    assert transfers.here() == {digest(both.root), *digests(image)}


async def test_nested_indexes_give_all_their_platforms(transfers: Transfers) -> None:
    """An index in an index is brought with all that it points to."""
    inner = index([an_image("mine"), an_image("other", OTHER_ARCHITECTURE)])
    root = Blob(encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner.root.descriptor()]}), OCI_INDEX)
    transfers.serve(inner)
    transfers.serve(Index(root, inner.images))
    transfers.registry.tag(SOURCE, inner.root.digest, OCI_INDEX, inner.root.data)
    pulled = await transfers.pull(all_platforms=True)
    assert len(pulled.image.images) == 2
    assert transfers.here() == digests(inner) | {digest(root)}


async def test_index_of_artifacts_alone_is_no_image(transfers: Transfers) -> None:
    """An index in which nothing can run is refused with a sentence that says so."""
    transfers.serve(index_of([artifact("one"), artifact("two")]))
    with pytest.raises(InvalidArgument) as raised:
        await transfers.pull(all_platforms=True)
    assert "no container image" in raised.value.message
    assert transfers.here() == set()


async def test_huge_index_is_refused_before_its_manifests_are_fetched(transfers: Transfers) -> None:
    """Documents that would fill the memory are refused by what the index says of them."""
    entries = [
        {**an_image("x").manifest.descriptor(), "digest": f"sha256:{i:064x}", "size": 4 << 20} for i in range(17)
    ]
    root = Blob(encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}), OCI_INDEX)
    transfers.registry.tag(SOURCE, "1", root.media_type, root.data)
    with pytest.raises(InvalidArgument) as raised:
        await transfers.pull(all_platforms=True)
    assert "more than" in raised.value.message


async def test_foreign_layer_is_refused_by_default(transfers: Transfers) -> None:
    """A layer that lies outside the registry is not fetched unasked: the error names the flag, and nothing is fetched."""
    image = with_foreign_layer(an_image("mine"), b"foreign", URL)
    transfers.serve(image)
    with pytest.raises(FailedPrecondition) as raised:
        await transfers.pull()
    assert "--foreign-layers fetch" in raised.value.next_step
    assert transfers.here() == {digest(image.manifest), digest(image.config)}
    assert transfers.names.records == {}


async def test_foreign_layer_is_fetched_from_its_url_when_wanted(transfers: Transfers) -> None:
    """With ``--foreign-layers fetch`` the layer comes from where the manifest says, and is then here like any other."""
    image = with_foreign_layer(an_image("mine"), b"foreign", URL)
    transfers.serve(image)
    transfers.registry.serve(URL, b"foreign")
    await transfers.pull(foreign_layers="fetch")
    assert (URL, digest_of(b"foreign")) in transfers.registry.opened
    assert digest_of(b"foreign") in transfers.visible()
    await transfers.pull()  # what is here needs no fetching, so nothing is refused


async def test_foreign_layer_of_another_platform_does_not_matter(transfers: Transfers) -> None:
    """Only what was asked for can be refused."""
    other = with_foreign_layer(an_image("other", OTHER_ARCHITECTURE), b"foreign", URL)
    transfers.serve(index([an_image("mine"), other]))
    await transfers.pull()
    with pytest.raises(FailedPrecondition):
        await transfers.pull(all_platforms=True)


async def test_urls_of_an_ordinary_layer_are_not_believed(transfers: Transfers) -> None:
    """A manifest cannot send this host anywhere by writing URLs on a layer of an ordinary type."""
    image = an_image("mine")
    fields = json.loads(image.manifest.data)
    for layer in fields["layers"]:
        layer["urls"] = [URL]
    manifest = Blob(encode(fields), image.manifest.media_type)
    transfers.serve(image)
    transfers.registry.tag(SOURCE, "1", manifest.media_type, manifest.data)
    await transfers.pull(foreign_layers="fetch")
    assert URL not in {source for source, _ in transfers.registry.opened}


async def test_refused_image_brings_no_layer(transfers: Transfers) -> None:
    """What a verifier refuses is refused before a layer is fetched or anybody is told of the image."""
    image = an_image("mine")
    transfers.serve(image)
    transfers.verdict.refusal = PermissionDenied("verify image: no")
    with pytest.raises(PermissionDenied):
        await transfers.pull()
    assert transfers.verdict.asked[0][0] == str(REFERENCE)
    assert transfers.verdict.asked[0][1].digest == digest(image.root)
    assert not {digest(layer) for layer in image.layers} & transfers.here()
    assert transfers.news == []
    assert transfers.names.records == {}


async def test_referrers_come_along_and_are_kept_by_their_subject(transfers: Transfers) -> None:
    """A signature of the index and one of the manifest are here whole, listed, and live as long as what they are about."""
    mine = an_image("mine")
    root = index([mine])
    of_root, of_manifest = artifact("of root", root.root), artifact("of manifest", mine.manifest)
    transfers.serve(root)
    transfers.serve_referrer(of_root, root.root)
    transfers.serve_referrer(of_manifest, mine.manifest)
    pulled = await transfers.pull(referrers=True)
    assert set(pulled.referrers) == {digest(of_root.manifest), digest(of_manifest.manifest)}
    assert digests(of_root) | digests(of_manifest) <= transfers.visible()
    key = f"containerd.io/gc.ref.content.referrer.sha256.{digest(of_root.manifest).hex[:12]}"
    assert transfers.labels(root.root)[key] == of_root.manifest.digest
    assert transfers.labels(of_root.manifest)["containerd.io/gc.ref.content.0"] == of_root.config.digest


async def test_referrers_are_not_asked_for_unless_wanted(transfers: Transfers) -> None:
    """An ordinary pull brings nothing that is about the image."""
    image = an_image("mine")
    transfers.serve(image)
    transfers.serve_referrer(artifact("signature", image.manifest), image.manifest)
    assert (await transfers.pull()).referrers == ()
    assert transfers.here() == digests(image)


async def test_stale_and_false_referrers_are_passed_over(transfers: Transfers) -> None:
    """A listed manifest that is gone, or that is about something else, does not fail the pull and does not come."""
    image, unrelated = an_image("mine"), artifact("unrelated", artifact("else").manifest)
    transfers.serve(image)
    transfers.serve_referrer(unrelated, image.manifest)
    gone = artifact("gone", image.manifest).manifest
    entry = Descriptor(gone.media_type, digest(gone), len(gone.data))
    transfers.registry.add_referrer(SOURCE, digest(image.manifest), entry)
    assert (await transfers.pull(referrers=True)).referrers == ()


async def test_too_many_referrers_are_refused(transfers: Transfers) -> None:
    """A registry cannot make a pull endless by listing ever more."""
    image = an_image("mine")
    transfers.serve(image)
    for i in range(101):
        transfers.serve_referrer(artifact(str(i), image.manifest), image.manifest)
    with pytest.raises(ResourceExhausted):
        await transfers.pull(referrers=True)


async def test_registry_is_asked_what_is_about_an_image(transfers: Transfers) -> None:
    """Referrers are listed for what a tag means, or for the manifest of one platform."""
    mine = an_image("mine")
    root = index([mine])
    signature = artifact("signature", mine.manifest)
    transfers.serve(root)
    transfers.serve_referrer(signature, mine.manifest)
    assert await transfers.referrers.about(REFERENCE, None, False, "") == (digest(root.root), ())
    subject, found = await transfers.referrers.about(REFERENCE, default_platform(), False, "")
    assert subject == digest(mine.manifest)
    assert [entry.digest for entry in found] == [digest(signature.manifest)]
    by_digest = parse_reference(f"registry.example/app@{mine.manifest.digest}")
    assert (await transfers.referrers.about(by_digest, None, False, "no/such"))[1] == ()
    assert transfers.here() == set()


async def test_digest_that_is_here_with_all_platforms_needs_no_registry(transfers: Transfers) -> None:
    """An index that is here whole is pulled again by its digest while its registry is away."""
    both = index([an_image("mine"), an_image("other", OTHER_ARCHITECTURE)])
    transfers.serve(both)
    await transfers.pull(all_platforms=True)
    elsewhere = parse_reference(f"gone.example/app@{both.root.digest}")
    pulled = await transfers.pull(elsewhere, all_platforms=True)
    assert (pulled.fetched_bytes, len(pulled.image.images)) == (0, 2)
