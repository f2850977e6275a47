"""A container's life on one host, with real runc and conmon."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hythe.errors import Conflict, FailedPrecondition, NotFound, ResourceExhausted, Unavailable
from hythe.ports.snapshots import Mount
from hythe_runtime.agent.adapters import programs
from hythe_runtime.agent.model import Bundle, Epoch, Intent
from hythe_runtime.agent.stdio import Channel
from tests.fakes.bundles import FakeBundles
from tests.fixtures.agents import NAMESPACE, AgentLab, fill, process_exists
from tests.fixtures.waiting import eventually_async

BUSYBOX = Path("/bin/busybox").read_bytes()
TASK_TOPICS = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]


async def test_command_that_prints_and_exits_gives_its_output_and_code(lab: AgentLab) -> None:
    """What a command prints arrives, stdout and stderr apart, and its exit code with the final offsets."""
    over = lab.channel()
    status = await lab.run("sh", "-c", "echo out; echo err >&2; exit 7", channel=over)
    received = await lab.received(over)
    assert status.record.state == "exited"
    assert status.record.exit is not None and status.record.exit.code == 7
    assert received.streams == {"stdout": b"out\n", "stderr": b"err\n"}
    assert received.end is not None
    assert (received.end[0].code, *received.end[1:]) == (7, 4, 4, "")
    assert [s.record.state for s in lab.started] == ["running"]


async def test_megabyte_printed_before_an_immediate_exit_loses_no_byte(lab: AgentLab) -> None:
    """A process may print a megabyte and be gone: every byte arrives, binary ones and a missing last newline too."""
    over = lab.channel(64 << 10)
    await lab.run("sh", "-c", "dd if=/bin/busybox bs=1000003 count=1 2>/dev/null", channel=over, auto_remove=True)
    received = await lab.received(over)
    assert received.streams["stdout"] == BUSYBOX[:1000003]
    assert received.streams["stderr"] == b""
    assert received.gaps == 0


async def test_short_lines_on_both_streams_stay_whole_and_apart(lab: AgentLab) -> None:
    """Ten thousand lines, alternating between stdout and stderr, arrive exactly."""
    over = lab.channel()
    script = "i=0; while [ $i -lt 5000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done"
    await lab.run("sh", "-c", script, channel=over)
    received = await lab.received(over)
    assert received.streams["stdout"] == b"".join(b"out %d\n" % i for i in range(5000))
    assert received.streams["stderr"] == b"".join(b"err %d\n" % i for i in range(5000))


async def test_client_that_takes_nothing_holds_nobody_up(lab: AgentLab) -> None:
    """A client without credit neither blocks the container nor its answer, and loses nothing when it comes back."""
    over = lab.channel(0)
    async with asyncio.timeout(20):
        status = await lab.run("sh", "-c", "yes | head -c 3000000", channel=over, auto_remove=True)
        await lab.gone(status.record.id)
    assert lab.transport.channel(over.id).streams["stdout"] == b""
    received = await lab.received(over)
    assert received.streams["stdout"] == b"y\n" * 1500000


async def test_container_with_auto_remove_leaves_nothing(lab: AgentLab) -> None:
    """Once it ended, no process, mount, cgroup, directory, log or bundle of it is left, and its events are told."""
    status = await lab.run("true", auto_remove=True)
    assert status.record.exit is not None and status.record.exit.code == 0
    await lab.gone(status.record.id)
    assert lab.left_behind() == []
    assert lab.bundles.prepared == set()
    await eventually_async(_is(lambda: lab.topics(status.record.id) == TASK_TOPICS))
    assert lab.outlet.statuses[-1].record.state == "removed"


async def test_answer_comes_after_exit_and_delete_are_durable_in_the_outbox(lab: AgentLab) -> None:
    """Who has the answer may forget the container: its last events are on disk, not yet on the bus."""
    lab.store.fail_before = 1 << 30
    status = await lab.run("true", auto_remove=True)
    events = lab.book.ledger.owed[status.record.id]
    assert [event.topic for event in events] == TASK_TOPICS
    lab.store.fail_before = 0
    lab.outbox.bus_is_back()
    await eventually_async(_is(lambda: lab.outbox.waiting == 0))


async def test_kept_container_has_only_its_log_and_bundle_after_its_end(lab: AgentLab) -> None:
    """An ended container uses neither process, mount nor cgroup; its output stays until it is removed."""
    status = await lab.run("echo", "kept")
    record = status.record
    place = lab.places.run_of(record)
    await eventually_async(_is(lambda: not place.directory.exists()))
    assert [p for p in lab.left_behind() if "/bundle/" not in p] == [str(place.log)]
    removed = await lab.supervisor.remove(NAMESPACE, record.id, record.epoch, force=False)
    assert removed.record.state == "removed"
    assert lab.left_behind() == []
    assert lab.bundles.prepared == set()
    with pytest.raises(NotFound):
        lab.supervisor.inspect(NAMESPACE, record.id)
    await eventually_async(_is(lambda: lab.topics(record.id) == TASK_TOPICS))


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("nosuch", "127", "executable file not found"),
        ("/no/such", "127", "no such file or directory"),
        ("/etc/plain", "126", "permission denied"),
        ("/etc", "126", "permission denied"),
    ],
)
async def test_command_that_cannot_run_is_refused_and_nothing_is_left(
    lab: AgentLab, command: str, code: str, words: str
) -> None:
    """The error has runc's own words and the shell's exit code; every trace of the attempt is gone with the answer."""
    intent = lab.intent(command)
    over = lab.channel()
    with pytest.raises(FailedPrecondition) as caught:
        await lab.run_intent(intent, over)
    error = caught.value
    assert error.phase == "runc create"
    assert error.details["exit_code"] == code
    assert words in error.cause
    assert error.outcome == "not started"
    assert lab.left_behind() == []
    assert lab.bundles.prepared == set()
    assert intent.id in lab.book.ledger.tombstones
    await eventually_async(_is(lambda: lab.outputs.count == 0))
    assert lab.transport.channel(over.id).end is None
    assert lab.topics(intent.id) == []


async def test_bundle_that_cannot_be_made_closes_the_journal_entry(lab: AgentLab) -> None:
    """When the bundle service refuses, its error is the answer, and nothing is left of the container."""
    lab.bundles.failure = Unavailable("ask bundle.bundle.prepare: bundle is not running", service="bundle")
    intent = lab.intent("true")
    with pytest.raises(Unavailable, match="bundle is not running"):
        await lab.run_intent(intent, wait=False)
    assert lab.left_behind() == []
    assert intent.id not in lab.book.ledger.records
    with pytest.raises(FailedPrecondition, match="was removed here"):
        await lab.run_intent(intent)


async def test_mount_that_fails_is_undone(lab: AgentLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root file system that cannot be mounted is a clear error that leaves nothing."""
    lab.bundles = BrokenMounts(lab.places.bundles, lab.directory)
    await lab.stop()
    await lab.start()
    with pytest.raises(FailedPrecondition) as caught:
        await lab.run("true")
    assert caught.value.phase == "mount"
    assert "No such file or directory" in caught.value.cause
    assert lab.left_behind() == []


