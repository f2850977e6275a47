"""Commands other than run, against made-up services: what they ask, what they print, how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import Any

import pytest
from nats.aio.msg import Msg

from hythe import subjects
from hythe.client.root_span import CommandTrace
from tests.fixtures.secured_bus import HOST, Responder
from tests.fixtures.waiting import freeze
from tests.integration.cli.conftest import Desk

ID = "0123456789abcdef0123456789abcdef"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _listed(name: str, status: str, **more: Any) -> dict[str, Any]:
    image = {"reference": "docker.io/library/busybox:latest", "digest": "sha256:" + "a" * 64}
    common = {"id": ID, "name": name, "namespace": "default", "image": image, "host": HOST}
    record = {**common, "spec": {"args": ["sleep", "600"], "auto_remove": False, "labels": {}}, "desired": "running",
              "phase": "created", "created_at": "2026-11-23T20:15:00.000000Z"}  # fmt: skip
    found = {**common, "status": status, "run": 1, "pid": 77, "exit_code": None, "reason": "", "command": ["sleep", "600"],
             "started_at": "2026-11-23T20:15:00.000000Z", "finished_at": "", "created_at": "", "labels": {}}  # fmt: skip
    return {"record": record, "status": {**found, **more}, "stale": False}


def _answering(body: dict[str, Any]) -> Any:
    async def answer(message: Msg, service: Responder) -> None:
        await service.say(message.reply, "done", body)

    return answer


async def test_ps_lists_for_people_programs_and_scripts(desk: Desk) -> None:
    """A table, JSON Lines, or ids; warnings go to stderr."""
    body = {"containers": [_listed("web", "running"), _listed("\x1b[2Jold", "exited", exit_code=3)],
            "warnings": ["metadata is away"]}  # fmt: skip
    runtime = await desk.serve("runtime", _answering(body))
    code, out, err = await desk.run("ps", "-a")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "HOST", "NAMES"]
    assert lines[1].startswith(ID[:12] + " ")
    assert "Up " in lines[1]
    assert "Exited (3)" in lines[2]
    assert "\x1b" not in out
    assert err == "warning: metadata is away\n"
    assert runtime.requests[0][1] == {"all": True}
    rows = [json.loads(line) for line in (await desk.run("ps", "--json"))[1].splitlines()]
    assert (rows[0]["id"], rows[0]["status"], rows[1]["exit_code"]) == (ID, "running", 3)
    assert (await desk.run("ps", "-q"))[1] == f"{ID[:12]}\n" * 2
    assert (await desk.run("ps", "-q", "--no-trunc"))[1] == f"{ID}\n" * 2


async def test_namespace_and_caller_are_in_the_subject(desk: Desk) -> None:
    """`-n` chooses the namespace; the caller is the key's name."""
    runtime = await desk.serve("runtime", _answering({"containers": []}))
    assert (await desk.run("-n", "team.a", "ps"))[0] == 0
    assert runtime.requests[0][0] == subjects.rpc("team.a", "admin", "runtime", "container", "list")


async def test_several_containers_are_all_tried_and_the_first_failure_is_the_code(desk: Desk) -> None:
    """`rm a b c` with b missing removes a and c and ends with "not found"."""

    async def answer(message: Msg, service: Responder) -> None:
        if json.loads(message.data)["key"] == "b":
            await service.refuse(message.reply, code="NotFound", message="no container b", outcome="not started")
        else:
            await service.say(message.reply, "done", {"status": {}, "warnings": []})

    runtime = await desk.serve("runtime", answer)
    code, out, err = await desk.run("rm", "-f", "a", "b", "c")
    assert (code, out.split()) == (3, ["a", "c"])
    assert "error: no container b" in err
    assert [body for _, body, _ in runtime.requests] == [{"key": key, "force": True} for key in "abc"]


