"""docs/output.md names every field that commands print as JSON, and no other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scripts.lab.stack import Stack

PAGE = Path(__file__).resolve().parents[3] / "docs" / "output.md"


def _documented(heading: str) -> set[str]:
    """Return the names in backquotes in the section whose heading contains `heading`."""
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    section = next(text for text in sections if heading in text.splitlines()[0])
    return set(re.findall(r"`([a-z_]+)`", section))


@pytest.mark.parametrize(
    ("heading", "arguments"),
    [
        ("hythe ps", ["ps", "-a"]),
        ("hythe ps", ["inspect", "documented"]),
        ("hythe run -d", ["run", "-d", "--rm", "IMAGE", "true"]),
        ("hythe images", ["images"]),
        ("hythe pull", ["pull", "IMAGE"]),
        ("hythe status", ["status"]),
        ("hythe events", ["events", "--since", "1h", "--no-follow"]),
        ("hythe trace ls", ["trace", "ls"]),
        ("hythe trace show", ["trace", "show", "last"]),
        ("hythe doctor", ["doctor"]),
        ("hythe config", ["config"]),
        ("hythe config", ["version"]),
    ],
)
def test_every_field_that_is_printed_is_documented(
    stack: Stack, busybox: str, heading: str, arguments: list[str]
) -> None:
    """Who reads JSON Lines finds each field explained."""
    assert stack.hythe("run", "--name", "documented", busybox, "true").code == 0
    try:
        done = stack.hythe(*(busybox if word == "IMAGE" else word for word in ["--json", *arguments]))
        assert done.code == 0, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert rows
        assert {name for row in rows for name in row} - _documented(heading) == set()
    finally:
        assert stack.hythe("rm", "-f", "documented").code == 0


def test_documented_fields_of_a_container_are_all_printed(stack: Stack, busybox: str) -> None:
    """The table of `ps` promises nothing that is not there."""
    assert stack.hythe("run", "--name", "documented", busybox, "true").code == 0
    try:
        row = json.loads(stack.hythe("inspect", "documented", "--json").stdout)
        section = PAGE.read_text().split("## hythe ps")[1].split("## ")[0]
        promised = {
            name
            for cell in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
            for name in re.findall(r"`(\w+)`", cell)
        }
        assert promised | {"spec"} == set(row)
    finally:
        assert stack.hythe("rm", "-f", "documented").code == 0
