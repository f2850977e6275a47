"""The two streams of a stack: events, which matter, and spans, which may be lost."""

from __future__ import annotations

from dataclasses import dataclass

from hythe import subjects
from hythe.client.jetstream import ensure_stream
from hythe.client.sync_bus import SyncBus
from hythe.settings import Settings
from hythe.stack.nats_config import ASYNC_PERSIST_SINCE, SPANS_BYTES

_SECOND_NS = 1_000_000_000
SPANS_AGE_NS = 24 * 3600 * _SECOND_NS


@dataclass(frozen=True, slots=True)
class Limits:
    """How long events are kept: `age_s` seconds, for ever with 0, and no more than `size_bytes` of them."""

    age_s: int = 7 * 24 * 3600
    size_bytes: int = 512 << 20


DEFAULT = Limits()


def limits_of(settings: Settings) -> Limits:
    """Return the limits that the settings give."""
    return Limits(settings.events_age_s, settings.events_bytes)


def wanted(version: tuple[int, ...], limits: Limits = DEFAULT) -> list[dict[str, object]]:
    """Return the configurations of both streams for a server of `version`; ages are in nanoseconds."""
    common: dict[str, object] = {
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "num_replicas": 1,
        "max_msgs": -1,
        "max_consumers": -1,
    }
    events = {
        **common,
        "name": subjects.EVENT_STREAM,
        "subjects": [subjects.ALL_EVENTS],
        "max_age": limits.age_s * _SECOND_NS,
        "max_bytes": limits.size_bytes,
    }
    spans = {
        **common,
        "name": subjects.SPAN_STREAM,
        "subjects": [subjects.ALL_SPANS],
        "max_age": SPANS_AGE_NS,
        "max_bytes": SPANS_BYTES,
    }
    if version >= ASYNC_PERSIST_SINCE:
        spans["persist_mode"] = "async"
    return [events, spans]


def ensure_streams(bus: SyncBus, limits: Limits = DEFAULT) -> list[str]:
    """Make or update both streams and return a warning for each option that the server did not take.

    Raises:
        ResourceExhausted: the server has no room for them.
    """
    warnings = []
    for config in wanted(parse_version(bus.server_version), limits):
        present = ensure_stream(bus, config)
        lost = sorted(key for key, value in config.items() if present.get(key) != value)
        if lost:
            warnings.append(f"stream {config['name']}: this nats-server ignores {', '.join(lost)}")
    return warnings


def parse_version(text: str) -> tuple[int, ...]:
    """Return the numbers of a version like ``v2.15.1-RC.1`` as far as they go: (2, 15, 1)."""
    numbers: list[int] = []
    for part in text.strip().removeprefix("v").split("-")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
