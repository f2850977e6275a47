"""`hythe events` and `hythe ps --at` as processes, on a stream that tests fill."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from typing import Any

import pytest

from hythe import subjects
from hythe.clock import rfc3339_of
from hythe.stack.streams import Limits, ensure_streams
from tests.fixtures.secured_bus import HOST
from tests.integration.cli.conftest import Desk

ID = "c0ffee00" * 4
NAMES = {"/tasks/create": "created", "/tasks/start": "started", "/tasks/exit": "exited", "/tasks/delete": "deleted"}


class Story:
    """Publishes events as an agent and as metadata do, each with a time of its own choice."""

    def __init__(self, desk: Desk) -> None:
        self._agent = desk.bus.sync("agent")
        self._metadata = desk.bus.sync("metadata")
        self._numbers: dict[tuple[str, str], int] = {}

    def task(self, word: str, at_s: float, container: str = ID, namespace: str = "default", **attributes: str) -> None:
        """Something happens to a task."""
        topic = f"/tasks/{word}"
        about = {"container_id": container, "name": f"n-{container[:4]}", "image": "docker.io/library/busybox:latest"}
        self._publish(self._agent, HOST, topic, NAMES[topic], at_s, container, namespace, {**about, **attributes})

    def record(self, word: str, at_s: float, container: str = ID, namespace: str = "default") -> None:
        """A record is made or removed."""
        about = {
            "id": container,
            "name": f"n-{container[:4]}",
            "image": "docker.io/library/busybox:latest",
            "host": HOST,
        }
        self._publish(self._metadata, "", f"/containers/{word}", f"{word}d", at_s, container, namespace, about)

    def _publish(
        self,
        bus: Any,
        host: str,
        topic: str,
        past: str,
        at_s: float,
        container: str,
        namespace: str,
        about: dict[str, str],
    ) -> None:
        number = self._numbers[container, host] = self._numbers.get((container, host), 0) + 1
        body = {"topic": topic, "namespace": namespace, "host": host, "object_id": container, "number": number,
                "run": 1, "time": rfc3339_of(round(at_s * 1e6) * 1000), "caller": "alice", "request_id": "r-1",
                "trace_id": "t-1", "attributes": about}  # fmt: skip
        subject = subjects.event(namespace, host, "container", container, past)
        assert b'"seq"' in bus.request(subject, json.dumps(body).encode()).data

    def life(self, container: str = ID, begins_s: float = 1_795_000_000.0, namespace: str = "default") -> None:
        """A whole life: created, started after 1 s, ended after 2 s, removed after 3 s."""
        self.record("create", begins_s, container, namespace)
        self.task("create", begins_s + 0.5, container, namespace, pid="7")
        self.task("start", begins_s + 1, container, namespace, pid="7")
        self.task("exit", begins_s + 2, container, namespace, exit_status="3", exited_at="T")
        self.task("delete", begins_s + 3, container, namespace, exit_status="3")
        self.record("delete", begins_s + 3.5, container, namespace)


@pytest.fixture
def story(desk: Desk) -> Story:
    """The publishers."""
    return Story(desk)


def lines(text: str) -> list[dict[str, Any]]:
    """Return the objects of JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


async def next_lines(process: subprocess.Popen[bytes], count: int) -> list[dict[str, Any]]:
    """Return the next objects that a command prints."""
    assert process.stdout is not None
    return [json.loads(await asyncio.to_thread(process.stdout.readline)) for _ in range(count)]


async def test_reading_goes_on_behind_a_remembered_sequence(desk: Desk, story: Story) -> None:
    """Each event has its sequence, and `--from-seq` begins with exactly that one."""
    story.life()
    code, out, _ = await desk.run("events", "--from-seq", "1", "--no-follow", "--json")
    assert (code, [row["seq"] for row in lines(out)]) == (0, [1, 2, 3, 4, 5, 6])
    _, out, _ = await desk.run("events", "--from-seq", "5", "--no-follow", "--json")
    assert [row["topic"] for row in lines(out)] == ["/tasks/delete", "/containers/delete"]
    assert (await desk.run("events", "--from-seq", "7", "--no-follow", "--json"))[:2] == (0, "")
    code, _, err = await desk.run("events", "--from-seq", "8", "--no-follow")
    assert (code, "it ends at 6" in err) == (1, True)


async def test_command_killed_at_any_moment_is_resumed_without_loss_or_repetition(desk: Desk, story: Story) -> None:
    """kill -9 of the command itself, and of the bus under it: the next one shows what follows the last line."""
    seen: list[int] = []
    for turn in range(6):
        story.life(f"{turn:032x}")
        process = desk.start("events", "--from-seq", str(len(seen) + 1), "--json")
        if turn == 3:
            seen += [row["seq"] for row in await next_lines(process, 2)]
            desk.bus.server.kill()
            await asyncio.to_thread(desk.bus.server.start)
            story.__init__(desk)  # type: ignore[misc]
        seen += [row["seq"] for row in await next_lines(process, 6 * (turn + 1) - len(seen) - turn % 3)]
        process.kill()
        await asyncio.to_thread(process.communicate)
    _, out, _ = await desk.run("events", "--from-seq", str(len(seen) + 1), "--no-follow", "--json")
    seen += [row["seq"] for row in lines(out)]
    assert seen == list(range(1, 37))


