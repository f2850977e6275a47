"""Looking back: what `ps` said then, what happened since, and who asked for it."""

from __future__ import annotations

import json
import time
from typing import Any

from hythe import events
from scripts.lab.stack import Stack
from tests.fixtures.waiting import eventually

NAMESPACE = "travel"
COMPARED = ("id", "name", "namespace", "host", "image", "command", "status", "exit_code", "reason", "run", "pid",
            "created_at", "started_at", "finished_at", "labels", "claimed")  # fmt: skip
MEMORY_16M = ("-m", "16m", "--memory-swap", "16m", "--shm-size", "128m")
EAT_MEMORY = ("sh", "-c", "cat /dev/zero > /dev/shm/x")


def hythe(stack: Stack, *arguments: str, code: int = 0) -> str:
    """Run a command in this module's namespace and return what it printed."""
    done = stack.hythe("-n", NAMESPACE, *arguments)
    assert done.code == code, done.stderr
    return done.stdout


def rows(stack: Stack, *arguments: str) -> list[dict[str, Any]]:
    """Return containers, by id, as far as events can know them."""
    found = [json.loads(line) for line in hythe(stack, "ps", "-a", "--json", *arguments).splitlines()]
    return sorted(({name: row[name] for name in COMPARED} for row in found), key=lambda row: str(row["id"]))


def stored(stack: Stack, *arguments: str) -> list[dict[str, Any]]:
    """Return stored events."""
    text = hythe(stack, "events", "--from-seq", "1", "--no-follow", "--json", *arguments)
    return [event for event in map(json.loads, text.splitlines()) if "seq" in event]


def test_past_states_are_what_ps_said_then(stack: Stack, busybox: str) -> None:
    """After each step of a busy hour `ps` is noted; later `ps --at` says the same of each of these moments."""
    seen: list[tuple[float, list[dict[str, Any]]]] = []

    def note() -> None:
        eventually(
            lambda: all(row["status"] in ("running", "exited") for row in rows(stack)), what="nothing is on its way"
        )
        seen.append((time.time(), rows(stack)))
        assert rows(stack) == seen[-1][1]

    note()
    try:
        hythe(stack, "run", "-d", "--name", "web", "--label", "app=x", busybox, "sleep", "600")
        note()
        hythe(stack, "run", "--rm", busybox, "true")
        note()
        hythe(stack, "run", "--name", "failed", busybox, "sh", "-c", "exit 3", code=3)
        note()
        hythe(stack, "run", "--name", "hungry", *MEMORY_16M, busybox, *EAT_MEMORY, code=137)
        note()
        hythe(stack, "stop", "-t", "0", "web")
        note()
        hythe(stack, "rm", "web")
        note()
    finally:
        stack.hythe("-n", NAMESPACE, "rm", "-f", "web", "failed", "hungry")
    note()
    assert len({json.dumps(state) for _, state in seen}) > 5
    for moment, state in seen:
        assert rows(stack, "--at", f"{moment:.6f}") == state
    first, last = f"{seen[1][0]:.6f}", f"{seen[-2][0]:.6f}"
    changes = [json.loads(line) for line in hythe(stack, "ps", "--json", "--diff", first, last).splitlines()]
    assert {(change["change"], change["name"]) for change in changes} == {
        ("removed", "web"), ("created", "failed"), ("created", "hungry"),
    }  # fmt: skip
    hungry_row = next(row for row in seen[-2][1] if row["name"] == "hungry")
    assert (hungry_row["exit_code"], hungry_row["reason"]) == (137, "OOMKilled")


def test_every_event_is_by_the_table_and_names_the_user(stack: Stack, busybox: str) -> None:
    """Topics and fields are those of docs/events.md, and the user's key is named although services asked for him."""
    hythe(stack, "run", "-d", "--name", "audited", busybox, "sleep", "600")
    hythe(stack, "rm", "-f", "audited")
    eventually(lambda: stored(stack, "--filter", "container=audited")[-1]["topic"] == "/containers/delete")
    found = stored(stack, "--all-namespaces")
    assert {event["topic"] for event in found} >= {
        "/containers/create",
        "/images/create",
        "/tasks/create",
        "/tasks/exit",
    }
    for event in found:
        kind = events.BY_TOPIC[event["topic"]]
        assert events.faults(event["topic"], event["type"], kind.past, event["attributes"]) == []
    life = {event["topic"]: event for event in stored(stack, "--filter", "container=audited")}
    assert {topic: event["caller"] for topic, event in life.items()} == dict.fromkeys(life, "admin")
    assert all(event["trace_id"] and event["request_id"] for event in life.values())
    assert life["/tasks/exit"]["request_id"] != life["/tasks/create"]["request_id"]
    numbers = [event["number"] for event in stored(stack, "--filter", "container=audited") if event["host"]]
    assert numbers == [1, 2, 3, 4]


def test_memory_that_ran_out_is_told_before_the_end(stack: Stack, busybox: str) -> None:
    """The event of the kill comes before that of the exit."""
    hythe(stack, "run", "--rm", "--name", "greedy", *MEMORY_16M, busybox, *EAT_MEMORY, code=137)

    def topics() -> list[str]:
        return [event["topic"] for event in stored(stack, "--filter", "container=greedy") if event["host"]]

    eventually(lambda: len(topics()) == 5)
    assert topics() == [f"/tasks/{word}" for word in ("create", "start", "oom", "exit", "delete")]
