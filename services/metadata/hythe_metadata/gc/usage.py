"""How much is stored where, and how much of it a collection would free: content by metadata's hints, the rest by its owners."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hythe.errors import HytheError
from hythe_metadata import contents
from hythe_metadata.gc.graph import Graph, Marking
from hythe_metadata.gc.owners import HostUsage, HostUsages, Owners
from hythe_metadata.gc.parties import SHARED, known_hosts
from hythe_metadata.gc.reading import Ended, Reading, reading
from hythe_metadata.records import Key, RecordStore, View
from hythe_metadata.references import SNAPSHOT

MOST_ROOTS = 40_000
MOST_IMAGES = 5000


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of thing on one host, or in a store that several hosts share."""

    host: str
    usage: HostUsage


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """What the blobs of an image take; `unique_bytes` is what no other image refers to."""

    namespace: str
    reference: str
    digest: str
    size_bytes: int
    unique_bytes: int
    containers: int


@dataclass(frozen=True, slots=True)
class Usage:
    """All that is known; `silent` are hosts whose bundle didn't answer, `unmeasured` things count with 0 bytes."""

    rows: tuple[Row, ...]
    images: tuple[ImageUsage, ...]
    silent: tuple[str, ...]
    unmeasured: int


@dataclass(frozen=True, slots=True)
class _Content:
    """Sizes by number of node, and the numbers that each holder has."""

    sizes: Mapping[int, int]
    held: Mapping[str, Sequence[int]]


async def usage(store: RecordStore, owners: Owners, ended: Ended, *, images: bool) -> Usage:
    """Return how much is stored where; with `images` what each image takes. Owners are asked at once."""
    found = await store.read(reading(ended))
    content = await store.read(lambda view: _content(view, found.graph))
    hosts = await store.read(known_hosts)
    marking = await asyncio.to_thread(found.marking)
    roots = [number for number in found.graph.of_kind(SNAPSHOT) if marking.stays(number)]
    named = sorted({found.graph.at(number).name for number in roots}) if len(roots) <= MOST_ROOTS else None

    async def ask(host: str) -> HostUsages | None:
        try:
            return await owners.usage(host, named)
        except HytheError:
            return None  # the host is named as silent

    answers = dict(zip(hosts, await asyncio.gather(*map(ask, hosts)), strict=True))
    targets = _targets(found)
    rows = [Row(holder, _images(found.graph, marking, content, held, targets)) for holder, held in content.held.items()]
    rows += [Row(host, one) for host, answer in answers.items() if answer for one in answer.rows]
    listed = await asyncio.to_thread(_each_image, found.graph, content, targets) if images else []
    return Usage(
        tuple(sorted(rows, key=lambda row: (row.host.startswith(SHARED), row.host))),
        tuple(listed),
        tuple(host for host, answer in answers.items() if answer is None),
        sum(answer.unmeasured for answer in answers.values() if answer),
    )


def _content(view: View, graph: Graph) -> _Content:
    sizes: dict[int, int] = {}
    held: dict[str, list[int]] = defaultdict(list)
    for stored in view.scan(contents.KIND):
        hint = contents.read(stored)
        if hint.holders:
            number = graph.node(contents.KIND, stored.key.namespace, stored.key.name)
            sizes[number] = hint.size_bytes
            for holder in hint.holders:
                held[holder].append(number)
    return _Content(sizes, held)


def _targets(found: Reading) -> dict[Key, tuple[int, int]]:
    """Return by image the number of its target, and how many containers are of that."""
    graph = found.graph
    containers: Counter[int] = Counter()
    images: dict[Key, int] = {}
    for number, why in found.roots.items():
        if why in ("image", "container"):
            node = graph.at(number)
            for target, via in graph.references(number):
                if graph.kind_at(target) != contents.KIND:
                    continue
                if why == "container":
                    containers[target] += 1
                elif not via.startswith("containerd.io/"):
                    images[Key("image", node.namespace, node.name)] = target
    return {key: (target, containers[target]) for key, target in images.items()}


def _images(
    graph: Graph, marking: Marking, content: _Content, held: Sequence[int], targets: Mapping[Key, tuple[int, int]]
) -> HostUsage:
    """Count the images whose target a holder has. A blob that several namespaces see takes its bytes once."""
    here = set(held)
    there = [containers for target, containers in targets.values() if target in here]
    sizes: dict[str, int] = {}
    kept: set[str] = set()
    for number in held:
        digest = graph.at(number).name
        sizes[digest] = content.sizes[number]
        if marking.stays(number):
            kept.add(digest)
    reclaimable = sum(size for digest, size in sizes.items() if digest not in kept)
    return HostUsage("images", len(there), sum(count > 0 for count in there), sum(sizes.values()), reclaimable)


def _each_image(graph: Graph, content: _Content, targets: Mapping[Key, tuple[int, int]]) -> list[ImageUsage]:
    reached = {target: _reached(graph, target) for target, _ in targets.values()}
    by_target = Counter(number for numbers in reached.values() for number in numbers)
    listed = [
        ImageUsage(
            key.namespace,
            key.name,
            graph.at(target).name,
            sum(content.sizes.get(number, 0) for number in reached[target]),
            sum(content.sizes.get(number, 0) for number in reached[target] if by_target[number] == 1),
            containers,
        )
        for key, (target, containers) in targets.items()
    ]
    return sorted(listed, key=lambda image: (-image.size_bytes, image.namespace, image.reference))[:MOST_IMAGES]


def _reached(graph: Graph, target: int) -> list[int]:
    """Return the content that a blob refers to, itself included."""
    seen, waiting = {target}, [target]
    while waiting:
        for other, _ in graph.references(waiting.pop()):
            if other not in seen and graph.kind_at(other) == contents.KIND:
                seen.add(other)
                waiting.append(other)
    return list(seen)
