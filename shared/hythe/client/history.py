"""Containers as they were at a time, from their events alone.

A container has two tracks of events, each in the order of its numbers: its record's, by metadata, and its task's, by the
agent of its host. Of each track those count whose time is not after the time asked for; where a clock was set back in
between, an event counts as late as the one before it. Events of different tracks are never put in an order by their
times, so clocks of hosts that differ a little do no harm: what is seen of a host is right by the clock of that host.

A container is there from the beginning of its record to that of its removal. What the stream has lost is not made up: of
a track that begins with a later number than 1 the state before its first event is ``unknown``.
"""

from __future__ import annotations

from hythe.clock import ns_of
from hythe.events import gathered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Body = Mapping[str, Any]
    Row = dict[str, Any]

COMPARED = ("name", "image", "host", "status", "exit_code", "run")
UNKNOWN = "unknown"
_STATUS = {"/tasks/create": "created", "/tasks/start": "running", "/tasks/exit": "exited", "/tasks/delete": "removed"}
_ABSENT, _PRESENT, _GONE = "", "present", "removed"
_RECORD = {"/containers/create": _PRESENT, "/containers/update": _PRESENT, "/containers/delete": _GONE}


class _Track:
    """One publisher's events of one container up to a time.

    Attributes:
        state: what the latest event that counts says; ``unknown`` where only later ones are known, but not the first.
        complete: its first event is known.
        facts: what its events said, by field of a row.
        counted_ns: when the latest event that counts happened.
    """

    __slots__ = ("complete", "counted_ns", "facts", "latest_ns", "over", "state")

    def __init__(self) -> None:
        self.state = _ABSENT
        self.complete = True
        self.facts: Row = {}
        self.latest_ns = self.counted_ns = 0
        self.over = False

    def take(self, body: Body, at_ns: int, *, first: bool) -> None:
        if first and body["number"] > 1:
            self.complete = False
            self.state = UNKNOWN
            self.facts.update(_about(body))
        self.latest_ns = max(self.latest_ns, _time_ns(body))
        self.over = self.over or self.latest_ns > at_ns
        if not self.over:
            self.counted_ns = self.latest_ns
            self.state = _STATUS.get(body["topic"]) or _RECORD.get(body["topic"]) or self.state
            self.facts.update(_about(body))
            self.facts.update(_happened(body))


class History:
    """The state of all containers at one time; `take` wants their events in the order of the stream, each once."""

    def __init__(self, at_s: float, *, begins_s: float = 0.0) -> None:
        """Begin without containers.

        Args:
            at_s: the time, in seconds since 1970.
            begins_s: up to this time events may have been lost; 0 for a stream that has its beginning.
        """
        self.at_s = at_s
        self._at_ns = round(at_s * 1_000_000) * 1000  # to the microsecond, as events have their times
        self.begins_s = begins_s
        self._records: dict[tuple[str, str], _Track] = {}
        self._tasks: dict[tuple[str, str], _Track] = {}

    def take(self, body: Body) -> None:
        """Take the next event; those that tell nothing of containers are passed over."""
        topic = body["topic"]
        tracks = self._records if topic in _RECORD else self._tasks if topic in _STATUS else None
        if tracks is None:
            return
        key = body["namespace"], body["object_id"]
        track = tracks.get(key)
        first = track is None
        if track is None:
            track = tracks[key] = _Track()
        track.take(body, self._at_ns, first=first)

    def containers(self) -> list[Row]:
        """Return the containers that were there, the newest first; fields as `hythe ps` has them.

        `complete` is False where the stream has lost what came first; what it does not tell is None or empty then.
        """
        rows = []
        for key in {**self._records, **self._tasks}:
            record, task = self._records.get(key, _Track()), self._tasks.get(key, _Track())
            if _is_there(record.state, task.state):
                rows.append(self._row(key, record, task))
        return sorted(rows, key=lambda row: str(row["created_at"]), reverse=True)

    def _row(self, key: tuple[str, str], record: _Track, task: _Track) -> Row:
        facts = {**task.facts, **record.facts}
        whole = not self.begins_s
        begun = record.state == _PRESENT and (whole or record.counted_ns > self.begins_s * 1e9)
        status = task.state or ("creating" if begun else UNKNOWN)
        return {
            "id": key[1],
            "name": facts.get("name", ""),
            "namespace": key[0],
            "host": facts.get("host") or task.facts.get("host", ""),
            "image": facts.get("image") or task.facts.get("image", ""),
            "image_digest": "",
            "command": task.facts.get("command", []),
            "status": status,
            "desired": "",
            "pid": task.facts.get("pid") if status in ("created", "running") else None,
            "exit_code": task.facts.get("exit_code"),
            "reason": task.facts.get("reason", ""),
            "run": task.facts.get("run", 0),
            "created_at": record.facts.get("recorded_at") or task.facts.get("created_at", ""),
            "started_at": task.facts.get("started_at", ""),
            "finished_at": task.facts.get("finished_at", ""),
            "auto_remove": None,
            "labels": task.facts.get("labels") or record.facts.get("labels") or {},
            "claimed": record.state in (_PRESENT, UNKNOWN) or (record.state == _ABSENT and not whole),
            "stale": False,
            "complete": record.complete and task.complete and status != UNKNOWN and (whole or record.state != _ABSENT),
        }


