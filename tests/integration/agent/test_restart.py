"""What the next agent finds and does: adopt what runs, learn what ended, undo what was begun, remove what is dead."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from hythe import clock
from hythe.errors import Unavailable
from hythe.identifiers import new_id
from hythe.process import ProcessIdentity
from hythe_runtime.agent.adapters.conmon import Conmon
from hythe_runtime.agent.adapters.mounts import KernelMounts, unmount_below
from hythe_runtime.agent.book import Book
from hythe_runtime.agent.entries import Asked, Created, Prepared, Started, StepEntry
from hythe_runtime.agent.model import Bundle, Exit, Intent
from hythe_runtime.agent.stdio import View
from tests.fixtures.agents import NAMESPACE, AgentLab, mounted, process_exists
from tests.fixtures.waiting import eventually_async


async def test_running_container_is_adopted_and_its_end_is_learnt(lab: AgentLab) -> None:
    """A container runs on without an agent; the next one shows its output and reports its exit, once."""
    script = "echo before; while [ ! -e /go ]; do sleep 0.05; done; echo after; exit 4"
    record = (await lab.run("sh", "-c", script, wait=False)).record
    assert record.bundle is not None
    await lab.stop()
    await lab.start()
    adopted = lab.get(record.id)
    assert (adopted.state, adopted.pid, adopted.conmon) == ("running", record.pid, record.conmon)
    (Path(record.bundle.rootfs) / "go").touch()
    over = lab.channel()
    logs = asyncio.create_task(lab.supervisor.logs(NAMESPACE, record.id, over, View()))
    assert (await lab.received(over)).streams["stdout"] == b"before\nafter\n"
    assert await logs == (13, 0)
    ended = lab.get(record.id)
    assert ended.exit is not None and ended.exit.code == 4
    await lab.supervisor.remove(NAMESPACE, record.id, record.epoch, force=False)
    await _until(lambda: lab.outbox.waiting == 0)
    assert lab.topics(record.id) == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]


async def test_adopted_container_can_be_stopped(lab: AgentLab) -> None:
    """Commands work on what an earlier agent started."""
    record = (await lab.run("sleep", "100", wait=False)).record
    await lab.stop()
    await lab.start()
    status = await lab.supervisor.stop(NAMESPACE, record.id, record.epoch, "KILL", None)
    assert status.record.exit is not None and status.record.exit.code == 137


async def test_container_that_ended_without_an_agent_has_its_true_exit_code(lab: AgentLab) -> None:
    """The exit code waits for the next agent."""
    record = (await lab.run("sh", "-c", "sleep 0.2; exit 6", wait=False)).record
    await lab.stop()
    await _until(lambda: lab.places.run_of(record).exit_file.exists())
    conmon = record.conmon
    assert conmon is not None
    await _until(lambda: not conmon.alive())
    await lab.start()
    await _until(lambda: lab.get(record.id).state == "exited")
    ended = lab.get(record.id)
    assert ended.exit is not None and ended.exit.code == 6
    assert ended.finished_at > record.started_at
    await _until(lambda: not lab.places.run_of(record).directory.exists())


async def test_container_with_auto_remove_that_ended_without_an_agent_is_removed(lab: AgentLab) -> None:
    """`--rm` is the agent's work, whenever it comes to it."""
    record = (await lab.run("sleep", "0.2", wait=False, auto_remove=True)).record
    await lab.stop()
    conmon = record.conmon
    assert conmon is not None
    await _until(lambda: not conmon.alive())
    await lab.start()
    await lab.gone(record.id)
    assert lab.left_behind() == []
    await _until(lambda: lab.outbox.waiting == 0)
    assert lab.topics(record.id)[-2:] == ["/tasks/exit", "/tasks/delete"]