async def test_pull_shows_layers_and_prints_reference_and_digest(desk: Desk) -> None:
    """stdout is for scripts: the reference with its digest and nothing else."""
    digest = "sha256:" + "b" * 64

    async def answer(message: Msg, service: Responder) -> None:
        await service.say(message.reply, "accepted", {})
        for state in ("fetching", "fetched", "unpacking", "unpacked"):
            layer = {"digest": digest, "state": state, "done_bytes": 5, "total_bytes": 10}
            await service.say(message.reply, "progress", {"resolved": None, "layer": layer})
        image = {"reference": "docker.io/library/x:1", "target": {"digest": digest}}
        await service.say(message.reply, "done", {"image": image, "fetched_bytes": 10})

    await desk.serve("runtime", answer)
    code, out, err = await desk.run("pull", "x:1")
    assert (code, out) == (0, f"docker.io/library/x:1@{digest}\n")
    assert err.splitlines() == [
        f"bbbbbbbbbbbb: {word} 10 B" for word in ("Fetching", "Fetched", "Unpacking", "Unpacked")
    ]
    assert (await desk.run("pull", "-q", "x:1"))[2] == ""


async def test_pull_on_a_terminal_draws_each_layer_in_place(desk: Desk) -> None:
    """On a terminal a layer has one line that is drawn again: fetching, verifying and unpacking with bytes."""
    digests = ["sha256:" + letter * 64 for letter in "ab"]

    async def answer(message: Msg, service: Responder) -> None:
        await service.say(message.reply, "accepted", {})
        for state in ("fetching", "verifying", "unpacking", "unpacked"):
            for digest in digests:
                layer = {"digest": digest, "state": state, "done_bytes": 1_500_000, "total_bytes": 3_000_000}
                await service.say(message.reply, "progress", {"resolved": None, "layer": layer})
            await service.client.flush()
            await asyncio.sleep(0.12)  # the command draws at most ten times a second
        image = {"reference": "docker.io/library/x:1", "target": {"digest": digests[0]}}
        await service.say(message.reply, "done", {"image": image, "fetched_bytes": 10})

    await desk.serve("runtime", answer)
    terminal, inside = os.openpty()
    process = desk.start("pull", "x:1", stderr=inside)
    os.close(inside)
    assert await asyncio.to_thread(process.wait, 20) == 0
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    for word in ("Fetching", "Verifying", "Unpacking"):
        assert f"aaaaaaaaaaaa: {word} 1.5 MB of 3.0 MB" in shown
    assert "\x1b[3A" in shown
    last = shown.rpartition("\x1b[3A")[2]
    assert "bbbbbbbbbbbb: Unpacked 3.0 MB" in last
    assert "Total: 6.0 MB of 6.0 MB" in last


async def test_logs_bring_both_streams_up_to_their_last_byte(desk: Desk) -> None:
    """The command ends when it has what the result promises."""
    agent = await desk.agent()

    async def answer(message: Msg, service: Responder) -> None:
        body = json.loads(message.data)
        await service.say(message.reply, "accepted", {})
        await service.say(message.reply, "done", {"stdout_bytes": 4, "stderr_bytes": 3})
        for stream, data in (("stdout", b"out\n"), ("stderr", b"err")):
            subject = subjects.io("default", HOST, body["io"]["channel"], stream)
            await agent.client.publish(subject, data, headers={"hythe-offset": "0"})

    runtime = await desk.serve("runtime", answer)
    assert await desk.run("logs", "--tail", "5", "-t", "web") == (0, "out\n", "err")
    body = runtime.requests[0][1]
    assert {key: body[key] for key in ("key", "follow", "tail_lines", "timestamps")} == {
        "key": "web", "follow": False, "tail_lines": 5, "timestamps": True,
    }  # fmt: skip


async def test_timeout_ends_a_command_that_its_user_will_not_wait_for(desk: Desk) -> None:
    """`--timeout` gives up with "outcome unknown"."""

    async def answer(message: Msg, service: Responder) -> None:
        await service.say(message.reply, "accepted", {})

    await desk.serve("runtime", answer)
    started = time.monotonic()
    code, _, err = await desk.run("pull", "x", "--timeout", "0.4")
    assert (code, "not done within 0.4 s" in err, "outcome unknown" in err) == (9, True, True)
    assert time.monotonic() - started < 3


