"""kill -9 of the agent at every step: the next one finishes or undoes what was begun, and tells it once."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from hythe.errors import HytheError
from hythe.wire.agent import ContainerRun
from tests.fixtures.waiting import eventually, eventually_async
from tests.integration.agent.host import AgentHost

TOPICS = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
BEFORE_START = ["agent.after_intent", "agent.after_mount", "agent.after_create"]
AFTER_START = ["agent.after_start", "agent.after_exit", "agent.after_delete"]


async def run_until_killed(host: AgentHost, order: ContainerRun, point: str) -> None:
    """Run a container with an agent that is killed at `point`."""
    host.start_agent(HYTHE_FAILPOINTS=f"{point}=kill")
    running = asyncio.create_task(host.run(order))
    await asyncio.to_thread(eventually, lambda: not host.agent_lives())
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError, HytheError):
        await running
    host.end_agent()


@pytest.mark.parametrize("auto_remove", [False, True])
@pytest.mark.parametrize("point", BEFORE_START)
async def test_killed_before_the_start_leaves_nothing(host: AgentHost, point: str, auto_remove: bool) -> None:
    """A container that was not started when the agent died never runs, and nothing of it is left."""
    order = host.order("sleep", "100", auto_remove=auto_remove)
    await run_until_killed(host, order, point)
    host.start_agent()
    await host.gone(order.id)
    assert host.left_behind() == []
    assert host.bundles == set()
    numbers = [event.number for event in await host.events(order.id)]
    assert numbers == list(range(1, len(numbers) + 1))
    with pytest.raises(HytheError, match="was removed here"):
        await host.run(order)


@pytest.mark.parametrize("point", BEFORE_START)
async def test_failure_at_any_step_is_undone_before_the_answer(host: AgentHost, point: str) -> None:
    """Whatever step fails: the error is the answer, and by then nothing is left."""
    host.start_agent(HYTHE_FAILPOINTS=f"{point}=error(no luck)")
    order = host.order("sleep", "100")
    with pytest.raises(HytheError, match="no luck") as caught:
        await host.run(order)
    assert caught.value.outcome == "not started"
    assert host.left_behind() == []
    assert host.bundles == set()
    assert order.id in (await host.page()).gone
    created = point == "agent.after_create"
    expected = ["/tasks/create", "/tasks/exit", "/tasks/delete"] if created else []
    assert await host.topics(order.id, 3) == expected if created else await host.events(order.id) == []


@pytest.mark.parametrize("point", AFTER_START)
async def test_killed_after_the_start_keeps_the_container_and_its_exit(host: AgentHost, point: str) -> None:
    """A container that was started is on record with its true exit code, whenever the agent died."""
    order = host.order("sh", "-c", "echo said; exit 5")
    await run_until_killed(host, order, point)
    host.start_agent()
    ended = await host.status_is(order.id, "exited")
    assert ended.exit_code == 5
    assert await host.topics(order.id, 3) == TOPICS[:3]
    await host.remove(order.id)
    await host.gone(order.id)
    assert await host.topics(order.id, 4) == TOPICS
    assert host.left_behind() == []


@pytest.mark.parametrize("point", AFTER_START)
async def test_killed_after_the_start_removes_what_was_to_be_removed(host: AgentHost, point: str) -> None:
    """`--rm` holds across a crash, and each event is told once."""
    order = host.order("sh", "-c", "exit 5", auto_remove=True)
    await run_until_killed(host, order, point)
    host.start_agent()
    await host.gone(order.id)
    assert await host.topics(order.id, 4) == TOPICS
    assert (await host.events(order.id))[2].attributes["exit_status"] == "5"
    assert host.left_behind() == []


async def test_killed_twice_in_a_row_is_still_settled(host: AgentHost) -> None:
    """Recovery that is itself killed is done again by the next agent."""
    order = host.order("sh", "-c", "exit 5", auto_remove=True)
    await run_until_killed(host, order, "agent.after_start")
    host.start_agent(wait=False, HYTHE_FAILPOINTS="agent.after_delete=kill")
    await asyncio.to_thread(eventually, lambda: not host.agent_lives())
    host.start_agent()
    await host.gone(order.id)
    assert await host.topics(order.id, 4) == TOPICS
    assert host.left_behind() == []


async def test_running_container_outlives_a_killed_agent(host: AgentHost) -> None:
    """The container runs on without an agent, and its whole output is there for the next one."""
    host.start_agent()
    order = host.order("sh", "-c", "echo one; sleep 0.5; echo two; exit 7", wait=False)
    started = await host.run(order)
    host.end_agent()
    assert started.pid in host.processes()

    async def ended_alone() -> bool:
        return started.pid not in host.processes()

    await eventually_async(ended_alone)
    host.start_agent()
    ended = await host.status_is(order.id, "exited")
    assert ended.exit_code == 7
    log = host.directory / "agent" / "logs" / ended.namespace / order.id / "1.log"
    assert [line.split(b" ", 3)[3] for line in log.read_bytes().splitlines()] == [b"one", b"two"]


async def test_killed_at_random_moments_never_leaks_and_never_repeats_an_event(host: AgentHost) -> None:
    """Whenever the agent dies: afterwards nothing is left, and each container's events are numbered without a gap."""
    chance = random.Random(20261123)
    orders = []
    for _ in range(8):
        host.start_agent()
        order = host.order("sh", "-c", "exit 3", auto_remove=True)
        orders.append(order)
        running = asyncio.create_task(host.run(order))
        await asyncio.sleep(chance.uniform(0.0, 0.12))
        host.end_agent()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError, HytheError):
            await running
    host.start_agent()

    async def settled() -> bool:
        figures = await asyncio.to_thread(host.figures)
        return (await host.page()).containers == [] and "hythe_agent_events_waiting 0.0" in figures

    await eventually_async(settled)
    for order in orders:
        events = await host.events(order.id)
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        assert [event.topic for event in events] in ([], TOPICS, ["/tasks/create", "/tasks/exit", "/tasks/delete"])
    assert host.left_behind() == []
    assert host.bundles == set()
