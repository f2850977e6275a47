"""How what became of garbage is said to people."""

from __future__ import annotations

from typing import Any

import pytest

from hythe.cli.garbage import total
from hythe.cli.garbage_why import headline, path_lines
from hythe.cli.metadata_graph import node_line, quoted
from hythe.cli.system import table_of


def report(*kinds: str, **fields: Any) -> dict[str, Any]:
    """Return a report of a collection that removed things of these kinds."""
    items = [{"kind": kind} for kind in kinds]
    return {
        "items": items,
        "removed": len(items),
        "freed_bytes": 1500,
        "total_ms": 250.0,
        "dry_run": False,
        "suspended": "",
        **fields,
    }


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (report(), "removed nothing, freed 1.5 kB, in 0.25 s"),
        (report("content", "content", "lease"), "removed 2 blobs, 1 lease, freed 1.5 kB, in 0.25 s"),
        (report("content", dry_run=True), "would remove 1 blob, freeing 1.5 kB, in 0.25 s"),
        (report("content", suspended="clock"), "would remove 1 blob, freeing 1.5 kB, in 0.25 s"),
        (report("content", removed=20_000), "removed 20000 things, freed 1.5 kB, in 0.25 s"),
    ],
)
def test_collection_is_summed_up_in_one_line(made: dict[str, Any], said: str) -> None:
    """What went, how much that was, and how long it took; of a list that isn't whole only the number."""
    assert total(made) == said


def test_headline_says_whether_it_stays() -> None:
    """Kept, kept until a lease ends, or gone soon: the first line says it."""
    found: dict[str, Any] = {
        "kind": "content", "name": "sha256:ab", "hosts": ["h1", "h2"], "size_bytes": 5, "exists": True, "paths": [[]], "goes": "",
    }  # fmt: skip
    assert headline(found) == "content sha256:ab on h1, h2, 5 B: kept"
    assert headline({**found, "goes": "when lease x expires"}).endswith(": kept; when lease x expires")
    assert headline({**found, "paths": [], "goes": "soon"}).endswith(": nothing keeps it; goes soon")
    assert "no host has it" in headline({**found, "exists": False, "hosts": []})


def test_path_says_why_its_root_is_one_where_the_kind_does_not() -> None:
    """A mount or a label is named, an image needs no reason."""
    steps = [
        {"kind": "snapshot/overlayfs", "namespace": "", "name": "top", "via": "mounted on h1"},
        {"kind": "snapshot/overlayfs", "namespace": "", "name": "base", "via": "parent"},
    ]
    assert path_lines(steps) == [
        "snapshot/overlayfs top, mounted on h1",
        "  └ parent → snapshot/overlayfs base",
    ]
    assert path_lines([{"kind": "image", "namespace": "n", "name": "a", "via": "image"}]) == ["image a (namespace n)"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plain", '"plain"'),
        ('a"b', '"a\\"b"'),
        ("a\\b", '"a\\\\b"'),
        ("a\nb", '"a\\nb"'),
        ("\x1b[31m", '"\\\\x1b[31m"'),
        ('"];evil [label="', '"\\"];evil [label=\\""'),
    ],
)
def test_names_are_strings_to_graphviz_whatever_is_in_them(text: str, said: str) -> None:
    """A hostile name is shown and never read as Graphviz's language, nor by the terminal."""
    assert quoted(text) == said


def test_node_that_is_a_root_is_bold_and_one_that_is_missing_dashed() -> None:
    """The picture shows at a glance what holds things, and what isn't there."""
    node = {"id": "x", "kind": "content", "name": "sha256:" + "a" * 64, "root": "", "present": True}
    assert "style" not in node_line(node)
    assert 'style="dashed"' in node_line({**node, "present": False})
    assert 'style="bold"' in node_line({**node, "root": "label containerd.io/gc.root"})
    assert 'label="content\\naaaaaaaaaaaa…"' in node_line(node)


def test_column_of_hosts_is_there_only_for_several() -> None:
    """On one host nobody needs to read its name in every line."""
    row = {"host": "h1", "kind": "images", "total": 2, "active": 1, "size_bytes": 200, "reclaimable_bytes": 50}
    header, lines = table_of([row])
    assert (header[0], lines) == ("TYPE", [("Images", "2", "1", "200 B", "50 B (25%)")])
    header, lines = table_of([{**row, "host": "shared:s3"}, row])
    assert header[0] == "HOST"
    assert [line[0] for line in lines] == ["h1", "shared:s3"]
