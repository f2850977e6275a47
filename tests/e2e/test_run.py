"""`hythe run` as a user meets it: output, exit codes, isolation, and nothing left behind."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from scripts.lab.leaks import Places, hierarchies
from scripts.lab.stack import Stack
from tests.fixtures.waiting import eventually


def _container_mounts(stack: Stack) -> list[str]:
    return [point for point in stack.places.mounts() if "/bundles/" in point]


def _container_cgroups(stack: Stack) -> list[Path]:
    return [path for top in hierarchies() for path in (top / stack.cgroup_parent).glob("**/ctr/*") if path.is_dir()]


def read_line(process: subprocess.Popen[str], timeout_s: float = 20.0) -> str:
    """Return the next line that `process` prints, or fail the test."""
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(target=lambda: lines.put(process.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]
    try:
        return lines.get(timeout=timeout_s)
    except queue.Empty:
        raise AssertionError(f"no line within {timeout_s} s") from None


def assert_nothing_of_containers(stack: Stack) -> None:
    """Fail unless no container has left a mount, a cgroup, a monitor, a run directory or a bundle in `stack`."""

    def left() -> list[object]:
        run_files = list((stack.state / "run").glob("*/*")) if (stack.state / "run").is_dir() else []
        bundles = list((stack.root / "bundle" / "bundles").glob("*/*"))
        logs = list((stack.root / "agent" / "logs").glob("*/*"))
        monitors = [c for c in stack.places.processes().values() if "conmon" in c.split(" ")[0]]
        return [*_container_mounts(stack), *_container_cgroups(stack), *run_files, *bundles, *logs, *monitors]

    eventually(lambda: not left(), what=f"nothing of a container is left; now {left()}")


def test_echo_is_printed_and_nothing_stays_behind(stack: Stack, busybox: str) -> None:
    """The first command of the README prints what the container says, exits 0, and `--rm` removes everything."""
    assert stack.hythe("pull", busybox).code == 0
    done = stack.hythe("run", "--rm", busybox, "echo", "hello from hythe")
    assert (done.code, done.stdout, done.stderr) == (0, "hello from hythe\n", "")
    assert_nothing_of_containers(stack)
    assert stack.hythe("ps", "-a", "-q").stdout == ""


def test_stdout_and_stderr_stay_apart(stack: Stack, busybox: str) -> None:
    """What a container writes to stderr arrives on stderr, the rest on stdout."""
    done = stack.hythe("run", "--rm", busybox, "sh", "-c", "echo out; echo err >&2; printf tail")
    assert (done.code, done.stdout, done.stderr) == (0, "out\ntail", "err\n")


@pytest.mark.parametrize("code", [1, 42, 255])
def test_exit_code_is_the_containers_own(stack: Stack, busybox: str, code: int) -> None:
    """`hythe run` exits with the container's exit code."""
    assert stack.hythe("run", "--rm", busybox, "sh", "-c", f"exit {code}").code == code


def test_death_by_signal_exits_with_128_plus_its_number(stack: Stack, busybox: str) -> None:
    """A container killed by SIGKILL from outside gives 137, as with every other engine."""
    running = stack.popen("run", "--rm", "--name", "victim", busybox, "sh", "-c", "echo ready; sleep 600")
    assert running.stdout is not None
    assert read_line(running) == "ready\n"
    os.kill(json.loads(stack.hythe("inspect", "victim").stdout)["pid"], signal.SIGKILL)
    assert running.wait(20) == 137
    assert_nothing_of_containers(stack)


def test_megabyte_printed_at_once_loses_no_byte(stack: Stack, busybox: str) -> None:
    """A process that prints 1 MB and exits at once loses nothing: every byte arrives, in order."""
    script = "i=0; while [ $i -lt 16 ]; do head -c 65536 /dev/zero | tr '\\0' a; echo; i=$((i+1)); done"
    done = stack.hythe("run", "--rm", busybox, "sh", "-c", script)
    assert done.code == 0
    assert done.stdout == ("a" * 65536 + "\n") * 16


