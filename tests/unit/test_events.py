"""The table of events, and that those who publish keep to it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hythe import events
from hythe.events import BY_TOPIC, EVENTS, faults, gathered, spread
from hythe.subjects import event, parse_event

ROOT = Path(__file__).resolve().parents[2]
_TOPIC = re.compile(r'"(/(?:containers|tasks|images|content|snapshot|namespaces|leases|sandboxes)/[a-z-]+)"')


def test_every_topic_is_there_once_and_its_subject_can_be_told_from_others() -> None:
    """No two kinds of one publisher share a subject."""
    assert len(BY_TOPIC) == len(EVENTS)
    places = [(kind.publisher, kind.noun, kind.past) for kind in EVENTS]
    assert len(places) == len(set(places))
    for kind in EVENTS:
        parsed = parse_event(event("n", "h", kind.noun, "id", kind.past))
        assert (parsed.noun, parsed.past) == (kind.noun, kind.past)


def test_every_topic_in_the_services_is_in_the_table_with_its_publisher() -> None:
    """Nobody publishes what docs/events.md does not have, or what it says that somebody else does."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "services").rglob("*.py"):
        service = path.relative_to(ROOT / "services").parts[0]
        for topic in _TOPIC.findall(path.read_text()):
            found.setdefault(topic, set()).add("agent" if service == "runtime" else service)
    assert {"/tasks/exit", "/containers/create", "/images/delete"} <= set(found)
    assert {topic: services for topic, services in found.items() if services != {BY_TOPIC[topic].publisher}} == {}


@pytest.mark.parametrize(
    ("topic", "noun", "past", "attributes", "told"),
    [
        ("/tasks/start", "container", "started", ("container_id", "pid", "name", "labels.a.b"), []),
        ("/tasks/begin", "container", "started", (), ["there is no topic '/tasks/begin'"]),
        ("/tasks/paused", "container", "paused", ("container_id",), ["/tasks/paused: not published yet, says the table"]),
        ("/tasks/start", "container", "started", ("pid",), ["/tasks/start: container_id is missing"]),
        ("/images/delete", "image", "deleted", ("name", "colour"), ["/images/delete: there is no field colour"]),
        ("/content/delete", "blob", "gone", ("digest",),
         ["/content/delete: its subject ends with blob.….gone, not content.….deleted"]),
    ],
)  # fmt: skip
def test_event_that_differs_from_the_table_is_found(
    topic: str, noun: str, past: str, attributes: tuple[str, ...], told: list[str]
) -> None:
    """A missing field, an unknown one, and a subject of another kind are each named."""
    assert faults(topic, noun, past, attributes) == told


def test_fields_that_hold_others_are_spread_and_gathered() -> None:
    """Maps and lists become attributes joined by dots; keys with dots come back whole."""
    found = spread("x", {"a.b": "1", "c": [True, 2, {"d": ""}], "e": {}})
    assert found == {"x.a.b": "1", "x.c.0": "true", "x.c.1": "2", "x.c.2.d": ""}
    assert spread("pid", 7) == {"pid": "7"}
    assert gathered({**spread("labels", {"a.b": "1"}), "label": "no"}, "labels") == {"a.b": "1"}
    assert events.NOUNS[0] == "container"
