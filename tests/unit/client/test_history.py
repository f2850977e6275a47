"""Containers as they were, from their events alone, against a model that lived through the same history."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.client.history import UNKNOWN, History, changes
from hythe.clock import ns_of, rfc3339_of

Body = dict[str, Any]
Row = dict[str, Any]
FIELDS = (
    "id",
    "name",
    "image",
    "host",
    "status",
    "exit_code",
    "created_at",
    "started_at",
    "finished_at",
    "claimed",
)
START_S = 1_795_000_000
HOSTS = ("h1", "h2")


def at(moment: int) -> str:
    """Return a moment of the model, in milliseconds after its beginning, as events have it."""
    return rfc3339_of(START_S * 1_000_000_000 + moment * 1_000_000)


def seconds(moment: int) -> float:
    """Return the same in seconds since 1970."""
    return START_S + moment / 1000


@dataclass
class World:
    """A cluster that does things at moments, publishes events of them, and remembers what `ps` would have said.

    Attributes:
        record_events, task_events: in the order of their publishers: metadata, and the agent of each host.
        moments, seen: what `ps` said from each moment on.
    """

    now: int = 0
    rows: dict[str, Row] = field(default_factory=dict)
    record_events: list[Body] = field(default_factory=list)
    task_events: dict[str, list[Body]] = field(default_factory=lambda: {host: [] for host in HOSTS})
    moments: list[int] = field(default_factory=lambda: [-1])
    seen: list[list[Row]] = field(default_factory=lambda: [[]])
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    born: int = 0

    def step(self, wish: int, pause: int) -> None:
        """Do one thing that is possible now, after a pause; `wish` chooses it."""
        self.now += pause
        if wish % 5 == 0 or not self.rows:
            self._create(HOSTS[wish % 2])
        else:
            row = sorted(self.rows.values(), key=lambda r: str(r["id"]))[wish % len(self.rows)]
            self._go_on(row, wish)
        self.moments.append(self.now)
        self.seen.append([{name: row[name] for name in FIELDS} for row in self.rows.values()])

    def _create(self, host: str) -> None:
        self.born += 1
        row: Row = {
            "id": f"c{self.born:03}",
            "name": f"web-{self.born}",
            "image": f"image-{self.born % 3}",
            "host": host,
        }
        row |= {"status": "creating", "exit_code": None, "created_at": at(self.now), "claimed": True}
        row |= {"started_at": "", "finished_at": ""}
        self.rows[row["id"]] = row
        about = {"id": row["id"], "name": row["name"], "image": row["image"], "host": host}
        self._record(row, "/containers/create", about)

    def _go_on(self, row: Row, wish: int) -> None:
        status = row["status"]
        if status == "creating" and wish % 7:
            row["status"] = "created"
            self._task(row, "/tasks/create", pid="7")
        elif status == "creating":
            self._record(row, "/containers/delete", {"id": row["id"], "name": row["name"]})
            del self.rows[row["id"]]
        elif status == "created" and wish % 7:
            row |= {"status": "running", "started_at": at(self.now)}
            self._task(row, "/tasks/start", pid="7")
        elif status in ("created", "running"):
            code = None if wish % 11 == 0 else wish % 256
            row |= {"status": "exited", "finished_at": at(self.now), "exit_code": code}
            self._task(row, "/tasks/exit", exit_status="" if code is None else str(code), exited_at=at(self.now))
        elif not row["claimed"] or wish % 3:
            self._task(row, "/tasks/delete", exit_status="0")
            if row["claimed"]:
                self._record(row, "/containers/delete", {"id": row["id"], "name": row["name"]})
            del self.rows[row["id"]]
        else:
            row["claimed"] = False
            self._record(row, "/containers/delete", {"id": row["id"], "name": row["name"]})

    def _record(self, row: Row, topic: str, attributes: dict[str, str]) -> None:
        self.record_events.append(self._event(row["id"], "", topic, attributes))

    def _task(self, row: Row, topic: str, **fields: str) -> None:
        attributes = {"container_id": row["id"], "name": row["name"], "image": row["image"], **fields}
        self.task_events[row["host"]].append(self._event(row["id"], row["host"], topic, attributes))

    def _event(self, container: str, host: str, topic: str, attributes: dict[str, str]) -> Body:
        number = self.numbers[container, host] = self.numbers.get((container, host), 0) + 1
        return {"topic": topic, "namespace": "default", "host": host, "object_id": container, "number": number,
                "run": 1 if host else 0, "time": at(self.now), "attributes": attributes}  # fmt: skip

    def ps(self, moment: int) -> list[Row]:
        """Return what `ps` said at a moment."""
        return self.seen[max(0, bisect.bisect_right(self.moments, moment) - 1)]

    def stream(self, order: Sequence[int]) -> list[Body]:
        """Return all events as the stream got them: each publisher's in order, and `order` says who comes next."""
        queues = [list(self.record_events), *(list(self.task_events[host]) for host in HOSTS)]
        found = []
        for choice in order:
            queue = queues[choice % len(queues)]
            if queue:
                found.append(queue.pop(0))
        return found + [body for queue in queues for body in queue]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[World, list[Body]]:
    """A world that has done some things, and its stream."""
    world = World()
    for wish, pause in draw(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 50)), max_size=40)):
        world.step(wish, pause)
    return world, world.stream(draw(st.lists(st.integers(0, 2), max_size=80)))


def rows_at(moment_s: float, stream: Sequence[Body], begins_s: float = 0.0) -> list[Row]:
    """Return what the history says of a time."""
    history = History(moment_s, begins_s=begins_s)
    for body in stream:
        history.take(body)
    return history.containers()


