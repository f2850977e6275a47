"""A runc that is killed in the middle of `create` leaks nothing, though `runc delete` then knows of no container."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.lab.stack import Stack
from tests.e2e.test_run import assert_nothing_of_containers

KILLED_AFTER_S = ("0.004", "0.012", "0.02", "0.028")


@pytest.mark.time_limit(180)
def test_runc_killed_in_mid_create_leaves_nothing(
    make_stack: Callable[..., Stack], busybox: str, tmp_path: Path
) -> None:
    """Whenever in `runc create` the kill comes: the run fails with 125, and no process, cgroup, mount or file stays."""
    runc = shutil.which("runc")
    wrapper, moment = tmp_path / "runc", tmp_path / "moment"
    wrapper.write_text(
        "#!/bin/sh\n"
        f'[ -e {moment} ] && for word in "$@"; do\n'
        f'    if [ "$word" = create ]; then {runc} "$@" & sleep "$(cat {moment})"; kill -9 $!; wait $!; exit 137; fi\n'
        "done\n"
        f'exec {runc} "$@"\n'
    )
    wrapper.chmod(0o755)
    for name in ("conmon", "nats-server"):
        found = shutil.which(name)
        if found is not None:
            (tmp_path / name).symlink_to(found)
    stack = make_stack(variables={"PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin"})
    stack.up()
    assert stack.hythe("run", "--rm", busybox, "true").code == 0
    for seconds in KILLED_AFTER_S:
        moment.write_text(seconds)
        done = stack.hythe("run", "--rm", busybox, "true")
        assert done.code == 125, (seconds, done)
        assert "runc create" in done.stderr
        assert_nothing_of_containers(stack)
    moment.unlink()
    assert stack.hythe("run", "--rm", busybox, "echo", "well again").stdout == "well again\n"
