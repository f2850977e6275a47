"""`hythe up`, `down` and `status` with the real services: starts, crashes, clearing away."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.lab.stack import Stack
from tests.fixtures.secured_bus import other_nats_server
from tests.fixtures.waiting import eventually

MakeStack = Callable[..., Stack]


def _rows(stack: Stack) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in stack.hythe("status", "--json").stdout.splitlines()]
    return {row["name"]: row for row in rows}


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}/cwd").exists(), what=f"{pid} is gone")


def _address(stack: Stack) -> str:
    return str(json.loads((stack.state / "bus.json").read_text())["url"])


def test_bus_has_the_same_port_after_a_restart_of_the_stack(make_stack: MakeStack) -> None:
    """Whoever wrote the address down finds the bus again, and its events are still there."""
    stack = make_stack()
    stack.up()
    before = _address(stack)
    assert stack.down().code == 0
    assert not stack.state.exists()
    stack.up()
    assert _address(stack) == before


def test_status_tells_dead_silent_and_healthy_apart(make_stack: MakeStack) -> None:
    """11 when nothing runs, 0 when all is well, 12 when a process hangs; each row says which."""
    stack = make_stack()
    done = stack.hythe("status")
    assert (done.code, "hythe up --detach" in done.stderr) == (11, True)
    stack.up()
    assert stack.hythe("status").code == 0
    rows = _rows(stack)
    assert list(rows) == [
        *("hythe up", "nats-server", "metadata", "distribution", "bundle", "runtime", "agent"),
    ]
    assert {row["health"] for row in rows.values()} == {"healthy"}
    assert all(rows[name]["metrics_port"] for name in ("metadata", "distribution", "bundle", "runtime", "agent"))
    os.kill(rows["bundle"]["pid"], signal.SIGSTOP)
    try:
        done = stack.hythe("status")
        assert done.code == 12
        assert done.seconds < 3
        assert {name for name, row in _rows(stack).items() if row["health"] != "healthy"} == {"bundle"}
        assert _rows(stack)["bundle"]["health"] == "silent"
    finally:
        os.kill(rows["bundle"]["pid"], signal.SIGCONT)


def test_down_is_harmless_when_there_is_nothing(make_stack: MakeStack) -> None:
    """Before the first start and after the last stop `hythe down` succeeds and says so."""
    stack = make_stack()
    done = stack.down()
    assert (done.code, "nothing to stop" in done.stdout) == (0, True)
    stack.up()
    for _ in range(2):
        done = stack.down()
        assert done.code == 0, done.stderr
        assert "the stack is down" in done.stdout
    assert stack.places.left_behind() == []


def test_down_clears_away_after_everything_was_killed(make_stack: MakeStack, busybox: str) -> None:
    """With supervisor, services and bus killed, containers are stopped with runc and nothing is left."""
    stack = make_stack()
    stack.up()
    assert stack.hythe("run", "-d", busybox, "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done").code == 0
    rows = _rows(stack)
    for name in ("hythe up", *(n for n in rows if n != "hythe up")):
        _kill(rows[name]["pid"])
    done = stack.down()
    assert done.code == 0, done.stderr
    assert "with runc" in done.stdout
    assert stack.places.settled() == []
    assert not stack.state.exists()


def test_down_finds_the_processes_of_a_killed_supervisor(make_stack: MakeStack) -> None:
    """kill -9 of `hythe up` leaves processes; `hythe down` stops each and names it."""
    stack = make_stack()
    stack.up()
    _kill(_rows(stack)["hythe up"]["pid"])
    done = stack.down()
    assert done.code == 0
    for name in ("agent", "runtime", "bundle", "distribution", "metadata", "nats-server"):
        assert f"stopped {name} " in done.stdout
    assert stack.places.settled() == []


def test_kept_containers_are_stopped_by_a_later_down(make_stack: MakeStack, busybox: str) -> None:
    """`down --keep` and then `down`: each gets its own stop signal, nothing is left, and the next `up` knows them ended."""
    stack = make_stack()
    stack.up()
    for name, number in (("kept", "INT"), ("brief", "TERM")):
        script = f"trap '' TERM; trap 'exit 0' {number}; while :; do sleep 0.1; done"
        options = ["--rm"] if name == "brief" else []
        done = stack.hythe("run", "-d", "--name", name, *options, "--stop-signal", number, busybox, "sh", "-c", script)
        assert done.code == 0, done.stderr
    assert stack.hythe("down", "--keep").code == 0
    assert any("trap" in command for command in stack.places.processes().values())
    down = stack.down()
    assert down.code == 0
    assert down.seconds < 8, "they ended by their own stop signals"
    assert stack.places.settled() == []
    stack.up()
    rows = eventually(lambda: _containers(stack) if len(_containers(stack)) == 1 else [], what="one container is known")
    assert [(row["name"], row["status"], row["exit_code"]) for row in rows] == [("kept", "exited", None)]
    assert stack.hythe("rm", "kept").code == 0
    assert _containers(stack) == []


def _containers(stack: Stack) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stack.hythe("ps", "-a", "--format", "json").stdout.splitlines()]


def test_processes_of_another_version_are_replaced_not_adopted(make_stack: MakeStack) -> None:
    """After an upgrade the next `hythe up` starts the new version's processes."""
    stack = make_stack()
    stack.up()
    before = _rows(stack)
    _kill(before["hythe up"]["pid"])
    path = stack.state / "up.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": "0.0.1"}))
    done = stack.up()
    assert "is of version 0.0.1: stopping it" in done.stderr
    after = _rows(stack)
    assert all(after[name]["pid"] != before[name]["pid"] for name in before)
    assert {row["health"] for row in after.values()} == {"healthy"}


