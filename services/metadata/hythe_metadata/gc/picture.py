"""The graph for people: nodes, what refers to what and by which label or field, in pages."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from hythe.errors import InvalidArgument, NotFound
from hythe.ports.metadata import ALL_NAMESPACES
from hythe_metadata import contents, lease_records
from hythe_metadata.gc.graph import Graph
from hythe_metadata.gc.reading import Reading
from hythe_metadata.records import Read, View
from hythe_metadata.references import SNAPSHOT

LEAST_DIGITS = 4
MOST_EDGES = 5000
_RECORDS = ("container", "image", lease_records.KIND, contents.KIND)


@dataclass(frozen=True, slots=True)
class Place:
    """A node as it is shown; `present`: it exists as far as metadata knows, `root`: why it is a root."""

    id: str
    kind: str
    namespace: str
    name: str
    root: str = ""
    present: bool = True


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """A reference between nodes by their ids."""

    source: str
    target: str
    via: str


@dataclass(frozen=True, slots=True)
class PicturePage:
    """Some nodes, by id, with what goes out from them."""

    nodes: tuple[Place, ...]
    edges: tuple[Line, ...]
    next: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """What of a graph is shown: nodes by id, and their numbers in the graph."""

    graph: Graph
    places: dict[int, Place]
    order: list[tuple[str, int]]


def present_records(view: View) -> set[tuple[str, str, str]]:
    """Return which records there are that can be nodes; of content those that somebody has."""
    return {
        (stored.key.kind, stored.key.namespace, stored.key.name)
        for kind in _RECORDS
        for stored in view.scan(kind)
        if kind != contents.KIND or '"holders":{}' not in stored.body
    }


def ids_of_container(namespace: str, name: str) -> Read[list[str]]:
    """Return what reads the ids of containers that have a name."""
    where = None if namespace == ALL_NAMESPACES else namespace

    def read(view: View) -> list[str]:
        quoted = json.dumps(name, ensure_ascii=False)
        found = (stored for stored in view.scan("container", where) if quoted in stored.body)
        return [stored.key.name for stored in found if json.loads(stored.body).get("name") == name]

    return read


def draw(reading: Reading, present: set[tuple[str, str, str]], namespace: str, names: Iterable[str] = ()) -> Picture:
    """Return what is shown of a namespace, or of all; with `names` only what leads to or is reached from a node of one of them.

    Raises:
        NotFound: there is no node of such a name, nor one whose digest or id begins so.
        InvalidArgument: several digests or ids begin so.
    """
    graph = reading.graph
    wanted = list(names)
    shown: Iterable[int] = range(len(graph)) if not wanted else _around(graph, _named(graph, namespace, wanted))
    places: dict[int, Place] = {}
    for number in shown:
        node = graph.at(number)
        if namespace in (ALL_NAMESPACES, node.namespace) or (node.kind.startswith(SNAPSHOT) and wanted):
            known = node.kind not in _RECORDS or (node.kind, node.namespace, node.name) in present
            why = reading.roots.get(number, "")
            identity = f"{node.kind} {node.namespace} {node.name}"
            places[number] = Place(identity, node.kind, node.namespace, node.name, why, known)
    if not wanted and namespace != ALL_NAMESPACES:
        for number in list(places):
            for target, _ in graph.references(number):
                node = graph.at(target)
                if node.kind.startswith(SNAPSHOT) and target not in places:
                    places[target] = Place(f"{node.kind}  {node.name}", node.kind, "", node.name)
    return Picture(graph, places, sorted((place.id, number) for number, place in places.items()))


def page(picture: Picture, after: str, limit: int) -> PicturePage:
    """Return at most `limit` nodes whose id comes after `after`, with the references that go out from them.

    Beyond the first node there are no more than `MOST_EDGES` of these, so that a page fits into a message.
    """
    start = bisect_right(picture.order, after, key=lambda entry: entry[0])
    taken: list[Place] = []
    edges: list[Line] = []
    for identity, number in islice(picture.order, start, start + limit):
        outgoing = sorted(
            Line(identity, picture.places[target].id, via)
            for target, via in dict.fromkeys(picture.graph.references(number))
            if target in picture.places
        )
        if taken and len(edges) + len(outgoing) > MOST_EDGES:
            break
        taken.append(picture.places[number])
        edges += outgoing
    more = start + len(taken) < len(picture.order)
    return PicturePage(tuple(taken), tuple(edges), taken[-1].id if more else "")


def _named(graph: Graph, namespace: str, names: list[str]) -> list[int]:
    wanted = frozenset(names)
    exact: list[int] = []
    begins: list[int] = []
    for number in range(len(graph)):
        node = graph.at(number)
        if namespace not in (ALL_NAMESPACES, node.namespace) and not node.kind.startswith(SNAPSHOT):
            continue
        if node.name in wanted:
            exact.append(number)
        elif node.kind in ("content", "container") and any(_begins(node.name, name) for name in names):
            begins.append(number)
    if exact:
        return exact
    different = sorted({graph.at(number).name for number in begins})
    if len(different) > 1:
        raise InvalidArgument(
            f"find {names[0]!r} in the graph: it may mean {', '.join(different[:10])}", next_step="give more digits"
        )
    if not begins:
        raise NotFound(
            f"find {names[0]!r} in the graph: nothing of that name refers to anything or is referred to",
            next_step="`hythe metadata graph` shows all",
            details={"kind": "node"},
        )
    return begins


def _begins(name: str, beginning: str) -> bool:
    digits = beginning.removeprefix("sha256:")
    return len(digits) >= LEAST_DIGITS and name.removeprefix("sha256:").startswith(digits)


def _around(graph: Graph, seeds: list[int]) -> set[int]:
    found: set[int] = set()
    for side in (graph, graph.turned()):
        seen, waiting = set(seeds), list(seeds)
        while waiting:
            for other, _ in side.references(waiting.pop()):
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
        found |= seen
    return found