class BrokenMounts(FakeBundles):
    """Bundles whose lower directory is not there."""

    async def prepare(self, intent: Intent, cgroup: str) -> Bundle:
        """Make a bundle that cannot be mounted."""
        (self._base / "bin").mkdir(exist_ok=True)
        bundle = await super().prepare(intent, cgroup)
        options = ("lowerdir=/no/such/layer", *bundle.mounts[0].options[1:])
        return replace(bundle, mounts=(Mount("overlay", "overlay", "", options),))


async def test_root_of_120_layers_is_mounted(lab: AgentLab) -> None:
    """More layers than one page of mount options can name are no obstacle."""

    class ManyLayers(FakeBundles):
        async def prepare(self, intent: Intent, cgroup: str) -> Bundle:
            bundle = await super().prepare(intent, cgroup)
            layers = [str(self._base)]
            for number in range(119):
                layer = Path(bundle.path) / "layers" / f"a-long-name-of-a-layer-so-that-one-page-is-too-small-{number}"
                layer.mkdir(parents=True)
                (layer / f"file{number}").touch()
                layers.insert(0, str(layer))
            options = (f"lowerdir={':'.join(layers)}", *bundle.mounts[0].options[1:])
            assert len(",".join(options)) > 4096
            return replace(bundle, mounts=(Mount("overlay", "overlay", "", options),))

    lab.bundles = ManyLayers(lab.places.bundles, lab.bundles._base)
    await lab.stop()
    await lab.start()
    over = lab.channel()
    await lab.run("sh", "-c", "echo /file*", channel=over, auto_remove=True)
    assert len((await lab.received(over)).streams["stdout"].split()) == 119


