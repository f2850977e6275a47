"""The agent as a process on a real bus: requests, output and input, events, heartbeat, a second agent, a clean stop."""

from __future__ import annotations

import asyncio
import signal

import pytest

from hythe import clock, subjects
from hythe.errors import Conflict, FailedPrecondition, NotFound, Unavailable
from hythe.wire.agent import Beat, ContainerInspect, ContainerKill, ContainerStatus, ContainerStop, LogsEnd, LogsOpen
from hythe.wire.base import Empty
from hythe.wire.container import Epoch
from hythe.wire.io import OFFSET_HEADER
from tests.fixtures.secured_bus import HOST
from tests.fixtures.waiting import eventually_async
from tests.integration.agent.host import NAMESPACE, AgentHost, Output

FIRST = Epoch(era=1, revision=1)


async def test_run_over_the_bus_brings_output_code_events_and_statuses(host: AgentHost) -> None:
    """What runtime and a client see of one container, from its start to its removal."""
    host.start_agent()
    statuses: list[ContainerStatus] = []
    await host.runtime.subscribe(
        subjects.ALL_STATUSES, lambda message: statuses.append(ContainerStatus.model_validate_json(message.data))
    )
    output = Output()
    await output.subscribe(host.admin)
    order = host.order("sh", "-c", "echo out; echo err >&2; exit 3", io=output.open, auto_remove=True)
    progress: list[ContainerStatus] = []
    async with host.runtime.operate(
        host.subject("container", "run"), order, ContainerStatus, ContainerStatus, request_id=order.id
    ) as operation:
        async for status in operation:
            progress.append(status)
    assert [status.status for status in progress] == ["running"]
    assert progress[0].pid > 0 and progress[0].command[0] == "sh"
    assert (operation.result.exit_code, operation.result.run, operation.result.host) == (3, 1, HOST)
    end = await output.complete(host.admin)
    assert (end.exit_code, end.stdout_bytes, end.stderr_bytes) == (3, 4, 4)
    assert output.streams == {"stdout": b"out\n", "stderr": b"err\n"}
    await host.gone(order.id)
    assert await host.topics(order.id, 4) == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
    events = await host.events(order.id)
    assert events[2].attributes["exit_status"] == "3"
    assert events[2].request_id == order.id

    async def removed() -> bool:
        return bool(statuses) and statuses[-1].status == "removed"

    await eventually_async(removed)
    mine = [status for status in statuses if status.id == order.id]
    words = [status.status for status in mine]
    assert words[0] == "creating" and "running" in words and "exited" in words
    assert [status.change for status in mine] == list(range(1, len(mine) + 1))
    assert len({status.instance for status in mine}) == 1
    assert host.left_behind() == []


async def test_large_output_arrives_exactly_within_credit(host: AgentHost) -> None:
    """Five megabytes of binary output over the bus, with a window of a quarter of one."""
    host.start_agent()
    output = Output(256 << 10)
    await output.subscribe(host.admin)
    order = host.order(
        "sh", "-c", "i=0; while [ $i -lt 5 ]; do head -c 1000000 /bin/busybox; i=$((i+1)); done",
        io=output.open,
        auto_remove=True,
    )  # fmt: skip
    running = asyncio.create_task(host.run(order))
    end = await output.complete(host.admin)
    with open("/bin/busybox", "rb") as file:  # noqa: ASYNC230
        expected = file.read(1000000) * 5
    assert output.streams["stdout"] == expected
    assert end.stdout_bytes == len(expected)
    assert (await running).exit_code == 0


async def test_input_over_the_bus_reaches_the_command(host: AgentHost) -> None:
    """Chunks on the stdin subject are what the command reads; an empty one is its end."""
    host.start_agent()
    output = Output()
    await output.subscribe(host.admin)
    running = asyncio.create_task(host.run(host.order("cat", io=output.open, stdin=True, auto_remove=True)))

    async def granted() -> bool:
        return bool(output.grants)

    await eventually_async(granted)
    subject = subjects.io(NAMESPACE, HOST, output.open.channel, "stdin")
    await host.admin.publish(subject, b"hello", {OFFSET_HEADER: "0"})
    await host.admin.publish(subject, b"", {OFFSET_HEADER: "5"})
    await output.complete(host.admin)
    assert output.streams["stdout"] == b"hello"
    assert (await running).exit_code == 0


async def test_detached_container_is_listed_shown_signalled_stopped_and_removed(host: AgentHost) -> None:
    """Each request of the protocol does what it says."""
    host.start_agent()
    order = host.order("sh", "-c", "trap '' HUP; echo ready; exec sleep 100", wait=False, labels={"a": "b"})
    started = await host.run(order)
    assert started.status == "running"
    page = await host.page()
    assert [(c.id, c.status, c.labels) for c in page.containers] == [(order.id, "running", {"a": "b"})]
    assert (page.host, page.next, page.gone) == (HOST, "", [])
    with pytest.raises(NotFound):
        other = host.subject("container", "inspect", "other")
        await host.runtime.call(other, ContainerInspect(id=order.id), ContainerStatus)
    kill = ContainerKill(id=order.id, epoch=FIRST, signal="HUP")
    await host.runtime.call(host.subject("container", "kill"), kill, Empty)
    stop = ContainerStop(id=order.id, epoch=Epoch(era=1, revision=2), timeout_s=0.1)
    async with host.runtime.operate(
        host.subject("container", "stop"), stop, ContainerStatus, ContainerStatus
    ) as operation:
        stopped = await operation.wait()
    assert (stopped.status, stopped.epoch) == ("exited", Epoch(era=1, revision=2))
    assert stopped.exit_code in (137, 143)
    output = Output()
    await output.subscribe(host.admin)
    logs = LogsOpen(id=order.id, io=output.open, tail_lines=1, timestamps=True)
    async with host.runtime.operate(host.subject("logs", "open"), logs, Empty, LogsEnd) as reading:
        result = await reading.wait()
    await output.complete(host.admin)
    assert result.stdout_bytes == len(output.streams["stdout"])
    assert output.streams["stdout"].endswith(b" ready\n")
    with pytest.raises(FailedPrecondition, match="older than"):
        await host.remove(order.id)


