"""Listing, finding, stopping, removing and settling through the real runtime."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from hythe import subjects
from hythe.errors import FailedPrecondition, HytheError, InvalidArgument, NotFound, Unavailable
from hythe.wire.agent import ContainerRemove, ContainerStop, LogsEnd
from hythe.wire.base import Empty
from hythe.wire.io import IoOpen
from hythe.wire.runtime import Kill, Listed, Logs, Remove, RunResult, Stop, Target
from hythe_runtime.controller.wiring import build
from tests.fixtures.secured_bus import HOST
from tests.fixtures.waiting import eventually_async, until
from tests.integration.runtime.conftest import Lab


async def known(lab: Lab, name: str) -> Listed | None:
    """Return what `ps -a` says of a container, once its status is there."""
    for item in (await lab.list()).containers:
        if item.status is not None and item.status.name == name:
            return item
    return None


async def appear(lab: Lab, name: str) -> Listed:
    """Wait until the host's report of a container has arrived."""
    await lab.agent.beat(change=lab.agent.change + 1)  # as after a report that was lost

    async def found() -> Listed | None:
        return await known(lab, name)

    item = await eventually_async(found, what=f"{name} is reported")
    assert item is not None
    return item


async def test_list_joins_records_with_what_the_host_says(lab: Lab) -> None:
    """Each container once, with intent and status; across pages of both sources; running ones unless all are wanted."""
    for number in range(5):
        lab.agent.add(f"c{number}", lab.metadata.add(f"c{number}").id)
    lab.metadata.add("wished")
    await appear(lab, "c4")
    listed = await lab.list()
    assert listed.warnings == []
    found = {item.record.name: item.status is not None for item in listed.containers if item.record}
    assert found == {**{f"c{n}": True for n in range(5)}, "wished": False}


async def test_list_without_metadata_goes_on_with_a_warning(lab: Lab) -> None:
    """What runs is known from the hosts; only names and wishes may be out of date."""
    lab.agent.add("web", lab.metadata.add("web").id)
    await appear(lab, "web")
    await lab.stop("metadata")
    listed = await lab.list()
    assert [item.status.name for item in listed.containers if item.status] == ["web"]
    assert [item.record for item in listed.containers] == [None]
    (warning,) = listed.warnings
    assert "metadata is away" in warning


