"""The leak check sees what a stack leaves behind and the sweep removes it: else no test that passes it would mean anything."""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.lab.leaks import Places, hierarchies
from tests.fixtures.waiting import eventually

SLEEP = "import sys, time; print('up', flush=True); time.sleep(600)"


def test_leaks_of_every_kind_are_seen_and_swept() -> None:
    """A process known by its arguments, one known by its environment, one known by its cgroup, a mount and a cgroup are found."""
    token = secrets.token_hex(4)
    base = Path(tempfile.mkdtemp(prefix=f"hythe-leak-{token}-"))
    places = Places((base,), f"hythe-leak-{token}")
    children = []
    try:
        assert places.left_behind() == []
        by_environment = {"WHERE": str(base / "root")}
        for arguments, environment in (([str(base / "x")], {}), ([], by_environment), ([], {})):
            command = [sys.executable, "-c", SLEEP, *arguments]
            children.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE))
        for child in children:
            assert child.stdout is not None and child.stdout.readline() == b"up\n"
        cgroup = hierarchies()[0] / places.cgroup_parent / "host/ctr"
        cgroup.mkdir(parents=True)
        (cgroup / "cgroup.procs").write_text(str(children[2].pid))
        (base / "mnt").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", base / "mnt"], check=True)

        assert set(places.processes()) == {child.pid for child in children}
        assert places.mounts() == [str(base / "mnt")]
        assert places.cgroups() == [hierarchies()[0] / places.cgroup_parent]
        assert len(places.left_behind()) == 5
    finally:
        places.sweep()
        for child in children:
            child.wait()
            assert child.stdout is not None
            child.stdout.close()
    assert places.settled() == []
    assert not base.exists()


def test_what_is_killed_a_moment_ago_is_waited_for() -> None:
    """A process that is just ending is no leak."""
    base = Path(tempfile.mkdtemp(prefix="hythe-leak-"))
    places = Places((base,), "hythe-leak-none")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3)", str(base)])
    eventually(lambda: child.pid in places.processes(), what="the process is seen")
    assert places.settled(timeout_s=10) == []
    child.wait()
    places.sweep()
