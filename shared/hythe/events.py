"""Every event of Hythe: its topic, where its subject has it, what it carries, and who publishes it. docs/events.md shows it.

Attributes are text. A field that holds other fields, as a map or a list does, is spread over attributes joined by dots:
``labels.app``, ``io.terminal``, ``rootfs.0.type``.

Spec: containerd, ``api/events``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

AGENT, METADATA, DISTRIBUTION, BUNDLE = "agent", "metadata", "distribution", "bundle"


class EventKind:
    """One kind of event.

    Attributes:
        topic: containerd's.
        noun, past: tokens of its subject.
        fields: containerd's fields, all of them there; ``x.*`` stands for what a map or list holds, which may be nothing.
        additional: Hythe's own fields; each may be missing.
        publisher: the service that publishes it; empty while none does.
    """

    __slots__ = ("additional", "fields", "noun", "past", "publisher", "topic")

    def __init__(
        self, topic: str, noun: str, past: str, fields: str, additional: str = "", *, publisher: str = ""
    ) -> None:
        self.topic = topic
        self.noun = noun
        self.past = past
        self.fields = tuple(fields.split())
        self.additional = tuple(additional.split())
        self.publisher = publisher


_TASK = "name image labels.*"
_ENDED = "container_id id pid exit_status exited_at"

EVENTS: tuple[EventKind, ...] = (
    EventKind(
        "/containers/create", "container", "created", "id image runtime.*", "name host labels.*", publisher=METADATA
    ),
    EventKind(
        "/containers/update", "container", "updated", "id image labels.* snapshot_key", "name host", publisher=METADATA
    ),
    EventKind("/containers/delete", "container", "deleted", "id", "name image host labels.*", publisher=METADATA),
    EventKind("/images/create", "image", "created", "name labels.*", "digest", publisher=METADATA),
    EventKind("/images/update", "image", "updated", "name labels.*", "digest", publisher=METADATA),
    EventKind("/images/delete", "image", "deleted", "name", "digest labels.*", publisher=METADATA),
    EventKind("/namespaces/create", "namespace", "created", "name labels.*", publisher=METADATA),
    EventKind("/namespaces/update", "namespace", "updated", "name labels.*", publisher=METADATA),
    EventKind("/namespaces/delete", "namespace", "deleted", "name", "labels.*", publisher=METADATA),
    EventKind("/content/create", "content", "created", "digest size", publisher=DISTRIBUTION),
    EventKind("/content/delete", "content", "deleted", "digest", "size", publisher=DISTRIBUTION),
    EventKind("/snapshot/prepare", "snapshot", "prepared", "key parent snapshotter", publisher=BUNDLE),
    EventKind("/snapshot/commit", "snapshot", "committed", "key name snapshotter", publisher=BUNDLE),
    EventKind("/snapshot/remove", "snapshot", "removed", "key snapshotter", publisher=BUNDLE),
    EventKind(
        "/tasks/create",
        "container",
        "created",
        "container_id bundle rootfs.* io.stdin io.stdout io.stderr io.terminal checkpoint pid",
        f"{_TASK} command.*",
        publisher=AGENT,
    ),
    EventKind("/tasks/start", "container", "started", "container_id pid", _TASK, publisher=AGENT),
    EventKind("/tasks/oom", "container", "oomed", "container_id", _TASK, publisher=AGENT),
    EventKind("/tasks/exit", "container", "exited", _ENDED, f"{_TASK} reason", publisher=AGENT),
    EventKind("/tasks/delete", "container", "deleted", _ENDED, f"{_TASK} reason", publisher=AGENT),
    EventKind("/tasks/exec-added", "container", "exec-added", "container_id exec_id", _TASK),
    EventKind("/tasks/exec-started", "container", "exec-started", "container_id exec_id pid", _TASK),
    EventKind("/tasks/paused", "container", "paused", "container_id", _TASK),
    EventKind("/tasks/resumed", "container", "resumed", "container_id", _TASK),
    EventKind("/tasks/checkpointed", "container", "checkpointed", "container_id checkpoint", _TASK),
)

BY_TOPIC: Mapping[str, EventKind] = {kind.topic: kind for kind in EVENTS}
NOUNS: tuple[str, ...] = tuple(dict.fromkeys(kind.noun for kind in EVENTS))


def faults(topic: str, noun: str, past: str, attributes: Iterable[str]) -> list[str]:
    """Return what is wrong with an event by the table: its topic, its subject, a field that is missing or unknown."""
    kind = BY_TOPIC.get(topic)
    if kind is None:
        return [f"there is no topic {topic!r}"]
    if not kind.publisher:
        return [f"{topic}: not published yet, says the table"]
    found = []
    if (noun, past) != (kind.noun, kind.past):
        found.append(f"{topic}: its subject ends with {noun}.….{past}, not {kind.noun}.….{kind.past}")
    names = set(attributes)
    known = (*kind.fields, *kind.additional)
    found += [
        f"{topic}: {field} is missing" for field in kind.fields if not field.endswith(".*") and field not in names
    ]
    found += [f"{topic}: there is no field {name}" for name in sorted(names) if not _is_one_of(name, known)]
    return found


def _is_one_of(name: str, known: tuple[str, ...]) -> bool:
    return any(name.startswith(field[:-1]) if field.endswith(".*") else name == field for field in known)


def spread(name: str, value: object) -> dict[str, str]:
    """Return a field as attributes: text as it is, other plain values as JSON spells them, what maps and lists hold by dots."""
    if isinstance(value, list | tuple):
        value = {str(index): item for index, item in enumerate(value)}
    if isinstance(value, dict):
        return {key: text for inner, item in value.items() for key, text in spread(f"{name}.{inner}", item).items()}
    if isinstance(value, bool):
        return {name: "true" if value else "false"}
    return {name: str(value)}


def gathered(attributes: Mapping[str, str], name: str) -> dict[str, str]:
    """Return what the map `name` holds, by key."""
    start = f"{name}."
    return {key[len(start) :]: value for key, value in attributes.items() if key.startswith(start)}
