"""Ready-made values for the agent's unit tests."""

from __future__ import annotations

from typing import Any

from hythe.identifiers import new_id
from hythe.ports.snapshots import Mount
from hythe.process import ProcessIdentity
from hythe_runtime.agent.entries import Asked, Created, Ended, Prepared, Removing, Started, StepEntry
from hythe_runtime.agent.model import Bundle, Epoch, Exit, Intent

AT = "2026-11-23T20:15:00.000000Z"
CONMON = ProcessIdentity(4711, 12345, "0b00c1f0-0000-4000-8000-000000000000")
BUNDLE = Bundle("/b/1", "/b/1/rootfs", (Mount("overlay", "overlay", "", ("lowerdir=/a:/b",)),), ("true",), "SIGINT")


def intent(container_id: str = "", **changes: Any) -> Intent:
    """Return an intent; `changes` replace its fields."""
    container_id = container_id or new_id()
    values: dict[str, Any] = {
        "id": container_id,
        "namespace": "default",
        "name": "web",
        "reference": "docker.io/library/busybox:latest",
        "digest": "",
        "spec": {"args": ["true"], "labels": {"a": "b"}},
        "plain_http": False,
        "epoch": Epoch(1, 3),
        "request_id": container_id,
        "trace_id": "f" * 32,
        "created_at": AT,
    }
    return Intent(**{**values, **changes})


def life(asked: Intent) -> list[StepEntry]:
    """Return the steps of a container from its intent to the beginning of its removal."""
    return [
        Asked(asked),
        Prepared(asked.id, BUNDLE),
        Created(asked.id, AT, "", CONMON, 42),
        Started(asked.id, AT, ""),
        Ended(asked.id, AT, "", Exit(7)),
        Removing(asked.id, AT, ""),
    ]
