"""`container.run` through the real runtime: exactly the right calls, and what is left when something is away or fails."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from hythe import subjects
from hythe.bus.endpoint import Context, Progress
from hythe.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    HytheError,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from hythe.wire import agent as agent_wire
from hythe.wire.container import ContainerSpec
from hythe.wire.runtime import RunProgress, RunResult
from tests.fakes.services import DIGEST, LAYER
from tests.fixtures.secured_bus import HOST
from tests.fixtures.waiting import until
from tests.integration.runtime.conftest import IMAGE, Lab

REMOVED = ContainerSpec(auto_remove=True)


def raising(error: Exception, *, after_start: bool = False) -> object:
    """Return a ``container.run`` that fails, if so wanted after the container was started."""

    async def run(context: Context, request: agent_wire.ContainerRun, progress: Progress) -> agent_wire.ContainerStatus:
        if after_start:
            progress(
                agent_wire.ContainerStatus(
                    id=request.id,
                    namespace="default",
                    name=request.name,
                    image=request.image,
                    host=HOST,
                    status="running",
                )
            )
        raise error

    return run


async def test_warm_run_makes_exactly_the_calls_of_the_budget(lab: Lab) -> None:
    """begin, run, finish: of the six round trips these three are runtime's, and it makes no other."""
    seen: list[RunProgress] = []
    order = lab.order("web", spec=REMOVED)
    result = await lab.run(order, seen)
    assert lab.calls.made == ["metadata.container.begin", "agent.container.run", "metadata.container.finish"]
    assert lab.metadata.settled == [(order.id, "removing")]
    assert (result.status.status, result.status.exit_code, result.warnings) == ("exited", 0, [])
    assert [p.status.status for p in seen if p.status] == ["running"]
    (sent,) = lab.agent.orders
    assert isinstance(sent, agent_wire.ContainerRun)
    assert (sent.id, sent.name, sent.image.digest) == (order.id, "web", DIGEST)
    assert sent.epoch.revision == 1
    await lab.list()
    assert lab.calls.made.count("metadata.container.finish") == 1


async def test_kept_container_is_recorded_as_created_once_it_runs(lab: Lab) -> None:
    """Without --rm the record becomes lasting as soon as the container is started, and stays after its end."""
    held = asyncio.Event()

    async def run(context: Context, request: agent_wire.ContainerRun, progress: Progress) -> agent_wire.ContainerStatus:
        progress(await lab.agent.report(lab.agent.status_of(request, context.namespace, "running")))
        await held.wait()
        return lab.agent.status_of(request, context.namespace, "exited", exit_code=3)

    lab.agent.run = run
    order = lab.order("kept")
    running = asyncio.create_task(lab.run(order))
    await until(lambda: lab.metadata.settled == [(order.id, "created")], what="the record is settled")
    held.set()
    assert (await running).status.exit_code == 3
    assert lab.metadata.settled == [(order.id, "created")]
    assert order.id in lab.metadata.records


async def test_detached_run_answers_after_the_start(lab: Lab) -> None:
    """`run -d` returns with the running container; its record lasts."""

    async def run(context: Context, request: agent_wire.ContainerRun, progress: Progress) -> agent_wire.ContainerStatus:
        assert not request.wait
        return await lab.agent.report(lab.agent.status_of(request, context.namespace, "running"))

    lab.agent.run = run
    order = lab.order("detached", wait=False, spec=REMOVED)
    assert (await lab.run(order)).status.status == "running"
    assert lab.metadata.settled == [(order.id, "created")]


async def test_name_of_a_detached_container_is_free_as_soon_as_its_host_has_removed_it(lab: Lab) -> None:
    """A container that removes itself gives its name back at once, not at the next comparison."""
    status = lab.agent.add("gone", lab.metadata.add("gone").id)
    await until(lambda: status.id in lab.metadata.records, what="it is recorded")
    await lab.agent.beat()
    await lab.agent.report(status.model_copy(update={"status": "removed"}))
    await until(lambda: (status.id, "absent") in lab.metadata.settled, timeout_s=3, what="the record is gone")


async def test_run_without_a_name_takes_the_beginning_of_its_id(lab: Lab) -> None:
    """Every container has a name."""
    order = lab.order()
    await lab.run(order)
    assert lab.metadata.records[order.id].name == order.id[:12]