async def test_live_events_survive_a_restart_of_the_bus(desk: Desk, story: Story) -> None:
    """Whoever watches goes on by himself, and is told on stderr that he waited."""
    process = desk.start("events", "--from-seq", "1", "--json")
    story.life()
    assert len(await next_lines(process, 6)) == 6
    desk.bus.server.kill()
    await asyncio.to_thread(desk.bus.server.start)
    again = Story(desk)
    again.life("beef" * 8)
    assert [row["seq"] for row in await next_lines(process, 6)] == list(range(7, 13))
    process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(process.wait, 10) == 0


async def test_reader_behind_the_limits_is_told_the_gap(desk: Desk, story: Story) -> None:
    """What the stream has dropped is told on both channels, and the exit code stays 0."""
    client = desk.bus.sync("streams")
    ensure_streams(client, Limits(size_bytes=8192))
    for number in range(12):
        story.life(f"{number:032x}")
    code, out, err = await desk.run("events", "--from-seq", "3", "--no-follow", "--json")
    first, *rest = lines(out)
    last = first["gap"]["to"]
    assert (code, first["gap"]["from"]) == (0, 3)
    assert [row["seq"] for row in rest] == list(range(last + 1, 73))
    assert f"gap 3..{last}" in err
    code, out, err = await desk.run("events", "--since", "1h", "--no-follow")
    assert (code, f"gap 1..{last}" in err, "gap" in out) == (0, True, False)


async def test_until_ends_the_reading(desk: Desk, story: Story) -> None:
    """A time in the past shows what was stored until then; one ahead shows what comes and ends by itself."""
    story.life()
    middle = lines((await desk.run("events", "--from-seq", "3", "--no-follow", "--json"))[1])[0]["stored_at"]
    code, out, _ = await desk.run("events", "--until", middle, "--json")
    assert (code, [row["seq"] for row in lines(out)][-1] in (2, 3)) == (0, True)
    assert (await desk.run("events", "--since", "1h", "--until", "30m"))[:2] == (0, "")
    process = desk.start("events", "--until", f"{time.time() + 1:.3f}", "--json")
    story.life("beef" * 8)
    out_bytes, _ = await asyncio.to_thread(process.communicate, None, 10)
    assert process.returncode == 0
    assert [row["seq"] for row in lines(out_bytes.decode())] == list(range(1, 13))


async def test_events_of_other_namespaces_are_shown_when_asked_for(desk: Desk, story: Story) -> None:
    """A namespace sees its own; `--all-namespaces` with containerd's filter sees the chosen."""
    story.life()
    story.life("beef" * 8, namespace="team-a")
    since = ("events", "--since", "1h", "--no-follow", "--json")
    assert {row["namespace"] for row in lines((await desk.run(*since))[1])} == {"default"}
    assert {row["namespace"] for row in lines((await desk.run("-n", "team-a", *since))[1])} == {"team-a"}
    assert len(lines((await desk.run(*since, "-A"))[1])) == 12
    _, out, _ = await desk.run(*since, "-A", "--filter", "namespace==team-a,topic~=|^/tasks/|")
    assert [row["topic"] for row in lines(out)] == list(NAMES)
    _, out, _ = await desk.run(*since, "-A", "--filter", "container=n-beef", "--filter", "event=die")
    assert [row["attributes"]["exit_status"] for row in lines(out)] == ["3"]


async def test_events_show_who_asked(desk: Desk, story: Story) -> None:
    """Caller, request and trace are in JSON, in templates, and with -v on the line."""
    story.life()
    since = ("events", "--since", "1h", "--no-follow", "--filter", "event=start")
    assert "caller=alice request_id=r-1 trace_id=t-1" in (await desk.run(*since, "-v"))[1]
    assert "alice" not in (await desk.run(*since))[1]
    assert (await desk.run(*since, "--format", "{{.Caller}} {{.RequestID}} {{.TraceID}}"))[1] == "alice r-1 t-1\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--from-seq", "0"], "from 1 on"),
        (["--from-seq", "1", "--since", "1h"], "not together with --since"),
        (["--since", "lately"], "read --since 'lately'"),
        (["--no-follow"], "--no-follow needs"),
        (["--filter", "type=nothing"], "position 5"),
        (["--format", "{{.Nothing"], "{{ is not closed"),
    ],
)
async def test_options_that_make_no_sense_are_refused(desk: Desk, arguments: list[str], told: str) -> None:
    """A wrong option ends the command before it waits for anything."""
    code, _, err = await desk.run("events", *arguments)
    assert (code, told in err) == (2, True)