async def test_reader_of_a_listing_that_goes_away_is_no_error_message(desk: Desk) -> None:
    """`hythe ps | head -1` ends quietly with 141."""
    body = {"containers": [_listed(f"c{n}", "running") for n in range(2000)]}
    await desk.serve("runtime", _answering(body))
    process = desk.start("ps")
    assert process.stdout is not None and process.stderr is not None
    await asyncio.to_thread(process.stdout.readline)
    process.stdout.close()
    assert await asyncio.to_thread(process.wait, 10) == 141
    assert process.stderr.read() == b""


async def test_command_inside_a_trace_becomes_part_of_it(desk: Desk) -> None:
    """TRACEPARENT makes the command's spans children of the caller's, and `trace show` finds them by a prefix."""
    runtime = await desk.serve("runtime", _answering({"containers": []}))
    assert (await desk.run("ps", TRACEPARENT=PARENT))[0] == 0
    assert runtime.requests[0][2]["traceparent"].split("-")[1] == PARENT.split("-")[1]
    code, out, _ = await desk.run("trace", "show", "0af7", "--json")
    trace = json.loads(out)
    assert (code, trace["trace_id"]) == (0, PARENT.split("-")[1])
    assert [(span["name"], span["service"]) for span in trace["spans"]] == [
        ("hythe ps", "cli"),
        ("runtime.container.list", "cli"),
    ]
    assert trace["spans"][0]["parent_span_id"] == PARENT.split("-")[2]
    assert trace["complete"] is False


async def test_unsampled_caller_leaves_no_trace(desk: Desk) -> None:
    """Who does not sample gets no spans."""
    await desk.serve("runtime", _answering({"containers": []}))
    assert (await desk.run("ps", TRACEPARENT=PARENT[:-2] + "00"))[0] == 0
    assert (await desk.run("trace", "ls", "-q"))[1] == ""


async def test_failed_command_is_in_the_list_of_traces_with_its_error(desk: Desk) -> None:
    """Errors are traced too, and the message names the trace that shows them."""
    code, _, err = await desk.run("ps")
    assert (code, "runtime is not running" in err) == (10, True)
    _, out, _ = await desk.run("trace", "ls", "--json")
    (root,) = map(json.loads, out.splitlines())
    assert (root["name"], root["status"]) == ("hythe ps", "error")
    assert f"hythe trace show {root['trace_id'][:12]}" in err
    assert "hythe ps" in (await desk.run("trace", "show", "last"))[1]


def _publish_roots(desk: Desk, ids: list[str]) -> None:
    client = desk.bus.sync()
    for trace_id in ids:
        trace = CommandTrace("hythe x", {"TRACEPARENT": f"00-{trace_id}-{'1' * 16}-01"}, time.time_ns())
        client.publish(subjects.span("default", trace_id, root=True), trace.message("h"))
    client.flush()
    client.close()


async def test_traces_are_found_by_unique_prefix_only(desk: Desk) -> None:
    """An ambiguous prefix lists the candidates, an unknown one is not found, anything else is wrong use."""
    ids = ["ab" + "0" * 30, "ab" + "1" * 30, "cd" + "0" * 30]
    await asyncio.to_thread(_publish_roots, desk, ids)
    code, _, err = await desk.run("trace", "show", "ab")
    assert (code, all(trace_id in err for trace_id in ids[:2])) == (2, True)
    assert (await desk.run("trace", "show", "c"))[0] == 0
    assert (await desk.run("trace", "show", "ef"))[0] == 3
    assert (await desk.run("trace", "show", "f" * 32))[0] == 3
    assert (await desk.run("trace", "show", "not-hex"))[0] == 2


async def test_newest_traces_come_first_and_no_more_than_asked_for(desk: Desk) -> None:
    """A day full of traces is not read to show the last ones."""
    ids = [f"{n:032x}" for n in range(1, 301)]
    await asyncio.to_thread(_publish_roots, desk, ids)
    _, out, _ = await desk.run("trace", "ls", "-q", "--limit", "5")
    assert out.split() == ids[::-1][:5]
    assert len((await desk.run("trace", "ls", "-q"))[1].split()) == 20


