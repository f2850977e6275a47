"""What a pull makes visible, under which labels, and in which order: nothing is named that could be collected."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from hythe.digest import Digest
from hythe.errors import (
    Unavailable,
)
from hythe.oci import parse_platform
from hythe.reference import parse_reference
from hythe_distribution.publishing import Publisher
from hythe_distribution.pull import Puller, Wish
from hythe_distribution.records import Publication
from scripts.lab.images import Blob, index
from tests.fakes.leases import a_hold
from tests.unit.distribution.transfers import (
    OTHER_ARCHITECTURE,
    OTHER_PLATFORM,
    REFERENCE,
    Transfers,
    an_image,
    digest,
    digests,
)

ANNOTATED = "containerd.io/distribution.source.registry.example"
URL = "http://elsewhere.example/layer"


async def test_pulled_blobs_have_containerds_labels(transfers: Transfers) -> None:
    """Documents keep what they point to, layers say what they unpack to, and each blob where it came from."""
    other, mine = an_image("other", OTHER_ARCHITECTURE), an_image("mine")
    both = index([other, mine])
    transfers.serve(both)
    await transfers.pull()
    config = json.loads(mine.config.data)
    source = {ANNOTATED: "app"}
    assert transfers.labels(both.root) == {"containerd.io/gc.ref.content.m.1": mine.manifest.digest, **source}
    assert transfers.labels(mine.manifest) == {
        "containerd.io/gc.ref.content.config": mine.config.digest,
        "containerd.io/gc.ref.content.l.0": mine.layers[0].digest,
        "containerd.io/gc.ref.content.l.1": mine.layers[1].digest,
        **source,
    }
    assert transfers.labels(mine.config) == source
    assert transfers.labels(mine.layers[1]) == {
        "containerd.io/uncompressed": config["rootfs"]["diff_ids"][1],
        **source,
    }


async def test_platforms_pulled_one_by_one_keep_each_other(transfers: Transfers) -> None:
    """A second platform of an index does not take the place of the first in its labels."""
    other, mine = an_image("other", OTHER_ARCHITECTURE), an_image("mine")
    both = index([other, mine])
    transfers.serve(both)
    await transfers.pull()
    await transfers.pull(platform=parse_platform(OTHER_PLATFORM))
    kept = {value for key, value in transfers.labels(both.root).items() if ".m." in key}
    assert kept == {other.manifest.digest, mine.manifest.digest}


async def test_repositories_of_one_registry_are_joined(transfers: Transfers) -> None:
    """A blob that was pulled from two repositories can be mounted from both."""
    image = an_image("mine")
    second = parse_reference("registry.example/team/app:1")
    transfers.serve(image)
    transfers.serve(image, second)
    await transfers.pull()
    await transfers.pull(second)
    assert transfers.labels(image.layers[0])[ANNOTATED] == "app,team/app"


async def test_name_is_registered_only_after_its_blobs_are_visible(transfers: Transfers) -> None:
    """Whoever finds the name finds every blob of the image in the namespace."""
    image = an_image("mine")
    transfers.serve(image)
    seen: list[set[Digest]] = []
    transfers.names.before_put = lambda: seen.append(transfers.visible())
    await transfers.pull()
    assert seen == [digests(image)]


class _Forgetful:
    """Publishes, and lets a blob be deleted just before, as a collection would that saw it unused; `times` times."""

    def __init__(self, transfers: Transfers, blob: Blob, times: int) -> None:
        self._transfers, self._blob, self.times = transfers, blob, times

    def __call__(self, namespace: str, blobs: Sequence[Publication]) -> None:
        if self.times:
            self.times -= 1
            self._transfers.content.delete(digest(self._blob))
        self._transfers.library.publish(namespace, blobs)


def _puller_with(transfers: Transfers, publish: _Forgetful) -> Puller:
    questions = transfers.workers["question"]
    publisher = Publisher(transfers.content, transfers.records, questions, publish)
    return Puller(
        transfers.resolver,
        transfers.bringer,
        transfers.referrers,
        transfers.content,
        publisher,
        transfers.names,
        None,
        questions,
    )


async def test_blob_deleted_before_it_was_visible_is_fetched_again(transfers: Transfers) -> None:
    """A pull never names an image of which a blob has just been collected."""
    image = an_image("mine")
    transfers.serve(image)
    puller = _puller_with(transfers, _Forgetful(transfers, image.layers[0], 1))
    await puller.pull("default", Wish(REFERENCE), a_hold(), transfers.news.append)
    assert transfers.here() == digests(image)
    assert transfers.names.records["default", str(REFERENCE)].digest == digest(image.root)


async def test_blob_deleted_again_and_again_fails_the_pull(transfers: Transfers) -> None:
    """After three tries the pull says why it gives up, and there is no name."""
    image = an_image("mine")
    transfers.serve(image)
    puller = _puller_with(transfers, _Forgetful(transfers, image.layers[0], 9))
    with pytest.raises(Unavailable) as raised:
        await puller.pull("default", Wish(REFERENCE), a_hold(), transfers.news.append)
    assert "deleted" in raised.value.message
    assert transfers.names.records == {}