async def test_message_that_is_no_event_does_not_stop_the_others(desk: Desk, story: Story) -> None:
    """Rubbish in the stream is told with its place, and passed over."""
    agent = desk.bus.sync("agent")
    agent.request(subjects.event("default", HOST, "container", ID, "started"), b"\xffrubbish")
    story.life()
    code, out, err = await desk.run("events", "--from-seq", "1", "--no-follow", "--json")
    assert (code, len(lines(out)), "message 1 is no event" in err) == (0, 6, True)


AT_S = 1_795_000_000.0


async def test_containers_are_shown_as_they_were(desk: Desk, story: Story) -> None:
    """`ps --at` tells name, image, state, code and host of each moment, by the stored events alone."""
    story.life(begins_s=AT_S)
    seen = {}
    for after_s in (-1, 0, 0.5, 1, 2, 3):
        code, out, err = await desk.run("ps", "-a", "--json", "--at", str(AT_S + after_s))
        assert (code, err) == (0, "")
        seen[after_s] = [(row["status"], row["exit_code"]) for row in lines(out)]
    assert seen == {
        -1: [], 0: [("creating", None)], 0.5: [("created", None)], 1: [("running", None)], 2: [("exited", 3)], 3: [],
    }  # fmt: skip
    _, out, _ = await desk.run("ps", "--at", "2026-11-18T11:06:41Z")
    assert out.splitlines()[0].split()[0] == "CONTAINER"
    assert all(word in out for word in (ID[:12], "docker.io/library/busybox:latest", "Up 0 s", HOST, "n-c0ff"))
    assert (await desk.run("ps", "--at", str(AT_S + 2), "-q"))[1] == "", "an ended one is shown with -a only"


async def test_difference_of_two_times_is_told(desk: Desk, story: Story) -> None:
    """`ps --diff` says what was created, removed and changed, for people and for programs."""
    gone, changed, new = ("a" * 32, "b" * 32, "c" * 32)
    story.life(gone, AT_S)
    story.life(changed, AT_S + 1.2)
    story.life(new, AT_S + 2.5)
    code, out, _ = await desk.run("ps", "--diff", str(AT_S + 2.3), str(AT_S + 3.6))
    assert code == 0
    told = sorted(out.splitlines())
    image = "docker.io/library/busybox:latest"
    assert told == sorted(
        [
            f"-  {gone[:12]}  n-aaaa  {image}  exited (3)  {HOST}",
            f"~  {changed[:12]}  n-bbbb  status: running → exited  exit_code: ? → 3",
            f"+  {new[:12]}  n-cccc  {image}  running  {HOST}",
        ]
    )
    _, out, _ = await desk.run("ps", "--json", "--diff", str(AT_S + 2.3), str(AT_S + 3.6))
    assert {row["name"]: (row["change"], row["fields"]) for row in lines(out)} == {
        "n-aaaa": ("removed", []), "n-bbbb": ("changed", ["status", "exit_code"]), "n-cccc": ("created", []),
    }  # fmt: skip
    assert (await desk.run("ps", "--diff", "1h", "1s"))[:2] == (0, "")


async def test_time_before_the_stored_events_is_refused_and_what_is_not_known_is_marked(
    desk: Desk, story: Story
) -> None:
    """Where the stream has lost its beginning, nothing is invented: the command says where events begin."""
    ensure_streams(desk.bus.sync("streams"), Limits(size_bytes=2500))
    old = time.time()
    story.record("create", old)
    story.task("create", old)
    story.task("start", old)
    for number in range(3):
        story.life(f"{number:032x}", old)
    between = time.time()
    story.task("exit", time.time(), exit_status="9", exited_at="T")
    code, _, err = await desk.run("ps", "--at", f"{old - 60:.6f}")
    assert (code, "events begin at" in err) == (1, True)
    code, out, err = await desk.run("ps", "-a", "--json", "--at", f"{between:.6f}")
    assert (code, "events begin at" in err) == (0, True)
    assert [(r["status"], r["name"], r["complete"], r["created_at"]) for r in lines(out) if r["id"] == ID] == [
        ("unknown", "n-c0ff", False, "")
    ]
    _, out, _ = await desk.run("ps", "-a", "--json", "--at", "0s")
    assert [(row["status"], row["exit_code"]) for row in lines(out) if row["id"] == ID] == [("exited", 9)]


@pytest.mark.parametrize(
    "arguments", [["--at", "lately"], ["--at", "2200-01-01"], ["--at", "1h", "--diff", "2h", "1h"]]
)
async def test_times_that_make_no_sense_are_refused(desk: Desk, arguments: list[str]) -> None:
    """No answer is made up for a time that is none, or that has not come yet."""
    assert (await desk.run("ps", *arguments))[0] == 2
