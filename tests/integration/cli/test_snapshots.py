"""`hythe snapshot` against a real bundle service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hythe.cli.snapshot_words import KEPT as GC_ROOT
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer
from tests.integration.distribution.processes import ServiceProcess


class Host:
    """A host whose bundle service runs, and its commands."""

    def __init__(self, directory: Path, bus: SecuredBus) -> None:
        self.directory = directory
        self.bus = bus
        self.bundle = ServiceProcess("bundle", directory, bus)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `hythe snapshot`."""
        environment = {
            "PATH": os.defpath,
            "HYTHE_ROOT": str(self.directory),
            "HYTHE_STATE": str(self.directory / "state"),
            "HYTHE_HOST": HOST,
            "NATS_URL": self.bus.url,
            "HYTHE_CONFIG": str(self.directory / "hythe.toml"),
        }
        command = [str(Path(sys.executable).parent / "hythe"), "snapshot", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=30)

    def out(self, *arguments: str) -> str:
        """Return what a command that succeeds prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows(self, *arguments: str) -> list[dict[str, object]]:
        """Return the objects that a command prints with ``--json``."""
        return [json.loads(line) for line in self.out(*arguments, "--json").splitlines()]


@pytest.fixture
def host(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> Iterator[Host]:
    """A host with the snapshots ``base`` and, on it, ``top``, the active ``work`` and the view ``look``."""
    made = Host(tmp_path, SecuredBus(tmp_path, start_nats))
    made.bundle.start()
    try:
        made.out("prepare", "base-key")
        made.out("commit", "--label", "kept=yes", "base", "base-key")
        made.out("prepare", "top-key", "base")
        made.out("commit", "top", "top-key")
        made.out("prepare", "--label", "mine=1", "work", "top")
        made.out("view", "look", "base")
        yield made
    finally:
        made.bundle.end()


def test_snapshots_are_listed(host: Host) -> None:
    """As a table, as names, as objects, by a template, only those that a filter wants, and as a tree as `ctr` shows it."""
    lines = host.out("ls").splitlines()
    assert lines[0].split() == ["KEY", "PARENT", "KIND", "CREATED"]
    assert [line.split()[0] for line in lines[1:]] == ["base", "look", "top", "work"] == host.out("-q").split()
    assert host.out("ls", "-q", "kind==active", "labels.kept==yes").split() == ["base", "work"]
    [row] = host.rows("ls", "name==work")
    since = row["labels"][GC_ROOT]  # what users make stays until they remove it
    assert (row["name"], row["parent"], row["kind"]) == ("work", "top", "active")
    assert row["labels"] == {GC_ROOT: since, "mine": "1"}
    assert host.out("ls", "--format", "{{.Kind}} {{.Labels}}", "name==work") == f"active {GC_ROOT}={since},mine=1\n"
    assert host.run("ls", "kind=x").returncode == 2
    assert host.out("tree") == "base\n  \\_ look\n  \\_ top\n    \\_ work\n"
    assert [row["name"] for row in host.rows("tree")] == ["base", "look", "top", "work"]


def test_snapshot_is_mounted_by_the_commands_that_are_printed(host: Host, tmp_path: Path) -> None:
    """What `mounts` and `--target` print is what a shell must do; what is written then is in the snapshot."""
    target = tmp_path / "mount point"
    target.mkdir()
    subprocess.run(["sh", "-ec", host.out("mounts", str(target), "work")], check=True)
    try:
        (target / "file").write_bytes(bytes(50_000))
        done = host.run("rm", "work")
        assert done.returncode == 6 and f"mounted at {target}" in done.stderr
        assert f"mounted at {target}" in host.run("commit", "new", "work").stderr
    finally:
        subprocess.run(["umount", str(target)], check=True)
    printed = host.out("view", "--target", str(target), "seen", "base")
    assert printed.startswith("mount -o ro,rbind ") and printed.endswith(f" '{target}'\n")
    assert [mount["type"] for mount in host.rows("mounts", "/mnt", "work")] == ["overlay"]
    [work] = host.rows("usage", "work")
    assert work["inodes"] == 2 and work["size_bytes"] >= 50_000  # type: ignore[operator]
    table = [line.split() for line in host.out("usage", "-b").splitlines()]
    assert table[0] == ["KEY", "SIZE", "INODES"]
    assert table[-1] == ["total", *(str(sum(int(row[n]) for row in table[1:-1])) for n in (1, 2))]


def test_labels_are_set_and_taken_away(host: Host) -> None:
    """`label` prints all that there are then; `info` shows them; Hythe's own are refused."""
    told = host.out("label", "work", "mine=", "b=2", "a=x=y")
    info = json.loads(host.out("info", "work"))
    since = info["labels"][GC_ROOT]
    assert info["labels"] == {"a": "x=y", "b": "2", GC_ROOT: since} and info["updated_at"] > info["created_at"]
    assert told == f"a=x=y\nb=2\n{GC_ROOT}={since}\n"
    done = host.run("label", "work", "elf-32=yes")
    assert done.returncode == 2 and "Hythe's own" in done.stderr


def test_what_breaks_containerd_s_rules_is_refused(host: Host) -> None:
    """Each refusal has its exit code; of several to be removed each that can be is, from the top down."""
    assert host.run("prepare", "work", "base").returncode == 4
    assert host.run("view", "new", "work").returncode == 2
    assert host.run("commit", "new", "look").returncode == 6
    assert host.run("mounts", "/mnt", "base").returncode == 6
    assert host.run("info", "none").returncode == 3
    done = host.run("rm", "base", "work", "none")
    assert (done.returncode, done.stdout) == (6, "work\n")  # the first error counts
    assert "lies on top of it" in done.stderr and "find snapshot none" in done.stderr
    assert host.out("rm", "top", "look", "base") == "top\nlook\nbase\n"
    assert host.out("ls", "-q") == ""


def test_root_keeps_its_snapshotter_and_leftovers_go(host: Host) -> None:
    """Another snapshotter is refused with what to do; what no record speaks of goes by `cleanup` and at each start."""
    snapshots = host.directory / "bundle" / "snapshots"
    (snapshots / "77" / "fs").mkdir(parents=True)
    assert host.out("cleanup") == "removed 1 directory\n" and not (snapshots / "77").exists()
    host.bundle.end()
    (snapshots / "78").mkdir()
    native = ServiceProcess("bundle", host.directory, host.bus, HYTHE_SNAPSHOTTER="native")
    with pytest.raises(AssertionError, match="were made by the snapshotter overlayfs"):
        native.start()
    native.wait()
    host.bundle.start()
    assert not (snapshots / "78").exists() and host.out("-q").split() == ["base", "look", "top", "work"]