async def test_repeated_request_joins_and_another_body_is_a_conflict(lab: AgentLab) -> None:
    """A retry never makes a second container; the same id for something else is refused."""
    intent = lab.intent("sh", "-c", "sleep 0.3; exit 3")
    first, second = await asyncio.gather(lab.run_intent(intent), lab.run_intent(intent))
    assert first.record.exit == second.record.exit
    assert first.record.pid == second.record.pid
    assert len(lab.board.page("", 10).statuses) == 1
    with pytest.raises(Conflict):
        await lab.run_intent(replace(intent, name="other"))
    assert (await lab.run_intent(intent)).record.exit == first.record.exit


async def test_detached_container_runs_on_and_is_stopped_by_its_signal(lab: AgentLab) -> None:
    """Stop sends the container's stop signal and answers with the exit code that the command chose."""
    script = "trap 'echo bye; exit 5' USR1; echo ready; while true; do sleep 0.05; done"
    status = await lab.run("sh", "-c", script, wait=False, stop_signal="SIGUSR1")
    record = status.record
    assert record.state == "running"
    log = lab.places.run_of(record).log
    await eventually_async(_is(lambda: b"ready" in log.read_bytes()))
    ended = await lab.supervisor.stop(NAMESPACE, record.id, record.epoch, None, None)
    assert ended.record.exit is not None and ended.record.exit.code == 5
    assert b"bye" in log.read_bytes()
    again = await lab.supervisor.stop(NAMESPACE, record.id, record.epoch, None, None)
    assert again.record.exit == ended.record.exit


async def test_container_that_ignores_its_stop_signal_is_killed(lab: AgentLab) -> None:
    """After the timeout SIGKILL ends what would not end."""
    record = (await lab.run("sh", "-c", "trap '' TERM; while true; do sleep 0.05; done", wait=False)).record
    started = asyncio.get_running_loop().time()
    ended = await lab.supervisor.stop(NAMESPACE, record.id, record.epoch, None, 0.3)
    assert ended.record.exit is not None and ended.record.exit.code == 137
    assert asyncio.get_running_loop().time() - started < 5


async def test_stop_gives_up_a_container_whose_bundle_is_still_made(lab: AgentLab) -> None:
    """Stopping during a long pull ends the creation and leaves nothing."""
    lab.bundles.gate.clear()
    intent = lab.intent("true")
    running = asyncio.create_task(lab.run_intent(intent))
    place = lab.places.run(NAMESPACE, intent.id, 1)
    await eventually_async(_is(lambda: place.directory.exists()))
    status = await lab.supervisor.stop(NAMESPACE, intent.id, intent.epoch, None, None)
    assert status.record.state == "removed"
    with pytest.raises(FailedPrecondition, match="stopped before it was started"):
        await running
    assert lab.left_behind() == []


async def test_kill_sends_one_signal(lab: AgentLab) -> None:
    """Any signal can be sent by name; a container that ended takes none."""
    script = "trap 'exit 9' HUP; echo ready; while true; do sleep 0.05; done"
    record = (await lab.run("sh", "-c", script, wait=False)).record
    log = lab.places.run_of(record).log
    await eventually_async(_is(lambda: b"ready" in log.read_bytes()))
    await lab.supervisor.kill(NAMESPACE, record.id, record.epoch, "hup")
    await eventually_async(_is(lambda: lab.get(record.id).state == "exited"))
    assert lab.get(record.id).exit is not None
    with pytest.raises(FailedPrecondition, match="it is exited"):
        await lab.supervisor.kill(NAMESPACE, record.id, record.epoch, "TERM")


async def test_remove_needs_force_for_a_running_container(lab: AgentLab) -> None:
    """Removing never kills unless asked to; with force it kills and leaves nothing."""
    record = (await lab.run("sleep", "100", wait=False)).record
    with pytest.raises(FailedPrecondition, match="it is running"):
        await lab.supervisor.remove(NAMESPACE, record.id, record.epoch, force=False)
    removed = await lab.supervisor.remove(NAMESPACE, record.id, record.epoch, force=True)
    assert removed.record.state == "removed"
    assert lab.left_behind() == []
    with pytest.raises(NotFound) as caught:
        await lab.supervisor.remove(NAMESPACE, record.id, record.epoch, force=True)
    assert caught.value.outcome == "done"