async def test_cold_run_resolves_then_begins_then_runs_while_the_image_arrives(lab: Lab) -> None:
    """The container's bundle is made beside the fetch: nothing waits for the whole image."""
    lab.metadata.images.clear()
    lab.distribution.before_end.clear()
    seen: list[RunProgress] = []
    order = lab.order("cold", spec=REMOVED)
    running = asyncio.create_task(lab.run(order, seen))
    await until(lambda: lab.metadata.settled, what="the container has run before the fetch ended")
    lab.distribution.before_end.set()
    result = await running
    assert lab.calls.made == [
        "metadata.container.begin",
        "distribution.image.pull",
        "metadata.container.begin",
        "agent.container.run",
        "metadata.container.finish",
    ]
    assert (result.status.exit_code, result.warnings) == (0, [])
    (sent,) = lab.agent.orders
    assert isinstance(sent, agent_wire.ContainerRun)
    assert sent.image.digest == DIGEST
    assert [(p.layer_digest, p.layer_state, p.done_bytes, p.total_bytes) for p in seen if p.layer_digest] == [
        (LAYER, "fetching", 1, 2)
    ]


async def test_cold_run_of_an_image_that_cannot_be_resolved_leaves_nothing(lab: Lab) -> None:
    """The error is the registry's own; no record, no container."""
    lab.metadata.images.clear()
    lab.distribution.before_end.clear()
    lab.distribution.error = NotFound("resolve busybox: no such image")
    with pytest.raises(NotFound, match="no such image"):
        await lab.run(lab.order("cold"))
    assert lab.metadata.records == {}
    assert lab.agent.orders == []


async def test_cold_run_whose_name_is_taken_stops_the_fetch(lab: Lab) -> None:
    """What nobody wants any more is not downloaded."""
    lab.metadata.images.clear()
    lab.metadata.add("taken")
    lab.distribution.before_end.clear()
    lab.metadata.images.clear()
    with pytest.raises(AlreadyExists):
        await lab.run(lab.order("taken", pull="always"))
    await until(lambda: lab.distribution.cancelled == 1, what="the fetch is given up")
    assert lab.agent.orders == []


async def test_cold_run_whose_container_fails_stops_the_fetch(lab: Lab) -> None:
    """Also an error of the host ends what was begun for it, and the record is deleted."""
    lab.metadata.images.clear()
    lab.distribution.before_end.clear()
    lab.agent.run = raising(FailedPrecondition("start web: no such command"))  # type: ignore[assignment]
    with pytest.raises(FailedPrecondition, match="no such command"):
        await lab.run(lab.order("cold"))
    await until(lambda: lab.distribution.cancelled == 1, what="the fetch is given up")
    assert lab.metadata.records == {}


async def test_image_that_is_not_registered_is_a_warning_when_the_container_ran(lab: Lab) -> None:
    """The user learns of it; the container's own result counts."""
    lab.metadata.images.clear()
    lab.distribution.error = Unavailable("register busybox: metadata is away")
    result = await lab.run(lab.order("cold"))
    assert result.status.exit_code == 0
    assert result.warnings == [f"the image {IMAGE} was not registered: register busybox: metadata is away"]


async def test_run_that_must_not_pull_says_that_the_image_is_missing(lab: Lab) -> None:
    """With --pull never nothing is asked of distribution."""
    lab.metadata.images.clear()
    with pytest.raises(NotFound, match="find image"):
        await lab.run(lab.order("x", pull="never"))
    assert lab.calls.made == ["metadata.container.begin"]


async def test_run_that_must_pull_does_so_though_the_image_is_known(lab: Lab) -> None:
    """With --pull always the name is resolved anew first."""
    await lab.run(lab.order("x", pull="always", spec=REMOVED))
    assert lab.calls.made[:2] == ["distribution.image.pull", "metadata.container.begin"]


async def test_name_that_is_taken_is_refused_and_nothing_runs(lab: Lab) -> None:
    """The error is metadata's own, and the other container's record is untouched."""
    other = lab.metadata.add("web")
    with pytest.raises(AlreadyExists, match="the name is taken"):
        await lab.run(lab.order("web"))
    assert lab.agent.orders == []
    assert set(lab.metadata.records) == {other.id}


