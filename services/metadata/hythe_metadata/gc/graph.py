"""What refers to what, as numbers: a graph of records, content and snapshots, and which of it can be reached.

A node is a kind, a namespace and a name. Snapshots belong to no namespace. Everything is kept in arrays of numbers and in
strings: objects of their own would cost a collection of 100,000 blobs pauses of the whole process.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hythe_metadata.records import NO_NAMESPACE, Edge, Key
from hythe_metadata.references import SNAPSHOT

BACK = "back:"
_NONE = -1
_WHITE, _FLAT, _GREY, _BLACK = range(4)


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """A node, by what it is."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class _Table:
    """The nodes of one kind and namespace: the number of both together, and the numbers of nodes by name."""

    kind: int
    numbers: dict[str, int]


class Graph:
    """Nodes by number, from 0 without gaps, and what they refer to."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, str], _Table] = {}
        self._kinds: list[tuple[str, str]] = []
        self._kind_of = array("i")
        self._names: list[str] = []
        self._first = array("i")
        self._following = array("i")
        self._targets = array("i")
        self._vias = array("i")
        self._via_numbers: dict[str, int] = {}
        self._via_texts: list[str] = []

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self._names)

    @property
    def edges(self) -> int:
        """The number of references."""
        return len(self._targets)

    def node(self, kind: str, namespace: str, name: str) -> int:
        """Return the number of a node, which is made if there is none."""
        return self._number(self._table(kind, namespace), name)

    def find(self, kind: str, namespace: str, name: str) -> int | None:
        """Return the number of a node if there is one."""
        return self._table(kind, namespace).numbers.get(name)

    def at(self, number: int) -> Node:
        """Return the node of a number."""
        return Node(*self._kinds[self._kind_of[number]], self._names[number])

    def kind_at(self, number: int) -> str:
        """Return the kind of a node."""
        return self._kinds[self._kind_of[number]][0]

    def refer(self, source: int, target: int, via: str) -> None:
        """Add a reference."""
        self._following.append(self._first[source])
        self._first[source] = len(self._targets)
        self._targets.append(target)
        self._vias.append(self._via(via))

    def refer_all(self, edges: Iterable[tuple[Key, Edge]]) -> array[int]:
        """Add the references of records, and return the numbers of these records, some perhaps more than once.

        A back reference says that what it names refers to the record.
        """
        first, following, targets = self._first, self._following, self._targets
        vias, via_numbers = self._vias, self._via_numbers
        records = array("i")
        kind = namespace = name = to_kind = None
        numbers: dict[str, int] = {}
        source, back, table = 0, False, _Table(0, numbers)
        for key, edge in edges:  # a few hundred thousand times: what it needs often stands here
            moved = key.namespace != namespace
            if moved or key.name != name or key.kind != kind:
                kind, namespace, name = key.kind, key.namespace, key.name
                source = self._number(self._table(kind, namespace), name)
                records.append(source)
            if moved or edge.kind != to_kind:
                to_kind = edge.kind
                back = to_kind.startswith(BACK)
                table = self._table(to_kind[len(BACK) :] if back else to_kind, key.namespace)
                numbers = table.numbers
            target = numbers.get(edge.name)
            if target is None:
                target = self._number(table, edge.name)
            via = via_numbers.get(edge.via)
            if via is None:
                via = self._via(edge.via)
            start, end = (target, source) if back else (source, target)
            following.append(first[start])
            first[start] = len(targets)
            targets.append(end)
            vias.append(via)
        return records

    def references(self, number: int) -> Iterator[tuple[int, str]]:
        """Yield what a node refers to, and by which label or field."""
        edge = self._first[number]
        while edge != _NONE:
            yield self._targets[edge], self._via_texts[self._vias[edge]]
            edge = self._following[edge]

    def of_kind(self, kind: str) -> list[int]:
        """Return the nodes of a kind, or of all kinds that begin with it if that is `SNAPSHOT`."""
        return [
            number
            for (known, _), table in self._tables.items()
            if known == kind or (kind == SNAPSHOT and known.startswith(kind))
            for number in table.numbers.values()
        ]

    def turned(self) -> Graph:
        """Return a graph of the same nodes in which every reference goes the other way."""
        other = Graph()
        other._tables, other._kinds, other._kind_of, other._names = (
            self._tables,
            self._kinds,
            self._kind_of,
            self._names,
        )
        other._via_numbers, other._via_texts = self._via_numbers, self._via_texts
        other._first = array("i", [_NONE]) * len(self._names)
        for source in range(len(self._names)):
            edge = self._first[source]
            while edge != _NONE:
                target = self._targets[edge]
                other._following.append(other._first[target])
                other._first[target] = len(other._targets)
                other._targets.append(source)
                other._vias.append(self._vias[edge])
                edge = self._following[edge]
        return other

    def reach(self, colours: bytearray, numbers: Iterable[int]) -> list[int]:
        """Colour black what can be reached from `numbers`; return what was white or flat before."""
        first, following, targets = self._first, self._following, self._targets
        found: list[int] = []
        grey: list[int] = []
        for number in numbers:
            if colours[number] < _GREY:
                colours[number] = _GREY
                grey.append(number)
        while grey:
            number = grey.pop()
            edge = first[number]
            while edge != _NONE:
                target = targets[edge]
                if colours[target] < _GREY:
                    colours[target] = _GREY
                    grey.append(target)
                edge = following[edge]
            colours[number] = _BLACK
            found.append(number)
        return found

    def _table(self, kind: str, namespace: str) -> _Table:
        place = kind, NO_NAMESPACE if kind.startswith(SNAPSHOT) else namespace
        table = self._tables.get(place)
        if table is None:
            table = self._tables[place] = _Table(len(self._kinds), {})
            self._kinds.append(place)
        return table

    def _number(self, table: _Table, name: str) -> int:
        number = table.numbers.get(name)
        if number is None:
            number = table.numbers[name] = len(self._names)
            self._names.append(name)
            self._kind_of.append(table.kind)
            self._first.append(_NONE)
        return number

    def _via(self, text: str) -> int:
        number = self._via_numbers.get(text)
        if number is None:
            number = self._via_numbers[text] = len(self._via_texts)
            self._via_texts.append(text)
        return number


class Marking:
    """Which nodes of a graph stay: those that roots reach, and those that are kept without what they refer to."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._colours = bytearray(len(graph))

    def reach(self, numbers: Iterable[int]) -> list[int]:
        """Mark roots and what they reach; return the numbers of what this has reached first."""
        self._grow()
        return self.graph.reach(self._colours, numbers)

    def keep(self, numbers: Iterable[int]) -> None:
        """Mark nodes, but nothing that they refer to."""
        self._grow()
        for number in numbers:
            if self._colours[number] == _WHITE:
                self._colours[number] = _FLAT

    def refer(self, source: int, target: int, via: str) -> list[int]:
        """Add a reference to the graph, and return what is reached by it now."""
        self.graph.refer(source, target, via)
        self._grow()
        return self.reach([target]) if self._colours[source] == _BLACK else []

    def stays(self, number: int) -> bool:
        """Tell whether a node is marked."""
        return number < len(self._colours) and self._colours[number] != _WHITE

    def marked(self) -> Iterator[int]:
        """Yield the numbers of all that stays."""
        return (number for number, colour in enumerate(self._colours) if colour)

    def _grow(self) -> None:
        self._colours.extend(bytes(len(self.graph) - len(self._colours)))