def test_service_that_cannot_start_fails_the_start_and_leaves_nothing(make_stack: MakeStack) -> None:
    """The error names the service, shows the end of its log, and all that was started is stopped."""
    stack = make_stack()
    stack.root.mkdir(parents=True)
    (stack.root / "metadata").write_text("a file where a directory should be")
    done = stack.hythe("up", "--detach")
    assert done.code == 10
    assert "error: start metadata: it died before it was ready" in done.stderr
    assert f"see {stack.root}/log/metadata.log" in done.stderr
    assert stack.places.settled() == []
    assert stack.hythe("logs", "--service", "metadata").stdout != ""


def test_directory_of_others_is_refused_and_keeps_its_mode(make_stack: MakeStack, tmp_path: Path) -> None:
    """HYTHE_ROOT or HYTHE_STATE that names e.g. /var/lib is refused before anything there is changed."""
    (tmp_path / "theirs").touch()
    tmp_path.chmod(0o755)
    for setting in ("HYTHE_ROOT", "HYTHE_STATE"):
        done = make_stack(variables={setting: str(tmp_path)}).hythe("up", "--detach")
        assert done.code != 0
        assert f"give {setting} a directory of its own" in done.stderr
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert [entry.name for entry in tmp_path.iterdir()] == ["theirs"]


def test_bus_of_somebody_else_in_the_environment_is_refused(make_stack: MakeStack) -> None:
    """`hythe up` starts its own bus; with NATS_URL set the services would use another one."""
    stack = make_stack(variables={"NATS_URL": "nats://127.0.0.1:4222"})
    done = stack.hythe("up", "--detach")
    assert done.code == 6
    assert "NATS_URL" in done.stderr


def test_state_of_a_stack_with_another_root_is_refused(make_stack: MakeStack) -> None:
    """Two stacks cannot share a state directory; the first goes on."""
    first = make_stack()
    first.up()
    second = make_stack(variables={"HYTHE_STATE": str(first.state)})
    done = second.hythe("up", "--detach")
    assert done.code == 6
    assert "already up" in done.stderr
    assert first.hythe("status").code == 0


def test_debians_server_serves_a_whole_run_with_a_warning(make_stack: MakeStack, busybox: str, tmp_path: Path) -> None:
    """Where the pinned nats-server is missing, Debian's 2.9 does on loopback, and says what it cannot."""
    program = other_nats_server(tmp_path)
    assert program is not None, "the package archive has no nats-server"
    stack = make_stack(variables={"HYTHE_NATS_SERVER": str(program)})
    assert "warning: nats-server 2.9" in stack.up().stderr
    assert stack.hythe("run", "--rm", busybox, "echo", "old bus").stdout == "old bus\n"
    shown = stack.hythe("trace", "show", "last")
    assert (shown.code, "runc start" in shown.stdout) == (0, True)
    assert "hythe run" in stack.hythe("trace", "ls").stdout
    topics = [
        json.loads(x)["topic"]
        for x in stack.hythe("events", "--since", "1h", "--no-follow", "--json").stdout.splitlines()
    ]
    assert "/tasks/exit" in topics
    assert stack.hythe("doctor").code == 0


@pytest.mark.parametrize("process", ["metadata", "nats-server"])
def test_process_that_dies_is_started_again_and_the_restart_is_counted(make_stack: MakeStack, process: str) -> None:
    """`hythe status` shows how often a process had to be started again."""
    stack = make_stack()
    stack.up()
    before = _rows(stack)[process]
    _kill(before["pid"])

    def healthy_again() -> bool:
        rows = _rows(stack)
        return rows[process]["restarts"] == 1 and all(row["health"] == "healthy" for row in rows.values())

    eventually(healthy_again, timeout_s=20, what="all is healthy again")