async def test_two_removals_at_once_both_succeed(lab: AgentLab) -> None:
    """Whoever comes second waits for the same removal."""
    record = (await lab.run("true")).record
    both = await asyncio.gather(
        *(lab.supervisor.remove(NAMESPACE, record.id, record.epoch, force=True) for _ in range(2))
    )
    assert [status.record.state for status in both] == ["removed", "removed"]


async def test_removal_does_not_wait_for_a_bundle_service_that_is_away(lab: AgentLab) -> None:
    """Removing works without the bundle service; the bundle goes when that is back."""
    record = (await lab.run("true")).record
    lab.bundles.away = Unavailable("bundle is not running")
    status = await lab.supervisor.remove(NAMESPACE, record.id, record.epoch, force=False)
    assert status.record.state == "removing"
    assert lab.bundles.prepared == {record.id}
    lab.bundles.away = None
    await lab.gone(record.id)
    assert lab.bundles.prepared == set()


async def test_overtaken_command_is_refused_even_by_the_next_agent(lab: AgentLab) -> None:
    """The highest epoch seen is remembered across restarts."""
    record = (await lab.run("sleep", "100", wait=False)).record
    with pytest.raises(FailedPrecondition):
        await lab.supervisor.remove(NAMESPACE, record.id, Epoch(9, 9), force=False)
    await lab.stop()
    await lab.start()
    with pytest.raises(FailedPrecondition, match=r"epoch 1\.1 is older than 9\.9"):
        await lab.supervisor.stop(NAMESPACE, record.id, record.epoch, None, None)
    assert lab.get(record.id).state == "running"


async def test_container_of_another_namespace_is_not_found(lab: AgentLab) -> None:
    """Knowing an id is not enough: the namespace is part of the name."""
    record = (await lab.run("true")).record
    with pytest.raises(NotFound):
        lab.supervisor.inspect("other", record.id)
    with pytest.raises(NotFound):
        await lab.supervisor.remove("other", record.id, record.epoch, force=True)


async def test_disk_below_the_reserve_takes_no_new_container(lab: AgentLab) -> None:
    """Below the reserve a run is refused at once, and leaves nothing."""
    await lab.stop()
    lab.reserve_bytes = 1 << 60
    await lab.start()
    with pytest.raises(ResourceExhausted, match="less than the reserve"):
        await lab.run("true")
    assert lab.left_behind() == []


