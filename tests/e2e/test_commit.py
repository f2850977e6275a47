"""`hythe diff`, `hythe commit` and layers of snapshots: what a user may rely on about images made of containers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.lab.images import Layer, busybox
from scripts.lab.registry import Registry
from scripts.lab.stack import Stack
from tests.fixtures.waiting import eventually

EPOCH = "1700000000"
BIG_BYTES = 30 << 20
CHANGES = r"""
set -e
cd /data
echo new > new; chown 12:34 new; chmod 4755 new
echo changed >> change
rm gone; rm -r dir; echo file > dir
mkdir -p made/deep; ln new made/deep/again; ln -s ../change made/link
mkfifo -m 622 pipe; mknod -m 640 null c 1 3
rm -r emptied/*
touch -d '2001-02-03 04:05:06' old
mv keep moved
"""
LISTING = (
    "cd /data; find . -type d | sort | xargs stat -c '%n %a %u:%g %Y'; "
    "find . ! -type d | sort | xargs stat -c '%n %F %a %u:%g %Y %h %s %t:%T'; cat change new"
)


@pytest.fixture(scope="module")
def base(stack: Stack, registry: Registry) -> str:
    """Reference of an image with a little tree to change."""
    layer = Layer().directory("data", mode=0o750, uid=3)
    for name in ("keep", "change", "gone", "dir/a", "dir/b", "emptied/a", "emptied/b"):
        layer.file(f"data/{name}", name.encode(), mtime_s=1_600_000_000)
    image = busybox().layer(layer).config(Cmd=["sh"], Env=["PATH=/bin"], Labels={"kept": "yes"}, WorkingDir="/data")
    reference = registry.push(image.build(), "e2e/base:1")
    assert stack.hythe("pull", reference).code == 0
    return reference


@pytest.fixture
def container(stack: Stack, base: str) -> Iterator[str]:
    """Name of a container that has ended and changed much."""
    name = "changer"
    try:
        done = stack.hythe("run", "--name", name, base, "sh", "-c", CHANGES + LISTING)
        assert done.code == 0, done.stderr
        (stack.base / "listing").write_text(done.stdout)
        yield name
    finally:
        assert stack.hythe("rm", "-f", name).code == 0


def contents(stack: Stack) -> tuple[set[str], str]:
    """Return the digests of all blobs, and what is on its way."""
    blobs = stack.hythe("content", "ls", "-q")
    active = stack.hythe("content", "active", "--json")
    assert blobs.code == active.code == 0, blobs.stderr + active.stderr
    return set(blobs.stdout.split()), active.stdout


def commit(stack: Stack, *arguments: str, **variables: str) -> str:
    """Commit and return the id of the image."""
    done = stack.hythe("commit", *arguments, variables=variables)
    assert done.code == 0, done.stderr
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", done.stdout)
    return done.stdout.strip()


def test_diff_lists_what_a_container_changed(stack: Stack, container: str) -> None:
    """Each change has a line, as Docker has it; what the runtime made to mount its own things on is no change."""
    done = stack.hythe("diff", container)
    assert done.code == 0, done.stderr
    assert done.stdout.splitlines() == [
        *("C /data", "C /data/change", "C /data/dir", "C /data/emptied", "D /data/emptied/a", "D /data/emptied/b"),
        *("D /data/gone", "D /data/keep", "A /data/made", "A /data/made/deep", "A /data/made/deep/again"),
        *("A /data/made/link", "A /data/moved", "A /data/new", "A /data/null", "A /data/old", "A /data/pipe"),
    ]
    rows = [json.loads(line) for line in stack.hythe("diff", "--json", container).stdout.splitlines()]
    assert [f"{row['kind']} {row['path']}" for row in rows] == done.stdout.splitlines()
    unknown = stack.hythe("diff", "nobody")
    assert unknown.code == 3 and "no such container" in unknown.stderr


def test_committed_image_runs_with_the_same_files(stack: Stack, registry: Registry, container: str, base: str) -> None:
    """A container's files come back in a container of the image made of it; a registry takes it, and skopeo understands it."""
    reference = f"{registry.address}/e2e/committed:1"
    image_id = commit(
        *(stack, "--author", "Ann", "-m", "much changed", "-c", "ENV A=b PATH=$PATH:/data", "-c", 'CMD ["cat", "new"]'),
        *("--change", "LABEL made='by commit'", "-c", "WORKDIR made", "-c", "EXPOSE 80", container, reference),
    )
    listing = stack.hythe("run", "--rm", reference, "sh", "-c", LISTING)
    assert (listing.code, listing.stdout) == (0, (stack.base / "listing").read_text())
    assert stack.hythe("run", "--rm", "--workdir", "/data", reference).stdout == "new\n"
    details = json.loads(stack.hythe("images", "inspect", image_id).stdout)[0]
    config = details["Config"]
    assert (config["Env"], config["Labels"]) == (["PATH=/bin:/data", "A=b"], {"kept": "yes", "made": "by commit"})
    assert (config["WorkingDir"], config["Cmd"], details["Author"]) == ("/data/made", ["cat", "new"], "Ann")
    assert "much changed" in stack.hythe("images", "history", reference).stdout
    assert stack.hythe("images", "check", reference).code == 0
    assert stack.hythe("push", reference).code == 0
    inspected = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{reference}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert inspected.returncode == 0, inspected.stderr
    found = json.loads(inspected.stdout)
    layers = json.loads(stack.hythe("images", "inspect", base).stdout)[0]["RootFS"]["Layers"]
    assert len(found["Layers"]) == len(layers) + 1 and found["Labels"]["made"] == "by commit"


def test_source_date_epoch_gives_one_image(stack: Stack, base: str) -> None:
    """With SOURCE_DATE_EPOCH the same changes, made by two containers at two times, are one image."""
    made: list[str] = []
    names = ("epoch-1", "epoch-2")
    try:
        for name in names:
            assert stack.hythe("run", "--name", name, base, "sh", "-c", "echo x > /data/x; rm gone").code == 0
            made.append(commit(stack, name, f"local/{name}", SOURCE_DATE_EPOCH=EPOCH))
        assert made[0] == made[1]
        digests = {stack.hythe("images", "inspect", "--format", "{{.Created}} {{json .RepoDigests}}", made[0]).stdout}
        assert all("2023-11-14T22:13:20" in text for text in digests)
        assert commit(stack, names[0], "local/epoch-3") != made[0]
        wrong = stack.hythe("commit", names[0], "local/x", variables={"SOURCE_DATE_EPOCH": "yesterday"})
        assert wrong.code == 2 and "SOURCE_DATE_EPOCH" in wrong.stderr
    finally:
        assert stack.hythe("rm", "-f", *names).code == 0


def test_running_container_is_committed_as_it_is(stack: Stack, base: str) -> None:
    """A container that runs, and writes meanwhile, gives an image, and goes on."""
    script = "echo here > /data/here; echo ready; while true; do echo line >> /data/log; done"
    try:
        assert stack.hythe("run", "-d", "--name", "runner", base, "sh", "-c", script).code == 0
        eventually(lambda: "ready" in stack.hythe("logs", "runner").stdout)
        commit(stack, "runner", "local/runner")
        assert stack.hythe("run", "--rm", "local/runner", "cat", "/data/here").stdout == "here\n"
        assert json.loads(stack.hythe("inspect", "runner").stdout)["status"] == "running"
    finally:
        assert stack.hythe("rm", "-f", "runner").code == 0


def test_bad_commits_leave_nothing(stack: Stack, container: str) -> None:
    """An unknown container, a bad name, a bad instruction: each has its error, and content is as it was."""
    before = contents(stack)
    for arguments, code, word in (
        (("nobody", "local/x"), 3, "no such container"),
        ((container, "local/X"), 2, "lower case"),
        ((container, "local/x@sha256:" + "0" * 64), 2, "digest"),
        ((container, "local/x", "-c", "RUN date"), 2, "RUN is none of"),
        ((container, "local/x", "-c", "EXPOSE 70000"), 2, "70000"),
        ((container, "hythe.invalid/x"), 2, "reserved"),
        (("--snapshot", "nothing", "local/x"), 3, "nothing"),
    ):
        done = stack.hythe("commit", *arguments)
        assert (done.code, word in done.stderr) == (code, True), (arguments, done)
    assert contents(stack) == before


def test_commit_that_is_given_up_leaves_nothing(stack: Stack, base: str) -> None:
    """Ctrl-C in the middle of a commit ends it on the host; no blob and no ingest of it is left."""
    try:
        script = f"head -c {8 * BIG_BYTES} /dev/zero > /data/big"
        assert stack.hythe("run", "--name", "big", base, "sh", "-c", script).code == 0
        before = contents(stack)
        running = stack.popen("commit", "--compress", "none", "big", "local/big")
        eventually(lambda: contents(stack)[1] != "" or running.poll() is not None, what="the layer is on its way")
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=20)
        assert running.returncode == 130
        eventually(lambda: contents(stack) == before, what="nothing is left")
    finally:
        assert stack.hythe("rm", "-f", "big").code == 0


def test_image_below_that_is_gone_is_named(stack: Stack, registry: Registry) -> None:
    """Without the layers of the image below no image can be made; the error names what is missing and how to get it back."""
    made = busybox().layer(Layer().file("only-here", os.urandom(2000))).build()
    reference = registry.push(made, "e2e/gone:1")
    try:
        assert stack.hythe("run", "--name", "orphan", reference, "touch", "/x").code == 0
        assert stack.hythe("rmi", "-f", reference).code == 0
        commit(stack, "orphan", "local/orphan")  # the name is gone, the blobs are not
        assert stack.hythe("content", "rm", made.layers[-1].digest).code == 0
        failed = stack.hythe("commit", "orphan", "local/orphan")
        assert failed.code != 0
        assert made.layers[-1].digest in failed.stderr and f"hythe pull --no-unpack {reference}" in failed.stderr
        assert stack.hythe("pull", "--no-unpack", reference).code == 0
        commit(stack, "orphan", "local/orphan")
    finally:
        assert stack.hythe("rm", "-f", "orphan").code == 0


def test_full_disk_ends_a_commit_and_leaves_nothing(
    make_stack: Callable[..., Stack], small_disk: Callable[[int], Path], busybox: str
) -> None:
    """Where content has no room for the layer, that is said, and the room is free again."""
    stack = make_stack(root=small_disk(96) / "root", variables={"HYTHE_DISK_RESERVE": "1048576"})
    stack.up()
    fill = f"head -c {BIG_BYTES + (20 << 20)} /dev/urandom > /big"
    assert stack.hythe("run", "--name", "full", busybox, "sh", "-c", fill).code == 0
    before = contents(stack)
    failed = stack.hythe("commit", "full", "local/full")
    assert failed.code != 0 and "space" in failed.stderr + failed.stdout, failed
    assert contents(stack) == before
    assert stack.hythe("rm", "full").code == 0


def test_layer_of_a_snapshot_is_written_to_a_file(stack: Stack, container: str, tmp_path: Path) -> None:
    """A snapshot's changes are listed, or written as a layer that any tool reads, of which content keeps nothing."""
    key = json.loads(stack.hythe("inspect", container).stdout)["id"]
    before = contents(stack)
    assert "D /data/gone" in stack.hythe("snapshot", "diff", key).stdout.splitlines()
    row = json.loads(stack.hythe("snapshot", "diff", "-o", str(tmp_path / "layer.tgz"), "--json", key).stdout)
    page = Path(__file__).resolve().parents[2] / "docs" / "output.md"
    section = page.read_text().split("## hythe diff, hythe snapshot diff")[1].split("## ")[0]
    assert set(row) <= set(re.findall(r"`([a-z_]+)`", section))
    with tarfile.open(tmp_path / "layer.tgz") as layer:
        members = layer.getmembers()
        assert len(members) == row["entries"]
        assert {"data/.wh.gone", "data/emptied/.wh..wh..opq", "data/new"} <= {member.name for member in members}
    assert (tmp_path / "layer.tgz").stat().st_size == row["size_bytes"]
    assert contents(stack) == before
