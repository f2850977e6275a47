"""The events that a container's steps make: create < start < oom < exit < delete, with containerd's topics and fields.

An end is told once, and only of a container whose creation was told; so is its removal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hythe.events import spread
from hythe_runtime.agent.entries import Created, Ended, Removing, Started, StepEntry
from hythe_runtime.agent.model import Event, Exit, Order, Record
from hythe_runtime.agent.signals import ENDING


@dataclass(frozen=True, slots=True)
class _Told:
    """What is told of a step: the topic with its subject's last token, and the fields."""

    topic: str
    past: str
    fields: dict[str, Any]


def events_of(entry: StepEntry, record: Record) -> tuple[Event, ...]:
    """Return the events that a step makes; `record` is the container after it, with the number of the event before it."""
    told = _told(entry, record)
    if not told:
        return ()
    assert isinstance(entry, Created | Started | Ended | Removing)  # the steps of which something is told
    caller, request_id = _asked_by(entry, record)
    about = {"name": record.intent.name, "image": record.intent.reference, "labels": record.intent.labels}
    return tuple(
        Event(
            container_id=record.id,
            namespace=record.intent.namespace,
            number=record.number + index,
            run=record.run,
            topic=one.topic,
            past=one.past,
            time=entry.at,
            request_id=request_id,
            trace_id=entry.trace_id,
            attributes=_texts({"container_id": record.id, **one.fields, **about}),
            caller="" if one.topic == "/tasks/oom" else caller,
        )
        for index, one in enumerate(told, 1)
    )


def _told(entry: StepEntry, record: Record) -> list[_Told]:
    if isinstance(entry, Created):
        return [_Told("/tasks/create", "created", _creation(entry, record))]
    if isinstance(entry, Started):
        return [_Told("/tasks/start", "started", {"pid": record.pid})]
    if isinstance(entry, Ended):
        killed = [_Told("/tasks/oom", "oomed", {})] if entry.oom_kills else []
        return [*killed, _Told("/tasks/exit", "exited", _ending(record))]
    if isinstance(entry, Removing) and record.number:
        return [_Told("/tasks/delete", "deleted", _ending(record))]
    return []


def _creation(entry: Created, record: Record) -> dict[str, Any]:
    """Return what containerd tells of a task that was made; output goes to a log file, and no container has a terminal yet."""
    bundle = record.bundle
    mounts = bundle.mounts if bundle else ()
    return {
        "bundle": bundle.path if bundle else "",
        "rootfs": [
            {"type": m.type, "source": m.source, "target": m.target, "options": ",".join(m.options)} for m in mounts
        ],
        "io": {"stdin": entry.stdin, "stdout": entry.log, "stderr": entry.log, "terminal": False},
        "checkpoint": "",
        "pid": record.pid,
        "command": list(bundle.args if bundle else record.intent.spec.get("args") or ()),
    }


def _ending(record: Record) -> dict[str, Any]:
    code = record.exit.code if record.exit else None
    return {
        "id": record.id,
        "pid": record.pid,
        "exit_status": "" if code is None else code,
        "exited_at": record.finished_at,
        **({"reason": record.reason} if record.reason else {}),
    }


def _asked_by(entry: StepEntry, record: Record) -> tuple[str, str]:
    """Return the key that asked for a step, empty where nobody did, and the request that it belongs to."""
    intent, order = record.intent, record.order
    if isinstance(entry, Ended):
        if order is not None and ends(order, entry.exit):
            return order.caller, order.request_id or intent.request_id
        return "", intent.request_id
    if isinstance(entry, Removing) and order is not None and (order.verb == "remove" or not record.started_at):
        return order.caller, order.request_id or intent.request_id
    return intent.caller, intent.request_id


def ends(order: Order, exit: Exit) -> bool:
    """Tell whether `order` is why a container ended: any stop and removal, a signal that ends it or did."""
    return order.verb != "kill" or order.signal in ENDING or exit.code == 128 + order.signal


def _texts(fields: dict[str, Any]) -> dict[str, str]:
    return {name: text for field, value in fields.items() for name, text in spread(field, value).items()}
