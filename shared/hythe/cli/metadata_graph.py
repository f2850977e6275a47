"""`hythe metadata graph`: what refers to what, for Graphviz or for programs."""

from __future__ import annotations

import sys

from hythe.cli import exits, output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterator
    from typing import Any

    from hythe.cli.context import Context

    Row = dict[str, Any]

ASK_S = 20.0
SHAPES = {"image": "house", "container": "component", "lease": "note", "content": "box", "ingest": "cds"}
"""Graphviz shapes by kind; all others are snapshots."""


def graph_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe metadata graph`."""
    parser.description = (
        "Show records, content and snapshots of the namespace, and which label or field of which refers to which. Roots are drawn"
        " bold, what isn't there dashed."
    )
    parser.epilog = "example:\n  hythe metadata graph web | dot -Tsvg > web.svg"
    parser.add_argument("id", nargs="?", default="", metavar="ID",
        help="only what leads to it or can be reached from it: reference, container, lease, digest or snapshot")  # fmt: skip


def graph(context: Context) -> int:
    """Write the graph."""
    pages = _pages(context)
    if context.as_json:
        for page in pages:
            for node in page["nodes"]:
                output.json_line({"node": node})
            for edge in page["edges"]:
                output.json_line({"edge": edge})
        return exits.OK
    print("digraph hythe {")
    print('  rankdir="LR"; node [fontname="monospace"]; edge [fontname="monospace" fontsize="9"];')
    for page in pages:
        for node in page["nodes"]:
            print(f"  {node_line(node)}")
        for edge in page["edges"]:
            print(f"  {quoted(edge['source'])} -> {quoted(edge['target'])} [label={quoted(edge['via'])}];")
    print("}")
    sys.stdout.flush()
    return exits.OK


def node_line(node: Row) -> str:
    """Return the line of a node in Graphviz's language."""
    name = node["name"].removeprefix("sha256:")
    short = f"{name[:12]}…" if node["name"].startswith("sha256:") else name
    label = f"{node['kind']}\n{short}" + (f"\n({node['root']})" if node["root"] not in ("", node["kind"]) else "")
    styles = [word for word, wanted in (("bold", node["root"]), ("dashed", not node["present"])) if wanted]
    attributes = {"label": label, "tooltip": node["id"], "shape": SHAPES.get(node["kind"], "folder")}
    if styles:
        attributes["style"] = ",".join(styles)
    return f"{quoted(node['id'])} [{' '.join(f'{key}={quoted(value)}' for key, value in attributes.items())}];"


def quoted(text: str) -> str:
    """Return `text` as a string of Graphviz's language that means exactly that; a line feed begins a new line."""
    lines = [output.visible(line).replace("\\", "\\\\").replace('"', '\\"') for line in text.split("\n")]
    return '"' + "\\n".join(lines) + '"'


def _pages(context: Context) -> Iterator[Row]:
    after = ""
    while True:
        body = {"name": context.args.id, "after": after}
        page = context.bus.call(context.subject("metadata", "gc", "graph"), body, timeout_s=ASK_S)
        yield page
        after = page["next"]
        if not after:
            return