async def test_monitor_that_died_without_an_agent_is_said_to_be_lost(lab: AgentLab) -> None:
    """No exit code is made up, and the container that nobody watched does not run on."""
    record = (await lab.run("sleep", "100", wait=False)).record
    await lab.stop()
    conmon = record.conmon
    assert conmon is not None
    os.kill(conmon.pid, signal.SIGKILL)
    await _until(lambda: not conmon.alive())
    await lab.start()
    await _until(lambda: lab.get(record.id).state == "exited")
    assert lab.get(record.id).exit == Exit(None, "the monitor was lost, exit code unknown")
    await _until(lambda: not process_exists(record.pid))


async def test_reboot_ends_every_container_with_an_unknown_code(lab: AgentLab) -> None:
    """After a reboot nothing of the old boot is believed to run."""
    await lab.stop()
    intent = lab.intent("sleep", "100")
    await _journal(lab, intent, started=True)
    await lab.start()
    await _until(lambda: lab.get(intent.id).state == "exited")
    assert lab.get(intent.id).reason == "the host was rebooted, exit code unknown"


async def test_intent_without_a_monitor_is_undone(lab: AgentLab) -> None:
    """A container that was asked for and never made leaves a tombstone and nothing else; its bundle goes too."""
    await lab.stop()
    intent = lab.intent("true")
    bundle = await lab.bundles.prepare(intent, lab.places.container_cgroup(NAMESPACE, intent.id))
    await KernelMounts().mount(bundle)
    await _journal(lab, intent)
    lab.bundles.away = Unavailable("bundle is not running")
    await lab.start()
    await _until(lambda: lab.get(intent.id).state == "removing")
    await _until(lambda: not mounted(bundle.rootfs))
    assert lab.bundles.prepared == {intent.id}
    lab.bundles.away = None
    await lab.gone(intent.id)
    assert lab.left_behind() == []
    assert lab.topics(intent.id) == []


async def test_monitor_that_was_never_let_go_is_ended(lab: AgentLab) -> None:
    """An agent that dies between starting conmon and letting it go leaves it waiting; the next one ends it."""
    await lab.stop()
    intent = lab.intent("true")
    await _journal(lab, intent)
    monitors = Conmon(lab.places, lab.cgroups, lab.runtime)
    monitor = await monitors.launch(lab.places.run(NAMESPACE, intent.id, 1), stdin=False)
    assert monitor.process is not None
    assert list(await monitors.alive()) == [lab.places.run(NAMESPACE, intent.id, 1).directory]
    monitor.close()
    await lab.start()
    await lab.gone(intent.id)
    assert await monitors.alive() == {}
    monitor.process.wait()
    assert lab.left_behind() == []


async def test_created_container_is_deleted_never_started(lab: AgentLab) -> None:
    """An agent that dies between create and start leaves a container that the next one deletes."""
    await lab.stop()
    intent = lab.intent("true")
    place = lab.places.run(NAMESPACE, intent.id, 1)
    bundle = await lab.bundles.prepare(intent, place.cgroup)
    await _journal(lab, intent, bundle=bundle)
    monitor = await Conmon(lab.places, lab.cgroups, lab.runtime).launch(place, stdin=False)
    await KernelMounts().mount(bundle)
    place.bundle.symlink_to(bundle.path)
    pid = await monitor.create()
    monitor.close()
    await lab.start()
    await lab.gone(intent.id)
    assert not process_exists(pid)
    assert lab.left_behind() == []


async def test_pending_answer_of_a_monitor_is_awaited_before_the_undoing(lab: AgentLab) -> None:
    """An agent that dies in the middle of runc create: the next one lets it finish, then removes all of it."""
    await lab.stop()
    intent = lab.intent("true")
    place = lab.places.run(NAMESPACE, intent.id, 1)
    bundle = await lab.bundles.prepare(intent, place.cgroup)
    await _journal(lab, intent, bundle=bundle)
    monitor = await Conmon(lab.places, lab.cgroups, lab.runtime).launch(place, stdin=False)
    await KernelMounts().mount(bundle)
    place.bundle.symlink_to(bundle.path)
    create = asyncio.create_task(monitor.create())
    await _until(lambda: place.conmon_pid.exists())
    create.cancel()
    await asyncio.wait([create])
    monitor.close()
    await lab.start()
    await lab.gone(intent.id)
    assert lab.left_behind() == []