def by_id(rows: Sequence[Row]) -> dict[str, Row]:
    """Return the fields that the model has, by id."""
    return {row["id"]: {name: row[name] for name in FIELDS} for row in rows}


@given(worlds())
def test_history_says_what_ps_said_at_every_moment(made: tuple[World, list[Body]]) -> None:
    """Before, at and after every single thing that happened, the events tell what `ps` told then."""
    world, stream = made
    for moment in {
        0,
        *world.moments,
        *(moment + 1 for moment in world.moments),
        *(moment - 1 for moment in world.moments),
    }:
        assert by_id(rows_at(seconds(moment), stream)) == by_id(world.ps(moment))


@given(worlds(), st.lists(st.integers(-3000, 3000), min_size=3, max_size=3))
def test_hosts_whose_clocks_differ_are_each_seen_by_their_own(
    made: tuple[World, list[Body]], offsets: list[int]
) -> None:
    """What is said of a host is what it was by its own clock; no event is lost or invented because clocks disagree."""
    world, stream = made
    shift = dict(zip(("", *HOSTS), offsets, strict=True))
    shifted = [{**body, "time": _moved(body["time"], shift[body["host"]])} for body in stream]
    for moment in world.moments:
        found = by_id(rows_at(seconds(moment), shifted))
        for host in HOSTS:
            then = {i: r for i, r in by_id(world.ps(moment - shift[host])).items() if r["host"] == host}
            for container, row in then.items():
                if row["status"] in ("created", "running", "exited"):
                    assert found[container]["status"] == row["status"]
                    assert found[container]["exit_code"] == row["exit_code"]
    late = rows_at(seconds(world.now + 10_000), shifted)
    assert {row["id"]: row["status"] for row in late} == {i: row["status"] for i, row in world.rows.items()}


def _moved(time: str, by: int) -> str:
    return rfc3339_of(ns_of(time) + by * 1_000_000)


@given(worlds(), st.integers(0, 80))
def test_stream_without_its_beginning_invents_nothing(made: tuple[World, list[Body]], dropped: int) -> None:
    """Where the first events are gone, what is told is right or marked as unknown, and nothing is said to be gone."""
    world, stream = made
    kept, lost = stream[dropped:], stream[:dropped]
    begins = max((world_moment(body) for body in lost), default=0)
    for moment in (m for m in world.moments if m >= begins):
        truth = by_id(world.ps(moment))
        for row in rows_at(seconds(moment), kept, seconds(begins) if lost else 0.0):
            if row["complete"]:
                assert {name: row[name] for name in FIELDS} == truth[row["id"]]
            elif row["status"] != UNKNOWN:
                assert row["status"] == truth[row["id"]]["status"]
                known = [
                    name for name in ("name", "image", "host", "exit_code", "started_at", "finished_at") if row[name]
                ]
                assert all(row[name] == truth[row["id"]][name] for name in known)
        told = {body["object_id"] for body in kept if body["host"]}
        listed = {row["id"] for row in rows_at(seconds(moment), kept, seconds(begins) if lost else 0.0)}
        begun = {container for container, row in truth.items() if row["status"] != "creating"}
        assert begun & told <= listed, "of what a host has made and later speaks of, nothing is left out"


def world_moment(body: Body) -> int:
    """Return when an event of the model happened."""
    return (ns_of(body["time"]) - START_S * 1_000_000_000) // 1_000_000


@given(worlds(), st.integers(0, 2000), st.integers(0, 2000))
def test_difference_leads_from_one_state_to_the_other(made: tuple[World, list[Body]], first: int, second: int) -> None:
    """Taking away what was removed, adding what was created and changing what changed gives the later state."""
    _, stream = made
    before, after = rows_at(seconds(first), stream), rows_at(seconds(second), stream)
    state = by_id(before)
    for change in changes(before, after):
        row = change.after or change.before
        assert row is not None
        if change.kind == "removed":
            del state[row["id"]]
        else:
            assert (row["id"] in state) is (change.kind == "changed")
            assert change.kind == "created" or change.fields
            state[row["id"]] = by_id([row])[row["id"]]
    compared = ("name", "image", "host", "status", "exit_code")
    wanted = by_id(after)
    assert {i: [r[n] for n in compared] for i, r in state.items()} == {
        i: [r[n] for n in compared] for i, r in wanted.items()
    }
    assert changes(before, before) == []


def test_command_labels_and_reason_are_told() -> None:
    """All that a row can know from events is in it."""
    world = World()
    world.step(0, 1)
    (created,) = world.record_events
    task = world._event("c001", "h1", "/tasks/create", {"name": "web-1", "pid": "7", "labels.app": "x", "command.1": "1",
                                                        "command.0": "sleep", "command.10": "z"})  # fmt: skip
    ended = world._event("c001", "h1", "/tasks/exit", {"exit_status": "137", "exited_at": "T", "reason": "OOMKilled"})
    (row,) = rows_at(seconds(5), [created, task])
    assert (row["command"], row["labels"], row["pid"], row["run"]) == (["sleep", "1", "z"], {"app": "x"}, 7, 1)
    (row,) = rows_at(seconds(5), [created, task, ended])
    assert (row["pid"], row["exit_code"], row["reason"], row["finished_at"]) == (None, 137, "OOMKilled", "T")


@pytest.mark.parametrize("time", ["", "yesterday", "2026-13-01T00:00:00Z", "9" * 400])
def test_time_that_cannot_be_read_counts_as_the_one_before(time: str) -> None:
    """A broken event neither stops the command nor hides the container."""
    world = World()
    world.step(0, 5)
    world.step(1, 5)
    broken = [{**body, "time": time} if body["host"] else body for body in world.stream([])]
    assert [row["status"] for row in rows_at(seconds(10), broken)] == [row["status"] for row in world.ps(10)]
