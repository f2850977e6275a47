"""What keeps which snapshot, and in which order the others go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hythe_bundle.snapshot_graph import Graph, Node

SN = "containerd.io/gc.ref.snapshot.overlayfs"
BACK = "containerd.io/gc.bref.snapshot.overlayfs"
DIGEST = "sha256:" + "d" * 64


def graph(*nodes: Node) -> Graph:
    """Return the graph of overlayfs's snapshots."""
    return Graph(nodes, "overlayfs")


def node(name: str, parent: str = "", *, number: int = 0, is_bundle: bool = False, **labels: str) -> Node:
    """Return a committed snapshot; ``ref``, ``back`` and ``root`` stand for labels."""
    keys = {"ref": SN, "back": BACK, "root": "containerd.io/gc.root"}
    return Node(number, name, "committed", parent, {keys[key]: value for key, value in labels.items()}, is_bundle)


def test_snapshot_keeps_all_that_it_lies_on() -> None:
    """Whoever needs a layer has all layers below it."""
    found = graph(node("a"), node("b", "a"), node("c", "b"), node("other", "a"))
    assert found.kept(["b"]) == {"a", "b"}


def test_label_keeps_another_snapshot_with_what_lies_below_it() -> None:
    """A label of containerd's keeps what it names, whatever follows the snapshotter's name, in a circle as well."""
    slashed = Node(0, "x", "active", "", {f"{SN}/second": "b"})
    found = graph(node("a", ref="x"), node("b", "a"), slashed, node("other"))
    assert found.kept(["x"]) == {"x", "b", "a"}


def test_back_reference_keeps_the_one_that_has_it() -> None:
    """A snapshot stays as long as the one that its label names."""
    found = graph(node("parent"), node("child", back="parent"), node("other", back="nobody"))
    assert found.kept(["parent"]) == {"parent", "child"}
    assert found.kept([]) == set()


def test_label_of_another_snapshotter_keeps_nothing_here() -> None:
    """What a label says of another snapshotter's snapshot is told to the one who collects, and no edge in here."""
    other = Node(0, "x", "active", "", {"containerd.io/gc.ref.snapshot.native": "a"})
    found = graph(node("a"), other)
    assert found.kept(["x"]) == {"x"}
    assert [(one.kind, one.name) for one in found.elsewhere({"x"})] == [("snapshot/native", "a")]


def test_references_to_content_are_told_of_what_is_kept() -> None:
    """What kept snapshots refer to elsewhere is told; what others refer to only if that could keep them."""
    labels = {
        "containerd.io/gc.ref.content": DIGEST,
        "containerd.io/gc.ref.content.l.0": DIGEST,
        "containerd.io/gc.ref.content/x": DIGEST,
        "containerd.io/gc.ref.contents": DIGEST,
        "containerd.io/gc.ref.container": "web",
        "containerd.io/gc.ref.image": "",
        "containerd.io/gc.bref.container": "web",
        "containerd.io/gc.root": "",
    }
    found = graph(Node(1, "x", "active", "", labels))
    told = [(one.snapshot, one.kind, one.name, one.back) for one in found.elsewhere({"x"})]
    assert told == [("x", "content", DIGEST, False)] * 3 + [("x", "container", "web", True)]
    assert [one.via for one in found.elsewhere(set())] == ["containerd.io/gc.bref.container"]
    assert found.own_roots(()) == {}


def test_host_says_why_it_keeps_a_snapshot() -> None:
    """A label, a container's bundle and a mount keep a snapshot though nobody refers to it."""
    found = graph(
        node("labelled", number=1, root="2026"),
        node("container", number=2, is_bundle=True),
        node("mounted", number=3),
        node("free", number=4),
    )
    assert found.own_roots({1, 3}) == {
        "labelled": "label containerd.io/gc.root",
        "container": "bundle container",
        "mounted": "mounted",
    }


def test_those_above_come_nearest_first_and_no_more_than_wanted() -> None:
    """What lies on a snapshot is found level by level; of one that isn't there nothing."""
    found = graph(node("a"), node("b", "a"), node("c", "b"), node("d", "a"))
    assert [one.name for one in found.above("a", 9)] == ["a", "b", "d", "c"]
    assert [one.name for one in found.above("a", 2)] == ["a", "b"]
    assert found.above("gone", 9) == []


def test_chain_of_any_length_is_followed() -> None:
    """Thousands of snapshots one on the other are no deeper than the machine can go."""
    chain = [node(str(number), str(number - 1) if number else "") for number in range(20_000)]
    found = graph(*reversed(chain))
    assert len(found.kept(["19999"])) == 20_000
    assert [name for _, name in found.to_remove(())][:2] == ["19999", "19998"]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Node], list[str]]:
    """Return any snapshots, and any roots among them and beside them."""
    size = draw(st.integers(1, 12))
    nodes = []
    for number in range(size):
        parent = draw(st.integers(-1, number - 1))
        labels = {}
        for key in (SN, f"{SN}/x", BACK):
            if draw(st.booleans()):
                labels[key] = str(draw(st.integers(0, size)))
        nodes.append(Node(number, str(number), "committed", "" if parent < 0 else str(parent), labels))
    roots = draw(st.lists(st.integers(0, size), max_size=4))
    return draw(st.permutations(nodes)), [str(root) for root in roots]


@given(graphs())
def test_kept_is_the_least_that_is_closed_and_the_rest_goes_from_the_top(found: tuple[list[Node], list[str]]) -> None:
    """Nothing kept lacks what it needs, nothing is kept without a reason, and nothing goes before what lies on it."""
    nodes, roots = found
    made = Graph(nodes, "overlayfs")
    names = {one.name for one in nodes}
    edges = {(one.name, one.parent) for one in nodes if one.parent}
    for one in nodes:
        edges |= {(one.name, value) for key, value in one.labels.items() if key != BACK}
        edges |= {(value, one.name) for key, value in one.labels.items() if key == BACK}
    expected = set(roots) & names
    while more := {to for of, to in edges if of in expected and to in names} - expected:
        expected |= more
    kept = made.kept(roots)
    assert kept == expected
    order = [name for _, name in made.to_remove(kept)]
    assert sorted(order) == sorted(names - kept)
    place = {name: index for index, name in enumerate(order)}
    for one in nodes:
        if one.name in place and one.parent in place:
            assert place[one.name] < place[one.parent]
