"""Pulls, pushes and copies with a real registry, over a directory of content."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hythe.oci import default_platform
from hythe.reference import Reference, parse_reference
from hythe_distribution.adapters.directory_store import DirectoryContent
from hythe_distribution.adapters.records_memory import MemoryRecords
from hythe_distribution.adapters.registry.client import HttpRegistry
from hythe_distribution.bringing import Bringer
from hythe_distribution.copying import Copier, CopyOrder
from hythe_distribution.fetcher import Fetcher
from hythe_distribution.namespace_store import Library
from hythe_distribution.publishing import Publisher
from hythe_distribution.pull import Puller, Wish
from hythe_distribution.push import Order, Pusher
from hythe_distribution.referrers import Referrers
from hythe_distribution.resolver import Resolver
from hythe_distribution.sending import Sender
from hythe_distribution.workers import Workers
from scripts.lab.images import index
from scripts.lab.registry import Registry
from tests.fakes.fetching import Counts
from tests.fakes.leases import a_hold
from tests.fakes.names import Names
from tests.unit.distribution.transfers import OTHER_ARCHITECTURE, NamedRoots, an_image, artifact, digest, digests


class Host:
    """One host's content with a puller, pusher and copier."""

    def __init__(self, directory: Path) -> None:
        self.http, self.content, self.names = HttpRegistry(), DirectoryContent(directory, 0), Names()
        self.workers = {name: Workers(name, 4) for name in ("download", "upload", "question")}
        questions = self.workers["question"]
        self.fetcher = Fetcher(self.http, self.content, self.workers["download"], questions, Counts())
        resolver = Resolver(self.http, self.content, questions)
        bringer, referrers = Bringer(self.fetcher, resolver, questions), Referrers(self.http, resolver, questions)
        records = MemoryRecords()
        publisher = Publisher(self.content, records, questions, Library(self.content, records).publish)
        self.puller = Puller(resolver, bringer, referrers, self.content, publisher, self.names, None, questions)
        sender = Sender(self.http, self.workers["upload"])
        self.pusher = Pusher(NamedRoots(self.names), self.content, publisher, sender, questions)
        self.copier = Copier(resolver, bringer, referrers, self.content, publisher, sender, None, questions)

    async def pull(self, reference: Reference, **wish: bool) -> set[object]:
        """Pull an image and return the digests of what is here then."""
        await self.puller.pull("default", Wish(reference, **wish), a_hold(), lambda news: None)  # type: ignore[arg-type]
        return {info.digest for info in self.content.walk()}

    async def close(self) -> None:
        """Give everything back."""
        await self.fetcher.close()
        for workers in self.workers.values():
            workers.close()
        self.http.close()


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[tuple[Host, Host]]:
    """Two hosts that share nothing but registries."""
    made = Host(tmp_path / "one"), Host(tmp_path / "two")
    yield made
    for host in made:
        await host.close()


async def test_index_goes_through_a_push_and_comes_back_whole(hosts: tuple[Host, Host], registry: Registry) -> None:
    """What one host pulled and pushed, another pulls byte for byte; blobs of the same registry are mounted."""
    both = index([an_image("go", OTHER_ARCHITECTURE), an_image("come")])
    source = parse_reference(registry.push(both, "transfers/one:1"))
    target = parse_reference(f"{registry.address}/transfers/two:1")
    await hosts[0].pull(source, all_platforms=True)
    pushed = await hosts[0].pusher.push(
        "default", Order(str(source), str(target), all_platforms=True), a_hold(), lambda news: None
    )
    assert pushed.sent.mounted == len(both.blobs)
    assert await hosts[1].pull(target, all_platforms=True) == digests(both)


async def test_index_is_copied_between_two_registries(
    hosts: tuple[Host, Host], registry: Registry, tmp_path: Path
) -> None:
    """A copy brings all platforms to the other registry, and repeated it sends no blob; the real bytes travel once."""
    both = index([an_image("copy", OTHER_ARCHITECTURE), an_image("that")])
    source = parse_reference(registry.push(both, "transfers/copied:1"))
    with Registry(tmp_path / "other") as other:
        target = parse_reference(f"{other.address}/far/copy:2")
        first = await hosts[0].copier.copy("default", CopyOrder(source, target), a_hold(), lambda news: None)
        again = await hosts[0].copier.copy("default", CopyOrder(source, target), a_hold(), lambda news: None)
        assert first.digest == digest(both.root)
        assert (first.sent.existing, again.sent.existing) == (0, len(both.blobs))
        assert await hosts[1].pull(target, all_platforms=True) == digests(both)


async def test_signature_travels_with_its_image(hosts: tuple[Host, Host], registry: Registry) -> None:
    """A signature is found where the registry has no referrers API too, pulled along, and pushed along."""
    image = an_image("signed")
    signature = artifact("signature", image.manifest)
    source = parse_reference(registry.push(image, "transfers/signed:1"))
    registry.push(signature, "transfers/elsewhere:1")
    order = CopyOrder(
        parse_reference(f"{registry.address}/transfers/elsewhere:1"),
        parse_reference(f"{source.name}@{signature.manifest.digest}"),
    )
    target = parse_reference(f"{registry.address}/transfers/resigned:1")
    await hosts[0].copier.copy("default", order, a_hold(), lambda news: None)
    assert digests(signature) <= await hosts[0].pull(source, referrers=True)
    pushed = await hosts[0].pusher.push(
        "default", Order(str(source), str(target), referrers=True), a_hold(), lambda news: None
    )
    assert pushed.referrers == (digest(signature.manifest),)
    assert digests(signature) <= await hosts[1].pull(target, referrers=True)


async def test_one_platform_of_an_index_is_pushed_alone(hosts: tuple[Host, Host], registry: Registry) -> None:
    """A tag made by a push of one platform is that manifest, without an index."""
    image = an_image("alone")
    source = parse_reference(registry.push(index([an_image("not", OTHER_ARCHITECTURE), image]), "transfers/both:1"))
    target = parse_reference(f"{registry.address}/transfers/alone:1")
    await hosts[0].pull(source)
    order = Order(str(source), str(target), platform=default_platform())
    await hosts[0].pusher.push("default", order, a_hold(), lambda news: None)
    assert await hosts[1].pull(target) == digests(image)
