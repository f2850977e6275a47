"""The payload of an event on ``hythe.v1.event.…`` (JetStream stream `hythe.subjects.EVENT_STREAM`)."""

from __future__ import annotations

from hythe.wire.base import Reply


class Event(Reply):
    """Something that happened, published by whoever did it.

    `number` counts the events of one object (container: across its runs), starting at 1, without gaps. `topic` is
    containerd's topic, e.g. ``/tasks/exit``. `attributes` are containerd's payload fields as text.
    """

    topic: str
    namespace: str
    host: str
    object_id: str
    number: int
    run: int = 0
    time: str
    caller: str = ""
    request_id: str = ""
    trace_id: str = ""
    attributes: dict[str, str] = {}