def test_binary_output_arrives_exactly(stack: Stack, busybox: str, tmp_path: Path) -> None:
    """All 256 byte values, without a newline at the end, arrive as they were written."""
    script = 'i=0; while [ $i -lt 256 ]; do printf "\\\\$(printf %03o $i)"; i=$((i+1)); done'
    done = subprocess.run(
        [str(stack.program), "run", "--rm", busybox, "sh", "-c", script],
        env=stack.environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == bytes(range(256))


def test_slow_reader_loses_nothing_and_does_not_hold_the_agent(stack: Stack, busybox: str) -> None:
    """A reader that pauses gets every byte of 8 MB afterwards; meanwhile others run containers."""
    script = "head -c 8388608 /dev/zero | tr '\\0' x"
    slow = stack.popen("run", "--rm", busybox, "sh", "-c", script)
    assert slow.stdout is not None
    first = slow.stdout.read(10)
    assert stack.hythe("run", "--rm", busybox, "true").code == 0
    rest = slow.stdout.read()
    assert slow.wait(30) == 0
    assert first + rest == "x" * 8388608


def test_stdin_reaches_the_container_until_end_of_file(stack: Stack, busybox: str) -> None:
    """With `-i` what the command reads goes to the container, and end of file ends it."""
    done = stack.hythe("run", "--rm", "-i", busybox, "wc", "-c", stdin="x" * 300_000)
    assert (done.code, done.stdout.strip()) == (0, "300000")


def test_network_none_has_only_a_loopback_that_is_up(stack: Stack, busybox: str) -> None:
    """By default a container sees one interface, `lo`, and it is up."""
    done = stack.hythe("run", "--rm", busybox, "sh", "-c", "ls /sys/class/net; ip link show lo")
    assert done.stdout.splitlines()[0] == "lo"
    assert "UP" in done.stdout


def test_network_host_shares_the_hosts_interfaces(stack: Stack, busybox: str) -> None:
    """`--network host` uses the host's own network namespace."""
    done = stack.hythe("run", "--rm", "--network", "host", busybox, "readlink", "/proc/self/ns/net")
    assert done.stdout.strip() == str(Path("/proc/self/ns/net").readlink())


def test_options_reach_the_process(stack: Stack, busybox: str) -> None:
    """Environment, directory, user, host name and entry point are what the command line says."""
    done = stack.hythe(
        "run", "--rm", "-e", "COLOUR=blue", "-w", "/tmp", "-u", "65534", "--hostname", "hut", "--entrypoint", "sh",
        busybox, "-c", "echo $COLOUR $PWD $(id -u) $(hostname)",
    )  # fmt: skip
    assert (done.code, done.stdout) == (0, "blue /tmp 65534 hut\n"), done.stderr


def test_capabilities_are_the_default_fourteen_with_none_inheritable(stack: Stack, busybox: str) -> None:
    """A container has the usual 14 capabilities and an empty inheritable set, under seccomp."""
    done = stack.hythe("run", "--rm", busybox, "grep", "-E", "^(Cap|Seccomp:)", "/proc/self/status")
    found = dict(line.split(":\t") for line in done.stdout.splitlines())
    assert found["CapInh"] == "0" * 16
    assert int(found["CapEff"], 16).bit_count() == 14
    assert found["Seccomp"] == "2"


def test_detached_container_is_listed_logged_and_removed(stack: Stack, busybox: str) -> None:
    """`run -d` prints the id; `ps`, `logs`, `inspect` know the container; `rm -f` removes it with all it has."""
    started = stack.hythe("run", "-d", "--name", "clock", busybox, "sh", "-c", "echo tick; sleep 600")
    assert started.code == 0, started.stderr
    container_id = started.stdout.strip()
    try:
        assert len(container_id) == 32
        rows = [json.loads(line) for line in stack.hythe("ps", "--format", "json").stdout.splitlines()]
        assert [row["name"] for row in rows] == ["clock"]
        eventually(lambda: stack.hythe("logs", "clock").stdout == "tick\n", what="the log has the line")
        assert json.loads(stack.hythe("inspect", "clock").stdout)["id"] == container_id
        refused = stack.hythe("rm", "clock")
        assert refused.code != 0
        assert "rm -f" in refused.stderr
    finally:
        removed = stack.hythe("rm", "-f", container_id[:12])
    assert removed.code == 0, removed.stderr
    assert_nothing_of_containers(stack)
    assert stack.hythe("inspect", "clock").code != 0


def test_ended_container_stays_until_removed(stack: Stack, busybox: str) -> None:
    """Without `--rm` an ended container is listed by `ps -a` with its code and its log can be read; then it goes."""
    assert stack.hythe("run", "--name", "brief", busybox, "sh", "-c", "echo said; exit 3").code == 3
    rows = [json.loads(line) for line in stack.hythe("ps", "-a", "--format", "json").stdout.splitlines()]
    assert [(row["name"], row["status"], row["exit_code"]) for row in rows] == [("brief", "exited", 3)]
    assert stack.hythe("logs", "brief").stdout == "said\n"
    assert stack.hythe("rm", "brief").code == 0
    assert_nothing_of_containers(stack)


def test_interrupt_is_passed_to_the_container(stack: Stack, busybox: str) -> None:
    """SIGINT to `hythe run` reaches the container's process, and its own exit code comes back."""
    running = stack.popen(
        "run", "--rm", busybox, "sh", "-c", "trap 'exit 7' INT; echo ready; while :; do sleep 0.1; done"
    )
    assert running.stdout is not None
    assert read_line(running) == "ready\n"
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 7
    assert_nothing_of_containers(stack)


def test_killed_command_leaks_nothing(stack: Stack, busybox: str) -> None:
    """kill -9 of `hythe run --rm` leaves a container that runs to its end and is then removed with its name."""
    running = stack.popen("run", "--rm", "--name", "orphan", busybox, "sh", "-c", "echo ready; sleep 1")
    assert running.stdout is not None
    assert read_line(running) == "ready\n"
    running.kill()
    running.wait(10)
    eventually(lambda: stack.hythe("ps", "-a", "-q").stdout == "", timeout_s=20, what="the container is gone")
    assert_nothing_of_containers(stack)
    assert stack.hythe("run", "--rm", "--name", "orphan", busybox, "true").code == 0


def test_two_containers_at_once_do_not_mix_their_output(stack: Stack, busybox: str) -> None:
    """Eight runs at the same time each get their own output and code."""
    running = [stack.popen("run", "--rm", busybox, "sh", "-c", f"echo {n}; exit {n}") for n in range(8)]
    results = [(process.communicate(timeout=60)[0], process.returncode) for process in running]
    assert results == [(f"{n}\n", n) for n in range(8)]
    assert_nothing_of_containers(stack)


def test_events_show_a_run_live(stack: Stack, busybox: str) -> None:
    """`hythe events` shows create, start, exit and delete of a container as they happen, in order, numbered."""
    watching = stack.popen("events", "--format", "json")
    assert watching.stdout is not None
    try:
        assert watching.stderr is not None
        time.sleep(0.5)  # the subscription has no sign of its own; what comes before it is not shown
        assert stack.hythe("run", "--rm", "--name", "seen", busybox, "sh", "-c", "exit 5").code == 5
        events: list[dict[str, Any]] = []
        while len(events) < 4:
            event = json.loads(read_line(watching))
            if event["topic"].startswith("/tasks/"):
                events.append(event)
    finally:
        watching.kill()
        watching.wait(10)
    assert [event["topic"] for event in events] == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
    assert [event["number"] for event in events] == [1, 2, 3, 4]
    assert events[2]["attributes"]["exit_status"] == "5"


def test_stack_up_twice_on_one_root_is_refused(stack: Stack) -> None:
    """A second `hythe up` on the same root says that one runs, and harms nothing."""
    second = stack.hythe("up", "--detach")
    assert second.code != 0
    assert "already" in second.stderr
    assert stack.hythe("status").code == 0


def test_ps_right_after_the_start_lists_what_runs(fresh_stack: Stack, busybox: str) -> None:
    """As soon as `hythe up` returns, `hythe ps` shows the containers that ran on: it waits for the host's first word."""
    assert (
        fresh_stack.hythe(
            "run", "-d", "--name", "kept", busybox, "sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"
        ).code
        == 0
    )
    for _ in range(3):
        assert fresh_stack.hythe("down", "--keep").code == 0
        fresh_stack.up()
        rows = [json.loads(line) for line in fresh_stack.hythe("ps", "--format", "json").stdout.splitlines()]
        assert [(row["name"], row["status"]) for row in rows] == [("kept", "running")]


def test_places_see_a_leak(tmp_path: Path) -> None:
    """The leak check itself bites: a process that works in the stack's directory is found."""
    sleeper = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
    try:
        assert Places((tmp_path,), "hythe-none").left_behind()
    finally:
        sleeper.kill()
        sleeper.wait()
