"""Snapshots as users meet them: on the snapshotter that copies, and by `hythe snapshot`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

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


def test_layer_is_looked_at_mounted_and_let_go_of(stack: Stack, busybox: str, tmp_path: Path) -> None:
    """`hythe snapshot` shows what a layer is and takes, mounts it to read only, and `unmount` leaves nothing of that behind."""
    assert stack.hythe("pull", busybox).code == 0
    (layer,) = json.loads(stack.hythe("images", "inspect", busybox).stdout)[0]["RootFS"]["Layers"]
    point = tmp_path / "point"
    point.mkdir()
    assert stack.hythe("snapshot", "mount", layer, str(point)).code == 0
    try:
        assert (point / "bin/busybox").is_file()
        with pytest.raises(OSError, match="Read-only file system"):
            (point / "new").write_text("x")
        assert layer in stack.hythe("snapshot", "tree").stdout
        usage = json.loads(stack.hythe("snapshot", "usage", layer, "--json").stdout)
        assert usage["size_bytes"] > 1_000_000 and usage["inodes"] > 1
        assert json.loads(stack.hythe("snapshot", "info", layer, "--json").stdout)["kind"] == "committed"
        assert list(_kinds(stack).values()).count("view") == 1
    finally:
        done = stack.hythe("snapshot", "unmount", str(point))
    assert done.code == 0 and not any(point.iterdir())
    kinds = _kinds(stack)
    assert kinds[layer] == "committed" and "view" not in kinds.values()


def _kinds(stack: Stack) -> dict[str, str]:
    """Return the kinds of the host's snapshots by name."""
    rows = [json.loads(line) for line in stack.hythe("snapshot", "ls", "--json").stdout.splitlines()]
    return {row["name"]: row["kind"] for row in rows}
