"""A service's log for people: what its JSON lines say, and what to do about the last of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def readable(lines: Sequence[str]) -> tuple[list[str], str]:
    """Return the messages of log lines, lines that are no record as they stand, and the advice of the last that has one."""
    shown, advice = [], ""
    for line in lines:
        record = _record(line)
        shown.append(line if record is None else f"{record.get('level', '')}: {record['message']}")
        advice = advice if record is None else str(record.get("next_step") or advice)
    return shown, advice


def _record(line: str) -> dict[str, Any] | None:
    """Return the record that a line is; None if it is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("message"), str) else None