async def test_request_that_comes_too_late_is_not_begun(host: AgentHost) -> None:
    """A command that was delayed beyond its time in the agent's own clock has no effect."""
    host.start_agent()
    order = host.order("true", wait=False)
    late = f"{clock.boot_id()}/{clock.boottime_ms() - 1}"
    with pytest.raises(Exception, match="after the time by which it had to begin"):
        async with host.runtime.operate(
            host.subject("container", "run"),
            order,
            ContainerStatus,
            ContainerStatus,
            request_id=order.id,
            begin_before=late,
        ) as operation:
            await operation.wait()
    assert (await host.page()).containers == []


async def test_error_of_a_command_that_is_missing_crosses_the_bus_whole(host: AgentHost) -> None:
    """Phase, runc's words, exit code and outcome reach who asked; nothing is left on the host."""
    host.start_agent()
    with pytest.raises(FailedPrecondition) as caught:
        await host.run(host.order("nosuch"))
    error = caught.value
    assert (error.phase, error.details, error.outcome, error.host) == (
        "runc create",
        {"exit_code": "127"},
        "not started",
        HOST,
    )
    assert "executable file not found" in error.cause
    assert host.left_behind() == []


async def test_same_id_with_another_body_is_a_conflict(host: AgentHost) -> None:
    """An id names one request for ever, also when the bus layer has forgotten it."""
    host.start_agent()
    order = host.order("sleep", "100", wait=False)
    await host.run(order)
    host.end_agent(signal.SIGTERM)
    host.start_agent()
    joined = await host.run(order)
    assert joined.status == "running"
    with pytest.raises(Conflict):
        await host.run(order.model_copy(update={"name": "other"}))


async def test_missing_bundle_service_is_named(host: AgentHost) -> None:
    """When the bundle service is away a run fails within 2 s and says so; what needs no bundle goes on."""
    host.start_agent()
    order = host.order("sleep", "100", wait=False)
    await host.run(order)
    await host.stop_bundles()
    with pytest.raises(Unavailable) as caught:
        async with asyncio.timeout(2):
            await host.run(host.order("true"))
    assert caught.value.service == "bundle"
    removed = await host.remove(order.id)
    assert removed.status == "removing"
    await host.start_bundles()
    await host.gone(order.id)


async def test_heartbeat_comes_each_second_with_the_agents_clock(host: AgentHost) -> None:
    """Others learn from it that the host lives, and what its clock says."""
    host.start_agent()
    beats: list[Beat] = []
    await host.runtime.subscribe(
        subjects.ALL_BEATS, lambda message: beats.append(Beat.model_validate_json(message.data))
    )

    async def two() -> bool:
        return len(beats) >= 2

    await eventually_async(two)
    assert beats[0].host == HOST
    assert beats[0].boot_id == clock.boot_id()
    assert 500 < beats[1].boottime_ms - beats[0].boottime_ms < 2500
    assert abs(beats[-1].boottime_ms - clock.boottime_ms()) < 2500


async def test_second_agent_on_the_same_root_is_refused(host: AgentHost) -> None:
    """Two agents never write one journal."""
    host.start_agent()
    second = host.second_agent()
    assert second.returncode == 1
    assert b"another process owns it" in second.stderr
    assert host.agent_lives()


async def test_stopped_agent_leaves_containers_running_and_the_next_has_them(host: AgentHost) -> None:
    """A clean stop of the agent ends nothing but the agent."""
    host.start_agent()
    order = host.order("sleep", "100", wait=False)
    started = await host.run(order)
    assert host.end_agent(signal.SIGTERM) == 0
    assert started.pid in host.processes()
    host.start_agent()
    assert (await host.inspect(order.id)).pid == started.pid


async def test_metrics_show_containers(host: AgentHost) -> None:
    """The agent serves its figures."""
    host.start_agent()
    await host.run(host.order("sleep", "100", wait=False))
    assert 'hythe_agent_containers{state="running"} 1.0' in await asyncio.to_thread(host.figures)


async def test_output_goes_on_after_the_bus_was_restarted(host: AgentHost) -> None:
    """A container and its output survive the bus: the client asks again from where it was."""
    host.start_agent()
    order = host.order("sh", "-c", "echo one; while [ ! -e /go ]; do sleep 0.05; done; echo two", wait=False)
    await host.run(order)
    await host.restart_bus()
    (host.directory / "bundle" / "bundles" / NAMESPACE / order.id / "rootfs" / "go").touch()
    ended = await host.status_is(order.id, "exited")
    assert ended.exit_code == 0
    output = Output()
    await output.subscribe(host.admin)
    logs = LogsOpen(id=order.id, io=output.open)
    async with host.runtime.operate(host.subject("logs", "open"), logs, Empty, LogsEnd) as reading:
        await reading.wait()
    await output.complete(host.admin)
    assert output.streams["stdout"] == b"one\ntwo\n"
    assert await host.topics(order.id, 3) == ["/tasks/create", "/tasks/start", "/tasks/exit"]
