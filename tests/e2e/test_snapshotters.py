"""Containers on the snapshotter that copies: what runs on overlayfs runs on it."""

from __future__ import annotations

import json
from collections.abc import Callable

from scripts.lab.stack import Stack


def test_containers_run_on_native_copies(make_stack: Callable[..., Stack], busybox: str) -> None:
    """A container has a copy of its own; what it writes is in it alone, and all goes with it. Users see its snapshot."""
    stack = make_stack(variables={"HYTHE_SNAPSHOTTER": "native"})
    stack.up()
    done = stack.hythe("run", "--name", "one", busybox, "sh", "-c", "echo mine >/own; rm -r /bin; cat /own")
    assert (done.code, done.stdout) == (0, "mine\n"), done.stderr
    assert stack.hythe("run", "--rm", busybox, "ls", "-d", "/bin", "/own").stdout == "/bin\n"
    one = json.loads(stack.hythe("inspect", "one", "--json").stdout)["id"]
    kinds = _kinds(stack)
    assert kinds[one] == "active" and sorted(kinds.values()) == ["active", "committed"]
    refused = stack.hythe("snapshot", "rm", one)
    assert refused.code == 6 and f"hythe rm {one}" in refused.stderr
    assert stack.hythe("rm", "one").code == 0
    assert len(_kinds(stack)) == 1


def _kinds(stack: Stack) -> dict[str, str]:
    """Return the kinds of the host's snapshots by name."""
    rows = [json.loads(line) for line in stack.hythe("snapshot", "ls", "--json").stdout.splitlines()]
    return {row["name"]: row["kind"] for row in rows}
