"""Filters of events: Docker's and containerd's, told apart by their operator."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe import subjects
from hythe.cli.event_filters import read
from hythe.client.event_reader import StoredEvent, read_event
from hythe.client.stream_parts import Message
from hythe.errors import InvalidArgument


def event(
    topic: str, noun: str, past: str, host: str = "", object_id: str = "c0ffee", **attributes: str
) -> StoredEvent:
    body = {"topic": topic, "namespace": "default", "host": host, "object_id": object_id, "number": 1, "time": "T",
            "caller": "admin", "attributes": {name.replace("__", "."): text for name, text in attributes.items()}}  # fmt: skip
    data = json.dumps(body).encode()
    return StoredEvent(Message(1, 0, subjects.event("default", host, noun, object_id, past), data), read_event(data))


EVENTS = {
    "begun": event("/containers/create", "container", "created", name="web", image="docker.io/library/busybox:1"),
    "start": event("/tasks/start", "container", "started", "h1", name="web", labels__app="x", image="r.example/a/b:2"),
    "exit": event("/tasks/exit", "container", "exited", "h2", "beef", name="db", labels__app="y", labels__tier="1"),
    "pull": event("/images/create", "image", "created", object_id="docker.io/library/busybox:1",
                  name="docker.io/library/busybox:1", digest="sha256:00"),
    "blob": event("/content/create", "content", "created", object_id="sha256:00", digest="sha256:00", size="7"),
}  # fmt: skip


def passing(*texts: str) -> set[str]:
    passes = read(texts)
    return {name for name, one in EVENTS.items() if passes(one)}


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ([], set(EVENTS)),
        (["type=container"], {"begun", "start", "exit"}),
        (["type=image", "type=content"], {"pull", "blob"}),
        (["event=create"], {"begun", "pull", "blob"}),
        (["event=create", "type=container"], {"begun"}),
        (["event=die"], {"exit"}),
        (["event=exited", "event=started"], {"start", "exit"}),
        (["container=web"], {"begun", "start"}),
        (["container=bee"], {"exit"}),
        (["container=web", "container=db", "event=start"], {"start"}),
        (["image=busybox"], {"begun", "pull"}),
        (["image=busybox:1"], {"begun", "pull"}),
        (["image=docker.io/library/busybox"], {"begun", "pull"}),
        (["image=sha256:00"], {"pull"}),
        (["image=r.example/a/b"], {"start"}),
        (["image=b"], set()),
        (["label=app"], {"start", "exit"}),
        (["label=app=y"], {"exit"}),
        (["label=app=x", "label=tier"], {"start", "exit"}),
        (["host=h1"], {"start"}),
        (['topic=="/tasks/exit"'], {"exit"}),
        (["topic~=|^/tasks/|"], {"start", "exit"}),
        (["topic~=|^/tasks/|,namespace==default"], {"start", "exit"}),
        (["namespace==other"], set()),
        (['topic=="/tasks/exit"', 'topic=="/images/create"'], {"exit", "pull"}),
        (["event.name==web,host!=h1"], {"begun"}),
        (["event.labels.app==y"], {"exit"}),
        (["labels.tier"], {"exit"}),
        (["event.size"], {"blob"}),
        (["caller==admin,topic~=/content/"], {"blob"}),
        (["type=container", "topic~=|^/tasks/|"], {"start", "exit"}),
        (["label=a==b"], set()),
    ],
)  # fmt: skip
def test_filters_let_through_what_they_ask_for(texts: list[str], names: set[str]) -> None:
    """One of several values of a key is enough, different keys must all hold, and both languages together."""
    assert passing(*texts) == names


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tpye=container", "position 0: there is no filter 'tpye'"),
        ("type=contaner", "position 5: there is no type 'contaner'"),
        ("event=strat", "position 6: there is no event 'strat'"),
        ("type=", "position 5: expected type=VALUE"),
        ("type", "position 4: expected type=VALUE"),
        ("topic~|^/tasks/|", "position 5: expected one of == != ~="),
        ("topic~=|(|", "position 7"),
        ("topic==a b", "position 9: expected ,"),
        ("topic==/tasks/exit", "position 7: a value that begins with / must stand in double quotes"),
        ("", "position 0: it is empty"),
    ],
)
def test_filter_that_is_not_understood_says_where(text: str, told: str) -> None:
    """A filter never passes in silence, and the message points into it."""
    with pytest.raises(InvalidArgument, match=r"position") as caught:
        read([text])
    assert told in caught.value.message


@given(st.text(alphabet='typeoc.=~!|/",- ', max_size=12))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    """Nothing that somebody types makes the command fail in another way."""
    try:
        passes = read([text])
    except InvalidArgument:
        return
    for one in EVENTS.values():
        passes(one)