async def test_run_that_the_journal_does_not_know_is_removed_when_it_is_dead(lab: AgentLab) -> None:
    """Run directories, cgroups and mounts without a journal entry go when nothing of them lives."""
    await lab.stop()
    intent = lab.intent("true")
    place = lab.places.run(NAMESPACE, intent.id, 1)
    bundle = await lab.bundles.prepare(intent, place.cgroup)
    monitor = await Conmon(lab.places, lab.cgroups, lab.runtime).launch(place, stdin=False)
    await KernelMounts().mount(bundle)
    place.bundle.symlink_to(bundle.path)
    await monitor.create()
    monitor.close()
    other = await lab.bundles.prepare(lab.intent("true"), "/x")
    await KernelMounts().mount(other)
    await lab.start()
    assert not place.directory.exists()
    assert not mounted(bundle.rootfs)
    assert not mounted(other.rootfs)
    assert await lab.runtime.states() == {}
    shutil.rmtree(lab.places.bundles)
    shutil.rmtree(lab.places.logs)


async def test_living_container_that_the_journal_does_not_know_is_left_alone(lab: AgentLab) -> None:
    """A lost journal ends no container: only a tombstone may."""
    record = (await lab.run("sleep", "100", wait=False)).record
    await lab.stop()
    shutil.rmtree(lab.places.journal)
    await lab.start()
    assert lab.board.get(record.id) is None
    assert process_exists(record.pid)
    assert record.bundle is not None and mounted(record.bundle.rootfs)
    await lab.runtime.delete(record.id)
    await _until(lambda: record.conmon is not None and not record.conmon.alive())
    await lab.cgroups.remove(lab.places.run_of(record).cgroup)
    unmount_below(lab.places.bundles)
    for directory in (lab.places.runs, lab.places.bundles, lab.places.logs):
        shutil.rmtree(directory)


async def test_events_are_neither_lost_nor_repeated_across_agents(lab: AgentLab) -> None:
    """An agent that could not tell its events leaves them to the next, which first looks what was stored."""
    lab.store.fail_after = 1
    record = (await lab.run("true")).record
    await _until(lambda: len(lab.topics(record.id)) == 1)
    lab.store.fail_before = 1 << 30
    await lab.stop()
    lab.store.fail_before = 0
    await lab.start()
    await _until(lambda: lab.outbox.waiting == 0)
    assert lab.topics(record.id) == ["/tasks/create", "/tasks/start", "/tasks/exit"]


async def test_removed_container_stays_removed_for_the_next_agent(lab: AgentLab) -> None:
    """The list says which ids were removed here, across restarts."""
    record = (await lab.run("true", auto_remove=True)).record
    await lab.gone(record.id)
    await lab.stop()
    await lab.start()
    page = lab.board.page("", 100)
    assert page.gone == (record.id,)
    assert page.statuses == ()


async def _journal(lab: AgentLab, intent: Intent, *, bundle: Bundle | None = None, started: bool = False) -> None:
    """Write the journal of an agent that died."""
    book = Book(lab.places.journal)
    await book.open()
    await book.record(Asked(intent))
    steps: list[StepEntry] = []
    if started:
        bundle = bundle or Bundle(str(lab.directory / "none"), str(lab.directory / "none" / "rootfs"), (), (), "")
    if bundle is not None:
        steps.append(Prepared(intent.id, bundle))
    if started:
        conmon = ProcessIdentity(os.getpid(), 1, boot_id=new_id())
        steps.append(Created(intent.id, clock.now_rfc3339(), "", conmon, 1))
        steps.append(Started(intent.id, clock.now_rfc3339(), ""))
    if steps:
        book.note(*steps)
    await asyncio.to_thread(book.close)


async def _until(condition: Callable[[], bool]) -> None:
    async def met() -> bool:
        return condition()

    await eventually_async(met)