async def test_missing_program_is_named_and_nothing_is_left(lab: AgentLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without conmon or runc nothing can run, and the error says what to install."""
    monkeypatch.setenv("PATH", str(lab.directory))
    with pytest.raises(FailedPrecondition, match="find conmon: it is not installed") as caught:
        await lab.run("true")
    assert caught.value.next_step == "apt-get install conmon"
    monkeypatch.undo()
    assert lab.left_behind() == []
    assert lab.bundles.prepared == set()


async def test_full_disk_stops_and_removes_what_runs_and_refuses_what_is_new(
    busybox_base: Path, tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    """With not a byte free, running containers can be stopped, their exits recorded and removed; new ones are refused."""
    directory = small_disk(32) / "host"
    directory.mkdir()
    lab = AgentLab(directory, busybox_base, state=tmp_path / "state")
    await lab.start()
    try:
        record = (await lab.run("sleep", "100", wait=False)).record
        fill(lab.directory / "filler")
        with pytest.raises(ResourceExhausted) as caught:
            await lab.run("true")
        assert "No space left on device" in caught.value.cause
        stopped = await lab.supervisor.stop(NAMESPACE, record.id, Epoch(1, 2), "KILL", None)
        assert stopped.record.exit is not None and stopped.record.exit.code == 137
        await lab.stop()
        await lab.start()
        ended = lab.get(record.id)
        assert (ended.state, ended.exit, ended.epoch) == ("exited", stopped.record.exit, Epoch(1, 2))
        await lab.supervisor.remove(NAMESPACE, record.id, Epoch(1, 2), force=False)
        assert lab.left_behind() == []
    finally:
        await lab.stop()
        lab.destroy()


async def test_names_too_long_for_a_socket_address_are_no_obstacle(busybox_base: Path, tmp_path: Path) -> None:
    """The longest namespace below a deep directory: input reaches the container all the same."""
    lab = AgentLab(tmp_path, busybox_base, state=tmp_path / ("d" * 100))
    await lab.start()
    try:
        over = Channel("n" * 76, lab.channel().id, 1 << 20)
        intent = replace(lab.intent("cat", stdin=True, auto_remove=True), namespace="n" * 76)
        running = asyncio.create_task(lab.run_intent(intent, over))
        await eventually_async(_is(lambda: bool(lab.transport.channel(over.id).grants)))
        lab.inputs.take(over.namespace, over.id, 0, b"hi")
        lab.inputs.take(over.namespace, over.id, 2, b"")
        assert (await running).record.exit is not None
        await lab.gone(intent.id)
        assert lab.transport.channel(over.id).streams["stdout"] == b"hi"
    finally:
        await lab.stop()
        lab.destroy()


async def test_monitor_runs_apart_from_the_agent_with_nothing_of_it(lab: AgentLab) -> None:
    """conmon gets a clean environment and none of the agent's descriptors, and lives in its own cgroup everywhere."""
    record = (await lab.run("sleep", "100", wait=False)).record
    assert record.conmon is not None
    conmon = Path(f"/proc/{record.conmon.pid}")
    variables = {line.split(b"=")[0] for line in (conmon / "environ").read_bytes().split(b"\0") if line}
    assert variables == {b"PATH", b"_OCI_STARTPIPE", b"_OCI_SYNCPIPE"}
    directory = str(lab.places.run_of(record).directory)
    targets = {str(fd.readlink()) for fd in (conmon / "fd").iterdir()}
    allowed = (
        directory,
        str(lab.places.logs),
        "/dev/null",
        "pipe:",
        "socket:",
        "anon_inode:",
        "/proc/",
        "/sys/fs/cgroup/",
    )
    assert [target for target in targets if not target.startswith(allowed)] == []
    for path in (line.rsplit(":", 1)[1] for line in (conmon / "cgroup").read_text().split()):
        assert path == lab.places.monitors_cgroup
    container = Path(f"/proc/{record.pid}")
    assert lab.places.run_of(record).cgroup in (container / "cgroup").read_text()
    assert b"_OCI" not in (container / "environ").read_bytes()


async def test_container_runs_with_an_ordinary_umask(lab: AgentLab) -> None:
    """The agent's own strict umask does not become the container's."""
    over = lab.channel()
    await lab.run("sh", "-c", "umask", channel=over, auto_remove=True)
    assert (await lab.received(over)).streams["stdout"] == b"0022\n"


async def test_container_has_the_limits_that_the_agent_was_started_with(lab: AgentLab) -> None:
    """The agent raises its own limit of open files, not the container's."""
    over = lab.channel()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    programs.raise_descriptor_limit()
    try:
        await lab.run("sh", "-c", "ulimit -n", channel=over, auto_remove=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert int((await lab.received(over)).streams["stdout"]) == before[0]


async def test_many_containers_at_once_neither_fail_nor_leak(lab: AgentLab) -> None:
    """Thirty containers of one namespace that start and end together don't stand in each other's way."""
    everybody = await asyncio.gather(*(lab.run("sh", "-c", f"exit {n}", auto_remove=True) for n in range(30)))
    assert [s.record.exit.code for s in everybody if s.record.exit] == list(range(30))
    for status in everybody:
        await lab.gone(status.record.id)
    assert lab.left_behind() == []
    assert lab.bundles.prepared == set()


async def test_lost_monitor_ends_the_container_with_an_unknown_code(lab: AgentLab) -> None:
    """When conmon is killed nobody can learn the exit code: that is said, and nothing runs on unwatched."""
    record = (await lab.run("sleep", "100", wait=False)).record
    assert record.conmon is not None
    fd = record.conmon.open_pidfd()
    assert fd is not None
    _kill(fd)
    await eventually_async(_is(lambda: lab.get(record.id).state == "exited"))
    ended = lab.get(record.id)
    assert ended.exit is not None and ended.exit.code is None
    assert ended.reason == "the monitor was lost, exit code unknown"
    await eventually_async(_is(lambda: not process_exists(record.pid)))
    await eventually_async(_is(lambda: not lab.places.run_of(record).directory.exists()))


def _kill(pidfd: int) -> None:
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)


def _is(condition: Callable[[], bool]) -> Callable[[], asyncio.Future[bool]]:
    async def met() -> bool:
        return condition()

    return lambda: asyncio.ensure_future(met())
