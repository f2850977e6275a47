"""What a real agent tells of its containers: by the table, with who asked, without a gap however it dies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from hythe import asking, events
from hythe.asking import Asker
from hythe.errors import HytheError
from hythe.wire.agent import ContainerKill, ContainerStatus, ContainerStop
from hythe.wire.base import Empty
from hythe.wire.container import Epoch
from hythe.wire.events import Event
from tests.fixtures.waiting import eventually, until
from tests.integration.agent.host import AgentHost

EPOCH = Epoch(era=1, revision=1)
WORDS = ["create", "start", "exit", "delete"]


@contextlib.contextmanager
def asked_by(caller: str) -> Iterator[None]:
    """Ask as runtime does for `caller` while the block lasts."""
    token = asking.current.set(Asker(caller, f"request-of-{caller}"))
    try:
        yield
    finally:
        asking.current.reset(token)


async def told(host: AgentHost, container_id: str, count: int) -> list[Event]:
    """Wait for so many events of a container; none is missing, repeated, or other than the table says."""
    await host.topics(container_id, count)
    found = await host.events(container_id)
    for event in found:
        kind = events.BY_TOPIC[event.topic]
        assert events.faults(event.topic, kind.noun, kind.past, event.attributes) == []
    return found


async def test_events_name_who_asked_for_each_step(host: AgentHost) -> None:
    """Who ran it, who stopped it and who removed it are three people, and each event names the right one."""
    host.start_agent()
    order = host.order("sleep", "100", wait=False, labels={"app": "x"}, stop_timeout_s=0.0)
    with asked_by("alice"):
        await host.run(order)
    with asked_by("bob"):
        stop = ContainerStop(id=order.id, epoch=EPOCH, timeout_s=0)
        subject = host.subject("container", "stop")
        async with host.runtime.operate(subject, stop, ContainerStatus, ContainerStatus) as operation:
            await operation.wait()
    host.end_agent()
    host.start_agent()
    with asked_by("carol"):
        await host.remove(order.id)
    found = await told(host, order.id, 4)
    assert [(e.topic, e.caller) for e in found] == list(
        zip([f"/tasks/{word}" for word in WORDS], ["alice", "alice", "bob", "carol"], strict=True)
    )
    assert [e.request_id for e in found[2:]] == ["request-of-bob", "request-of-carol"]
    created = found[0].attributes
    assert (created["labels.app"], created["command.0"], created["rootfs.0.type"]) == ("x", "sleep", "overlay")
    assert created["io.stdout"].endswith(f"/{order.id}/1.log")


async def test_signal_that_ends_a_container_names_its_sender_even_after_a_crash(host: AgentHost) -> None:
    """Who sent SIGKILL is in the journal before the signal is sent, so the next agent knows him too."""
    host.start_agent()
    order = host.order("sleep", "100", wait=False)
    await host.run(order)
    host.end_agent()
    host.start_agent(HYTHE_FAILPOINTS="agent.after_exit=kill")
    with asked_by("mallory"), contextlib.suppress(HytheError):
        await host.runtime.call(host.subject("container", "kill"), ContainerKill(id=order.id, epoch=EPOCH), Empty)
    await asyncio.to_thread(eventually, lambda: not host.agent_lives())
    host.end_agent()
    host.start_agent()
    found = await told(host, order.id, 3)
    assert [(e.topic, e.caller) for e in found][2] == ("/tasks/exit", "mallory")


@pytest.mark.parametrize("point", ["agent.before_event", "agent.after_event"])
@pytest.mark.parametrize("sent", [0, 2])
async def test_agent_killed_between_journal_and_stream_tells_every_event_once(
    host: AgentHost, point: str, sent: int
) -> None:
    """What is journaled is told by the next agent, and what the stream has already is not told again."""
    host.start_agent(HYTHE_FAILPOINTS=f"{point}={sent}*off->kill" if sent else f"{point}=kill")
    order = host.order("sh", "-c", "exit 5", auto_remove=True)
    running = asyncio.create_task(host.run(order))
    await asyncio.to_thread(eventually, lambda: not host.agent_lives())
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError, HytheError):
        await running
    host.end_agent()
    host.start_agent()
    await host.gone(order.id)
    await until(lambda: "hythe_agent_events_waiting 0.0" in host.figures(), what="all is told")
    words = [event.topic.rpartition("/")[2] for event in await told(host, order.id, 1)]
    assert words in (WORDS, ["create", "exit", "delete"]), "the second where it died before the command was started"