async def test_trace_show_waits_for_spans_that_have_started_and_then_says_incomplete(desk: Desk) -> None:
    """A process that still works on the trace gets 2 s; what it sends in that time is shown."""
    trace = CommandTrace("hythe run", {}, time.time_ns())
    root = json.loads(trace.message("h"))
    span = {**root["spans"][0], "span_id": "a" * 16, "parent_span_id": trace.root.span_id, "name": "late"}
    client = desk.bus.sync()
    client.publish(subjects.span("default", trace.trace_id, root=True), json.dumps(root).encode())
    subject = subjects.span("default", trace.trace_id)
    client.publish(subject, json.dumps({**root, "service": "agent", "open": 1, "spans": []}).encode())
    client.flush()
    process = desk.start("trace", "show", "last")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.to_thread(process.wait, 0.5), 0.4)
    client.publish(subject, json.dumps({**root, "service": "agent", "open": 0, "spans": [span]}).encode())
    client.flush()
    out, _ = await asyncio.to_thread(process.communicate, None, 10)
    assert "late" in out.decode()
    assert "incomplete" not in out.decode()
    client.publish(subject, json.dumps({**root, "service": "bundle", "open": 1, "spans": []}).encode())
    client.flush()
    client.close()
    started = time.monotonic()
    assert "incomplete" in (await desk.run("trace", "show", "last"))[1]
    assert 1.9 < time.monotonic() - started < 4


async def test_events_show_what_was_stored_and_what_happens_each_once(desk: Desk) -> None:
    """`--since` begins in the past and goes over into the present without a gap or a repetition."""
    agent = await desk.agent()

    async def happen(number: int) -> None:
        body = {"topic": "/tasks/start", "namespace": "default", "host": HOST, "object_id": ID, "number": number,
                "run": 1, "time": "2026-11-23T20:15:00.000000Z", "attributes": {"pid": "1"}}  # fmt: skip
        subject = subjects.event("default", HOST, "container", ID, "started")
        await agent.client.request(subject, json.dumps(body).encode(), timeout=2)

    await happen(1)
    process = desk.start("events", "--since", "1h", "--json")
    assert process.stdout is not None
    numbers = [json.loads(await asyncio.to_thread(process.stdout.readline))["number"]]
    for number in (2, 3):
        await happen(number)
        numbers.append(json.loads(await asyncio.to_thread(process.stdout.readline))["number"])
    assert numbers == [1, 2, 3]
    process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(process.wait, 10) == 0
    code, out, _ = await desk.run("events", "--since", "1h", "--no-follow")
    assert (code, len(out.splitlines()), "/tasks/start" in out) == (0, 3, True)


async def test_bus_with_keys_of_another_stack_is_told(desk: Desk) -> None:
    """A key that the bus does not know is not mistaken for a bus that is away."""
    (desk.directory / "root" / "keys" / "admin.nk").write_text(_other_seed())
    code, _, err = await desk.run("ps")
    assert (code, "does not know this key" in err) == (5, True)


def _other_seed() -> str:
    from hythe.bus import nkey

    return nkey.generate().seed


async def test_key_that_is_missing_or_closed_is_told(desk: Desk) -> None:
    """Without its key a command says which file it needs."""
    path = desk.directory / "root" / "keys" / "admin.nk"
    path.unlink()
    code, _, err = await desk.run("ps")
    assert (code, str(path) in err) == (6, True)


async def test_hanging_server_is_named_within_two_seconds(desk: Desk) -> None:
    """A stopped nats-server is said to be silent, by name, before anybody gets impatient."""
    freeze(desk.bus.server.pid)
    try:
        started = time.monotonic()
        code, _, err = await desk.run("ps")
        assert (code, "nats-server did not answer" in err) == (11, True)
        assert time.monotonic() - started < 2.0
    finally:
        os.kill(desk.bus.server.pid, signal.SIGCONT)
