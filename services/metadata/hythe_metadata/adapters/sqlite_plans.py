"""Carries out plans on the SQLite store, inside the writer's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

from hythe.clock import boottime_ms, now_ns
from hythe.ports.metadata import ContainerRecord, ImageRecord, Origin
from hythe_metadata.adapters import sqlite_rows as rows
from hythe_metadata.changes import Answered, Happening, Moment, repeated
from hythe_metadata.containers import ContainerPlan
from hythe_metadata.images import ImagePlan

ContainerAnswerT = TypeVar("ContainerAnswerT", bound=ContainerRecord | None)
ImageAnswerT = TypeVar("ImageAnswerT", bound=ImageRecord | None)
AnswerT = TypeVar("AnswerT", bound=ContainerRecord | ImageRecord | None)


def apply_container(
    connection: sqlite3.Connection, origin: Origin, plan: ContainerPlan[ContainerAnswerT], moment: Moment
) -> ContainerAnswerT:
    """Write what `plan` says about a container, and return its answer."""
    if plan.put is not None:
        rows.write_container(connection, plan.put, boottime_ms(), now_ns())
    if plan.forget:
        rows.forget_container(connection, plan.forget, now_ns())
    _conclude(connection, origin, moment, plan.happening, changed=plan.put is not None or bool(plan.forget))
    return plan.answer


def apply_image(
    connection: sqlite3.Connection, origin: Origin, plan: ImagePlan[ImageAnswerT], moment: Moment
) -> ImageAnswerT:
    """Write what `plan` says about an image, and return its answer."""
    if plan.put is not None:
        rows.write_image(connection, plan.put)
    if plan.forget:
        rows.forget_image(connection, origin.namespace, plan.forget)
    _conclude(connection, origin, moment, plan.happening, changed=plan.put is not None or bool(plan.forget))
    return plan.answer


def once(
    connection: sqlite3.Connection,
    origin: Origin,
    kind: str,
    body_hash: str,
    decode: Callable[[str], AnswerT],
    change: Callable[[], AnswerT],
) -> AnswerT:
    """Make a change and remember its answer by the request id, or return the answer remembered.

    Raises:
        Conflict: the request id came before with another content.
        HytheError: whatever `change` raises; nothing is remembered then, for nothing was done.
    """
    if not origin.request_id:
        return change()
    result = repeated(rows.read_answered(connection, origin), kind, body_hash)
    if result is not None:
        return decode(result)
    answer = change()
    text = json.dumps(asdict(answer) if answer is not None else None, separators=(",", ":"))
    rows.write_answered(connection, origin, Answered(kind, body_hash, text), now_ns())
    return answer


def _conclude(
    connection: sqlite3.Connection, origin: Origin, moment: Moment, happening: Happening | None, *, changed: bool
) -> None:
    if changed:
        connection.execute("UPDATE store SET revision = ?", (moment.revision,))
    if happening is not None:
        rows.write_happening(connection, origin, happening, moment)
