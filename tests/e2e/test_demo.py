"""The demo: what a newcomer sees first, again and again, beside whatever else runs on the machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from scripts.lab.leaks import Places, network_namespaces
from scripts.lab.stack import Stack

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = ("hythe", "metadata", "distribution", "bundle", "runtime", "agent")


def demo_directories() -> set[Path]:
    """Return the directories of demos that are there now."""
    return set(Path(tempfile.gettempdir()).glob("hythe-demo-*"))


def pids(stack: Stack) -> list[int]:
    """Return the pids of a stack's processes."""
    return [json.loads(line)["pid"] for line in stack.hythe("status", "--format", "json").stdout.splitlines()]


@pytest.mark.time_limit(300)
def test_demo_works_twice_in_a_row_beside_a_stack_that_is_up(stack: Stack, busybox: str) -> None:
    """Twice: the container's words, the trace of that run over all processes, exit 0, nothing left; the other stack goes on."""
    before, namespaces, running = demo_directories(), network_namespaces(), pids(stack)
    for _ in range(2):
        done = subprocess.run([ROOT / "scripts/demo"], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        said = re.search(r'echo "(hello from hythe \w+)"\n(.*)\n', done.stdout)
        assert said is not None and said.group(1) == said.group(2)
        waterfall = done.stdout.partition("hythe trace show ")[2]
        assert [name for name in PROCESSES if name not in waterfall] == []
        assert demo_directories() <= before
    assert network_namespaces() == namespaces
    assert pids(stack) == running
    assert stack.hythe("run", "--rm", busybox, "echo", "still here").stdout == "still here\n"


def test_demo_that_is_interrupted_clears_everything_away(tmp_path: Path) -> None:
    """SIGTERM in the middle: an exit code that is not 0, and no process, mount, cgroup or file of it is left."""
    process = subprocess.Popen(
        [ROOT / "scripts/demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            if "seed a registry" in line:
                (base,) = tmp_path.glob("hythe-demo-*")
                process.send_signal(signal.SIGTERM)
                break
        output.read()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert Places((base,), "-".join(base.name.split("-")[:3])).settled() == []
    assert not base.exists()