async def test_run_from_a_directory_asks_for_no_image(lab: Lab) -> None:
    """A bundle directory takes the place of the image: nothing is pulled, and the record names the directory."""
    order = lab.order("web", image="", spec=ContainerSpec(directory="/srv/web"), pull="always")
    await lab.run(order)
    (sent,) = lab.agent.orders
    assert isinstance(sent, agent_wire.ContainerRun)
    assert (sent.image.reference, sent.image.digest, sent.spec.directory) == ("bundle:/srv/web", None, "/srv/web")
    assert not [call for call in lab.calls.made if call.startswith("distribution")]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"image": "no spaces allowed"}, "image"),
        ({"name": "-"}, "name"),
        ({"spec": {"directory": "/srv/web"}}, "directory and image"),
        ({"image": "", "spec": {"directory": "srv/web"}}, "directory"),
        ({"image": "", "spec": {"directory": "/srv/../etc"}}, "directory"),
    ],
)
async def test_request_that_is_wrong_asks_nobody(lab: Lab, change: dict[str, Any], wrong: str) -> None:
    """What cannot be right is refused before anything is recorded."""
    with pytest.raises(InvalidArgument):
        await lab.run(lab.order(**change))
    assert lab.calls.made == []


async def test_agent_that_is_gone_is_named_within_two_seconds_and_the_record_forgotten(lab: Lab) -> None:
    """No responders: not executed, so the name is free again at once."""
    await lab.run(lab.order("first", spec=REMOVED))
    await lab.stop("agent")
    started = time.monotonic()
    order = lab.order("web")
    with pytest.raises(Unavailable, match="agent is not running") as missing:
        await lab.run(order)
    assert time.monotonic() - started < 2.0
    assert (missing.value.service, missing.value.outcome) == ("agent", "not started")
    assert (order.id, "absent") in lab.metadata.settled


async def test_agent_that_hangs_is_named_within_two_seconds_and_the_record_kept(lab: Lab) -> None:
    """It may still act: its outcome is unknown, and whoever settles the record later asks it."""
    await lab.stop("agent")
    hanging = await lab.peers.bus("agent")
    await hanging.subscribe(subjects.host_rpc_of_service(HOST, "agent"), lambda message: None)
    await hanging.flush()
    started = time.monotonic()
    order = lab.order("web")
    with pytest.raises(DeadlineExceeded, match="agent did not answer") as silent:
        await lab.run(order)
    assert time.monotonic() - started < 2.0
    assert (silent.value.service, silent.value.outcome) == ("agent", "unknown")
    assert lab.metadata.settled == []
    assert order.id in lab.metadata.records


@pytest.mark.parametrize(
    ("error", "after_start", "kept"),
    [
        (Unavailable("x", outcome="unknown"), False, True),
        (Internal("a fault", outcome="unknown"), False, True),
        (Conflict("another body"), False, True),
        (FailedPrecondition("no such command"), False, False),
        (Internal("runc create failed"), False, False),
        (Internal("the log is gone"), True, True),
    ],
)
async def test_record_is_only_forgotten_when_it_is_certain_that_nothing_runs(
    lab: Lab, error: HytheError, after_start: bool, kept: bool
) -> None:
    """A known failure before the start deletes the record; whatever may run keeps it."""
    lab.agent.run = raising(error, after_start=after_start)  # type: ignore[assignment]
    order = lab.order("web")
    with pytest.raises(type(error)):
        await lab.run(order)
    assert (order.id in lab.metadata.records) == kept


async def test_metadata_that_is_away_refuses_the_run_within_two_seconds(lab: Lab) -> None:
    """Without intent nothing is started."""
    await lab.stop("metadata")
    started = time.monotonic()
    with pytest.raises(Unavailable, match="metadata is not running"):
        await lab.run(lab.order("web"))
    assert time.monotonic() - started < 2.0
    assert lab.agent.orders == []


async def test_metadata_that_goes_away_during_the_run_is_a_warning(lab: Lab) -> None:
    """The container's result is the user's, though its record could not be settled."""

    async def run(context: Context, request: agent_wire.ContainerRun, progress: Progress) -> agent_wire.ContainerStatus:
        await lab.stop("metadata")
        return await lab.agent.succeed(context, request, progress)

    lab.agent.run = run
    result = await lab.run(lab.order("web", spec=REMOVED))
    assert result.status.exit_code == 0
    (warning,) = result.warnings
    assert "could not be settled now" in warning