async def test_list_marks_a_host_that_fell_silent(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 5 s without a heartbeat what is shown of a host is marked as old."""
    monkeypatch.setattr("hythe_runtime.controller.view.FRESH_S", 0.3)
    lab.agent.add("web", lab.metadata.add("web").id)
    await appear(lab, "web")
    lab.agent.stop_beating()

    async def stale() -> bool:
        listed = await lab.list()
        return listed.containers[0].stale and HOST in "".join(listed.warnings)

    await eventually_async(stale, what="it is marked")


async def test_container_is_found_by_name_id_and_unique_prefix(lab: Lab) -> None:
    """Whatever names one container is enough."""
    record = lab.metadata.add("web")
    lab.agent.add("web", record.id)
    for key in ("web", record.id, record.id[:8]):
        found = await lab.ask("inspect", Target(key=key), Listed)
        assert found.record is not None
        assert found.record.id == record.id
        assert found.status is not None


async def test_prefix_that_fits_several_is_refused_with_the_candidates(lab: Lab) -> None:
    """Nothing is guessed, neither among records nor among unclaimed containers."""
    lab.metadata.add("one", id="a" * 31 + "1")
    lab.metadata.add("two", id="a" * 31 + "2")
    with pytest.raises(InvalidArgument, match="one, two"):
        await lab.ask("inspect", Target(key="aaa"), Listed)
    lab.agent.add("three", "b" * 31 + "1")
    lab.agent.add("four", "b" * 31 + "2")
    await appear(lab, "four")
    with pytest.raises(InvalidArgument, match="fits several"):
        await lab.do("remove", Remove(key="bbb"), RunResult)
    assert lab.agent.orders == []


async def test_empty_key_means_no_container(lab: Lab) -> None:
    """An empty variable in a script removes nothing, also when there is just one container."""
    lab.agent.add("only", lab.metadata.add("only").id)
    with pytest.raises(InvalidArgument, match="no id or name"):
        await lab.do("remove", Remove(key="", force=True), RunResult)
    assert lab.agent.orders == []


async def test_container_of_another_namespace_is_not_found(lab: Lab) -> None:
    """Neither by its record nor by what its host says."""
    lab.metadata.add("theirs", namespace="team")
    lab.agent.add("unclaimed", namespace="team")
    await appear_in(lab, "team", "unclaimed")
    for key in ("theirs", "unclaimed"):
        with pytest.raises(NotFound, match=key):
            await lab.ask("inspect", Target(key=key), Listed)


async def appear_in(lab: Lab, namespace: str, name: str) -> None:
    """Wait until a container is listed in a namespace."""
    await lab.agent.beat(change=lab.agent.change + 1)
    subject = lab.subject("container", "inspect", namespace)

    async def found() -> bool:
        try:
            await lab.user.call(subject, Target(key=name), Listed)
        except NotFound:
            return False
        return True

    await eventually_async(found, what=f"{name} is reported")


async def test_inspect_of_a_host_whose_agent_is_away_shows_what_was_known(lab: Lab) -> None:
    """Old knowledge is better than none, and marked."""
    lab.agent.add("web", lab.metadata.add("web").id)
    await appear(lab, "web")
    await lab.stop("agent")
    found = await lab.ask("inspect", Target(key="web"), Listed)
    assert found.stale
    assert found.status is not None


async def test_remove_asks_the_host_then_deletes_the_record(lab: Lab) -> None:
    """In this order: a record is only deleted when its container is gone."""
    record = lab.metadata.add("web")
    lab.agent.add("web", record.id)
    result = await lab.do("remove", Remove(key="web", force=True), RunResult)
    assert result.status.status == "removed"
    assert lab.calls.made == ["metadata.container.get", "agent.container.remove", "metadata.container.finish"]
    assert lab.metadata.settled == [(record.id, "absent")]
    (order,) = lab.agent.orders
    assert order == ContainerRemove(id=record.id, epoch=record.epoch, force=True)


async def test_remove_of_a_record_whose_host_has_nothing_deletes_the_record(lab: Lab) -> None:
    """What its host does not know is gone."""
    record = lab.metadata.add("web")
    assert (await lab.do("remove", Remove(key="web"), RunResult)).status.status == "removed"
    assert lab.metadata.settled == [(record.id, "absent")]


async def test_remove_of_what_is_just_being_made_is_refused(lab: Lab) -> None:
    """Else the container would come to be without a record."""
    record = lab.metadata.add("web", phase="creating")
    with pytest.raises(FailedPrecondition, match="just being made"):
        await lab.do("remove", Remove(key="web", force=True), RunResult)
    assert record.id in lab.metadata.records


async def test_remove_of_an_unclaimed_container_works_with_a_warning(lab: Lab) -> None:
    """What nobody recorded can be cleared away by its name or id, when its user says so."""
    status = lab.agent.add("lost")
    await appear(lab, "lost")
    result = await lab.do("remove", Remove(key=status.id[:10], force=True), RunResult)
    assert result.status.status == "removed"
    assert "unclaimed" in result.warnings[0]
    assert lab.metadata.settled == []


async def test_remove_without_metadata_is_refused_and_removes_nothing(lab: Lab) -> None:
    """Intent cannot be changed while its owner is away."""
    lab.agent.add("web", lab.metadata.add("web").id)
    await appear(lab, "web")
    await lab.stop("metadata")
    with pytest.raises(Unavailable, match="metadata is not running") as away:
        await lab.do("remove", Remove(key="web", force=True), RunResult)
    assert away.value.service == "metadata"
    assert lab.agent.orders == []


async def test_remove_without_the_agent_keeps_the_record(lab: Lab) -> None:
    """What may still run is not forgotten."""
    record = lab.metadata.add("web")
    await lab.stop("agent")
    with pytest.raises(Unavailable, match="agent is not running"):
        await lab.do("remove", Remove(key="web"), RunResult)
    assert record.id in lab.metadata.records


async def test_stop_raises_the_epoch_and_carries_it(lab: Lab) -> None:
    """The wish is recorded first, so that an older command cannot overtake it."""
    record = lab.metadata.add("web")
    lab.agent.add("web", record.id)
    assert (await lab.do("stop", Stop(key="web", timeout_s=3), RunResult)).status.exit_code == 143
    (order,) = lab.agent.orders
    assert isinstance(order, ContainerStop)
    assert (order.epoch.revision, order.timeout_s) == (record.epoch.revision + 100, 3)
    assert lab.metadata.records[record.id].desired == "stopped"


async def test_stop_and_kill_go_on_without_metadata(lab: Lab) -> None:
    """With the epoch that the host itself last told."""
    status = lab.agent.add("web", lab.metadata.add("web").id)
    await appear(lab, "web")
    await lab.stop("metadata")
    await lab.ask("kill", Kill(key="web", signal="SIGHUP"), Empty)
    result = await lab.do("stop", Stop(key="web"), RunResult)
    assert "metadata is away" in result.warnings[0]
    assert [order.epoch for order in lab.agent.orders] == [status.epoch, status.epoch]  # type: ignore[attr-defined]


async def test_logs_go_on_without_metadata(lab: Lab) -> None:
    """What a container said lies on its host."""
    lab.agent.add("web", lab.metadata.add("web").id)
    await appear(lab, "web")
    await lab.stop("metadata")
    assert (await lab.do("logs", Logs(key="web", io=IoOpen(channel="c" * 32)), LogsEnd)).stdout_bytes == 3


async def test_record_with_an_expired_lease_is_adopted_or_removed(lab: Lab) -> None:
    """What a runtime that died left half made is settled by asking the host."""
    made = lab.metadata.add("made", phase="creating")
    never = lab.metadata.add("never", phase="creating")
    at_work = lab.metadata.add("at-work", phase="creating")
    lost = lab.metadata.add("lost", phase="created")
    lab.metadata.expired |= {made.id, never.id}
    lab.agent.add("made", made.id)
    await appear(lab, "made")
    await until(lambda: len(lab.metadata.settled) == 2, what="both are settled")
    assert sorted(lab.metadata.settled) == sorted([(made.id, "created"), (never.id, "absent")])
    assert {at_work.id, lost.id} <= set(lab.metadata.records)


async def test_record_whose_host_removed_the_container_is_removed(lab: Lab) -> None:
    """A tombstone settles a record, whatever was missed meanwhile."""
    record = lab.metadata.add("web")
    lab.agent.gone.add(record.id)
    lab.agent.add("witness")
    await appear(lab, "witness")
    await until(lambda: lab.metadata.settled == [(record.id, "absent")], what="it is settled")


async def test_host_that_is_not_heard_of_settles_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it made while nobody listened is not known, so its records stay."""
    monkeypatch.setattr("hythe_runtime.controller.settling.INTERVAL_S", 0.05)
    lab.agent.add("witness")
    await appear(lab, "witness")
    lab.agent.stop_beating()
    monkeypatch.setattr("hythe_runtime.controller.view.FRESH_S", -1.0)
    record = lab.metadata.add("web", phase="creating")
    lab.metadata.expired.add(record.id)
    await lab.agent.report(lab.agent.add("another"))
    lists = lab.calls.lists
    await lab.agent.beat(change=lab.agent.change + 1)
    await until(lambda: lab.calls.lists > lists, what="records were compared")
    await lab.list()
    assert lab.metadata.settled == []


async def test_heartbeat_and_status_for_another_host_are_ignored(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """A host speaks for itself alone: its key fixes the subject, and the body must agree with it."""
    with caplog.at_level(logging.ERROR):
        await lab.agent.beat(host="victim")
        status = lab.agent.add("forged").model_copy(update={"host": "victim", "change": 1, "instance": "x"})
        for body in (status.model_dump_json().encode(), b"not json", b'{"namespace":"other"}'):
            await lab.agent.say(subjects.status("default", HOST), body)
        await lab.agent.say(subjects.beat(HOST), b"[]")
        await until(
            lambda: sum("another host" in r.message or "not understood" in r.message for r in caplog.records) >= 5,
            what="all were noticed",
        )
    with pytest.raises(Unavailable, match="no agent is running on victim"):
        await lab.run(lab.order("web", host="victim"))
    hosts = {item.status.host for item in (await lab.list()).containers if item.status}
    assert "victim" not in hosts


async def test_commands_without_runtimes_knowledge_of_the_host_fail_by_name(lab: Lab) -> None:
    """A record on a host that never was heard of cannot be reached, and the error names the host."""
    lab.metadata.add("far", host="far-away")
    for verb, request in (("stop", Stop(key="far")), ("remove", Remove(key="far"))):
        started = time.monotonic()
        with pytest.raises(Unavailable, match="far-away"):
            await lab.do(verb, request, RunResult)
        assert time.monotonic() - started < 2.0


async def test_commands_right_after_the_start_wait_for_the_first_heartbeat(lab: Lab) -> None:
    """A runtime that was just started anew knows its hosts before it answers about them."""
    lab.agent.add("web", lab.metadata.add("web").id)
    await lab.stop_runtime()
    lab.agent.stop_beating()
    second = await lab.peers.process("runtime")
    async with build(second):
        asyncio.get_running_loop().call_later(0.5, lab.agent.start_beating)
        (listed,) = (await lab.list()).containers
        assert (listed.stale, listed.status is not None) == (False, True)
        assert (await lab.do("stop", Stop(key="web"), RunResult)).status.exit_code == 143


async def test_two_runtimes_share_the_work(lab: Lab) -> None:
    """A second runtime answers too; together they do each request once."""
    second = await lab.peers.process("runtime")
    async with build(second):
        results = await asyncio.gather(*(lab.run(lab.order(f"c{n}")) for n in range(20)), return_exceptions=True)
        assert [r for r in results if isinstance(r, HytheError)] == []
        assert lab.calls.made.count("agent.container.run") == 20