def _time_ns(body: Body) -> int:
    """Return when an event happened; one whose time cannot be read counts as happening with the one before it."""
    try:
        return ns_of(body["time"])
    except (ValueError, OverflowError):
        return 0


def _is_there(record: str, task: str) -> bool:
    """Tell whether a container is listed: its host has it, or a record does and its host has not removed it."""
    return task not in (_ABSENT, _GONE) or (record in (_PRESENT, UNKNOWN) and task != _GONE)


def _about(body: Body) -> Row:
    """Return what an event says of the container itself, whenever that was decided."""
    attributes = body["attributes"]
    found = {name: attributes[name] for name in ("name", "image", "host") if attributes.get(name)}
    if body["host"]:
        found["host"] = body["host"]
    labels = gathered(attributes, "labels")
    return {**found, **({"labels": labels} if labels else {})}


def _happened(body: Body) -> Row:
    """Return what an event says has happened."""
    topic, attributes = body["topic"], body["attributes"]
    if topic == "/containers/create":
        return {"recorded_at": body["time"]}
    if topic == "/tasks/create":
        command = gathered(attributes, "command")
        words = [command[index] for index in sorted(command, key=int) if index.isdigit()]
        return {"created_at": body["time"], "pid": _number(attributes, "pid"), "run": body["run"], "command": words}
    if topic == "/tasks/start":
        return {"started_at": body["time"], "pid": _number(attributes, "pid"), "run": body["run"]}
    if topic == "/tasks/exit":
        return {
            "finished_at": attributes.get("exited_at", ""),
            "exit_code": _number(attributes, "exit_status"),
            "reason": attributes.get("reason", ""),
            "run": body["run"],
        }
    return {}


def _number(attributes: Mapping[str, str], name: str) -> int | None:
    text = attributes.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None


class Change:
    """What became of one container between two times.

    Attributes:
        kind: ``created``, ``removed`` or ``changed``.
        before, after: its rows; None where it was not there.
        fields: the names of what changed.
    """

    __slots__ = ("after", "before", "fields", "kind")

    def __init__(self, before: Row | None, after: Row | None) -> None:
        self.before = before
        self.after = after
        self.kind = "created" if before is None else "removed" if after is None else "changed"
        self.fields = [name for name in COMPARED if before and after and before[name] != after[name]]


def changes(before: Sequence[Row], after: Sequence[Row]) -> list[Change]:
    """Return what is different in `after`: containers removed, changed and created, each in the order of its list."""
    earlier = {(row["namespace"], row["id"]): row for row in before}
    later = {(row["namespace"], row["id"]): row for row in after}
    found = [Change(row, later.get(key)) for key, row in earlier.items()]
    found += [Change(None, row) for key, row in later.items() if key not in earlier]
    return [change for change in found if change.kind != "changed" or change.fields]