async def test_no_host_is_waited_for_shortly_and_then_named(lab: Lab) -> None:
    """Right after a start the first heartbeat is awaited; a host that never was is refused with the reason."""
    started = time.monotonic()
    with pytest.raises(Unavailable, match="no agent is running on elsewhere") as refused:
        await lab.run(lab.order("web", host="elsewhere"))
    assert time.monotonic() - started < 2.0
    assert "no agent of that name" in refused.value.cause
    assert lab.calls.made == []


async def test_repeated_run_is_one_run(lab: Lab) -> None:
    """A client that asks again with the same id joins what is in progress and gets the same result."""
    order = lab.order("web")
    one, two = await asyncio.gather(lab.run(order), lab.run(order))
    assert one == two
    assert lab.calls.made.count("agent.container.run") == 1


async def test_killed_command_does_not_end_the_run(lab: Lab) -> None:
    """Whoever asked may leave: the container runs on, and its record is settled."""
    held = asyncio.Event()

    async def run(context: Context, request: agent_wire.ContainerRun, progress: Progress) -> agent_wire.ContainerStatus:
        await held.wait()
        return await lab.agent.succeed(context, request, progress)

    lab.agent.run = run
    order = lab.order("web", spec=REMOVED)
    running = asyncio.create_task(lab.run(order))
    await until(lambda: lab.agent.orders, what="the agent is asked")
    await lab.user.close()
    held.set()
    await until(lambda: lab.metadata.settled == [(order.id, "removing")], what="the record is settled")
    with pytest.raises(HytheError):
        await running


async def test_agent_started_anew_in_mid_run_is_joined_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The restart of an agent costs a foreground run nothing but time: its exit code still arrives."""
    monkeypatch.setattr("hythe.deadline.SILENCE_S", 0.5)
    lost = asyncio.Event()

    async def never(
        context: Context, request: agent_wire.ContainerRun, progress: Progress
    ) -> agent_wire.ContainerStatus:
        progress(lab.agent.status_of(request, context.namespace, "running"))
        lost.set()
        await asyncio.Event().wait()
        raise AssertionError

    lab.agent.run = never
    running: asyncio.Task[RunResult] = asyncio.create_task(lab.run(lab.order("web", spec=REMOVED)))
    await lost.wait()
    await lab.crash("agent")
    lab.agent.run = lab.agent.succeed
    await lab.serve("agent", lab.agent)
    result = await running
    assert result.status.exit_code == 0
    assert lab.calls.made.count("agent.container.run") == 2


async def test_container_that_ended_and_was_removed_while_its_agent_was_away_is_told_so(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user is not told that it was never started, and its name is free."""
    monkeypatch.setattr("hythe.deadline.SILENCE_S", 0.5)
    begun = asyncio.Event()

    async def never(
        context: Context, request: agent_wire.ContainerRun, progress: Progress
    ) -> agent_wire.ContainerStatus:
        progress(await lab.agent.report(lab.agent.status_of(request, context.namespace, "running")))
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    lab.agent.run = never
    order = lab.order("web", spec=REMOVED)
    running = asyncio.create_task(lab.run(order))
    await begun.wait()
    await lab.crash("agent")
    lab.agent.restart(removed=[order.id])
    lab.agent.run = raising(FailedPrecondition("run web: this id was removed here"))  # type: ignore[assignment]
    await lab.serve("agent", lab.agent)
    with pytest.raises(Unavailable, match="ended and was removed while its agent was away") as lost:
        await running
    assert lost.value.outcome == "done"
    assert (order.id, "absent") in lab.metadata.settled


async def test_agent_that_died_in_mid_run_leaves_the_outcome_unknown(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it does not come back the record stays, for the container may run."""
    monkeypatch.setattr("hythe.deadline.SILENCE_S", 0.5)
    begun = asyncio.Event()

    async def never(
        context: Context, request: agent_wire.ContainerRun, progress: Progress
    ) -> agent_wire.ContainerStatus:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    lab.agent.run = never
    order = lab.order("web")
    running = asyncio.create_task(lab.run(order))
    await begun.wait()
    await lab.crash("agent")
    with pytest.raises(Unavailable, match="agent is not running") as dead:
        await running
    assert dead.value.outcome == "unknown"
    assert order.id in lab.metadata.records
