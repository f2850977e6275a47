"""Bundles as a user meets them: started by other tools, made by other tools, carried as archives and through registries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.lab import layout
from scripts.lab.images import busybox as busybox_image
from scripts.lab.registry import Registry
from scripts.lab.stack import Completed, Stack
from tests.e2e.test_run import assert_nothing_of_containers, read_line
from tests.fixtures.carried import tree
from tests.fixtures.waiting import eventually


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of the user's."""
    made = tmp_path / "place"
    made.mkdir()
    return made


@pytest.fixture
def foreign(place: Path) -> Path:
    """A bundle that umoci unpacked."""
    layout.save(busybox_image().config(Cmd=["sh", "-c", "echo from umoci"]).build(), place / "layout", "tag")
    directory = place / "foreign"
    command = ["umoci", "unpack", "--image", f"{place / 'layout'}:tag", str(directory)]
    subprocess.run(command, check=True, capture_output=True)
    return directory


@pytest.fixture
def created(stack: Stack, busybox: str, place: Path) -> Iterator[Path]:
    """A bundle that Hythe created; what is made of it in the stack goes with the test."""
    directory = place / "created"
    script = 'echo "made $A"; cat /etc/passwd | head -1; exit 7'
    done = stack.hythe("bundle", "create", "-q", "-e", "A=here", busybox, str(directory), "sh", "-c", script)
    assert (done.code, done.stdout, done.stderr) == (0, f"{directory}\n", "")
    yield directory
    for row in bundles(stack):
        if row["kind"] == "created":
            stack.hythe("bundle", "rm", row["path"])


def bundles(stack: Stack) -> list[dict[str, Any]]:
    """Return what `hythe bundle ls` lists."""
    return [json.loads(line) for line in stack.hythe("bundle", "ls", "--json").stdout.splitlines()]


def say(directory: Path, **changes: Any) -> None:
    """Change what a bundle's config.json says of its process."""
    config = json.loads((directory / "config.json").read_text())
    config["process"] |= changes
    (directory / "config.json").write_text(json.dumps(config))


def test_created_bundle_starts_under_plain_runc(created: Path, stack: Stack) -> None:
    """What `bundle create` makes is a bundle for every runtime: `runc run -b DIR` starts it, wherever it lies."""
    carried = created.parent / "carried elsewhere"
    shutil.copytree(created, carried, symlinks=True)
    for directory in (created, carried):
        name = f"test-{os.urandom(4).hex()}"
        root = created.parent / "runc"
        command = ["runc", "--root", str(root), "run", "-b", str(directory), name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stdout) == (7, "made here\nroot:x:0:0:root:/root:/bin/sh\n"), done.stderr


def test_bundle_that_umoci_unpacked_starts(stack: Stack, foreign: Path) -> None:
    """`bundle run` starts a directory that Hythe did not make, and leaves it as it was when the container is removed."""
    before = tree(foreign)
    done = stack.hythe("bundle", "run", "--rm", str(foreign))
    assert (done.code, done.stdout) == (0, "from umoci\n")
    assert done.stderr == f"warning: {foreign} asks for a terminal; it runs without one\n"
    after = tree(foreign)
    assert after == before
    assert_nothing_of_containers(stack)


def test_container_of_a_directory_is_one_like_any_other(stack: Stack, foreign: Path) -> None:
    """ps, logs, inspect, kill, stop, events and rm know a container that is run from a directory."""
    say(foreign, terminal=False, args=["sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"])
    done = stack.hythe("bundle", "run", "-d", "--name", "web", "-l", "a=b", str(foreign))
    try:
        assert done.code == 0 and len(done.stdout.strip()) == 32, done.stderr
        shown = json.loads(stack.hythe("inspect", "web").stdout)
        assert (shown["image"], shown["status"], shown["labels"]) == (f"bundle:{foreign}", "running", {"a": "b"})
        assert shown["command"][:2] == ["sh", "-c"] and shown["image_digest"] == ""
        assert "web" in stack.hythe("ps").stdout
        eventually(lambda: stack.hythe("logs", "web").stdout == "ready\n", what="the log has the container's output")
        refused = stack.hythe("bundle", "run", "--rm", str(foreign))
        assert refused.code == 125 and "made from the same root file system" in refused.stderr
        (row,) = [row for row in bundles(stack) if row["kind"] == "container"]
        assert (row["image"], row["containers"]) == (f"bundle:{foreign}", ["web"])
        assert json.loads(stack.hythe("bundle", "inspect", "web").stdout)["root"] == str(foreign / "rootfs")
        assert stack.hythe("stop", "web").code == 0
        shown = json.loads(stack.hythe("inspect", "web").stdout)
        assert (shown["status"], shown["exit_code"]) == ("exited", 5)
    finally:
        removed = stack.hythe("rm", "-f", "web")
    assert removed.code == 0
    wanted = {"/containers/create", "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"}
    container = done.stdout.strip()
    eventually(lambda: wanted <= topics_of(stack, container), what="the stream has the container's events")
    assert_nothing_of_containers(stack)
    assert foreign.is_dir()


def test_copies_of_an_ended_container_go_to_its_directory_and_never_through_a_link(
    stack: Stack, foreign: Path, place: Path
) -> None:
    """`hythe cp` reads and writes the directory that the container ran from; whoever puts a link there gets nothing."""
    victim = place / "victim"
    (victim / "etc").mkdir(parents=True)
    (place / "file").write_text("copied")
    say(foreign, terminal=False, args=["true"])
    assert stack.hythe("bundle", "run", "--name", "ended", str(foreign)).code == 0
    try:
        assert stack.hythe("cp", str(place / "file"), "ended:/etc/one").code == 0
        assert (foreign / "rootfs/etc/one").read_text() == "copied"
        (foreign / "rootfs").rename(place / "moved")
        (foreign / "rootfs").symlink_to(victim)
        refused = stack.hythe("cp", str(place / "file"), "ended:/etc/two")
        assert refused.code == 2 and "symbolic link" in refused.stderr
        assert list((victim / "etc").iterdir()) == []
    finally:
        removed = stack.hythe("rm", "-f", "ended")
    assert removed.code == 0


def topics_of(stack: Stack, container: str) -> set[str]:
    """Return the topics of a container's events."""
    lines = stack.hythe("events", "--since", "5m", "--no-follow", "--json").stdout.splitlines()
    return {event["topic"] for event in map(json.loads, lines) if event["object_id"] == container}


def test_stdin_reaches_a_container_of_a_directory(stack: Stack, foreign: Path) -> None:
    """`bundle run -i` gives the command's stdin to the container."""
    say(foreign, terminal=False, args=["tr", "a-z", "A-Z"])
    done = stack.hythe("bundle", "run", "--rm", "-i", str(foreign), stdin="hello\n")
    assert (done.code, done.stdout) == (0, "HELLO\n")


def test_created_bundle_goes_through_an_archive(stack: Stack, created: Path, place: Path) -> None:
    """pack and unpack carry a bundle as one file: the same tree comes back, and runs."""
    archive, back = place / "bundle.tar.zst", place / "back"
    assert stack.hythe("bundle", "pack", str(created), "-o", str(archive)).stdout == f"{archive}\n"
    assert archive.read_bytes().startswith(b"\x28\xb5\x2f\xfd")
    assert stack.hythe("bundle", "unpack", str(archive), str(back)).code == 0
    assert tree(back / "rootfs") == tree(created / "rootfs")
    assert (back / "config.json").read_bytes() == (created / "config.json").read_bytes()
    done = stack.hythe("bundle", "run", "--rm", str(back))
    assert (done.code, done.stdout.splitlines()[0]) == (7, "made here")
    assert {row["path"] for row in bundles(stack)} == {str(created), str(back)}


def test_bundle_goes_through_a_registry(stack: Stack, created: Path, place: Path, registry: Registry) -> None:
    """pack --push and pull carry a bundle through a registry that knows nothing of bundles."""
    reference, back = f"{registry.address}/bundles/made:1", place / "back"
    pushed = stack.hythe("bundle", "pack", str(created), "--push", reference, "--plain-http", "-q")
    assert pushed.code == 0, pushed.stderr
    digest = pushed.stdout.strip().partition("@")[2]
    try:
        command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"]
        manifest = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        assert manifest["artifactType"] == "application/vnd.hythe.bundle.v1+json"
        assert [layer["mediaType"] for layer in manifest["layers"]] == ["application/vnd.oci.image.layer.v1.tar+gzip"]
        forget(stack, reference, digest, manifest)
        pulled = stack.hythe("bundle", "pull", reference, str(back), "--plain-http")
        assert (pulled.code, pulled.stdout) == (0, f"{back}\n"), pulled.stderr
        assert tree(back / "rootfs") == tree(created / "rootfs")
        for name in ("config.json", "hythe.json"):
            assert (back / name).read_bytes() == (created / name).read_bytes()
        assert stack.hythe("images", "-q").code == 0
        refused = stack.hythe("pull", reference, "--plain-http")
        assert refused.code == 2 and "no container image" in refused.stderr
    finally:
        stack.hythe("rmi", reference)


def forget(stack: Stack, reference: str, digest: str, manifest: dict[str, Any]) -> None:
    """Take everything of an artifact out of the stack, so that only the registry has it."""
    assert stack.hythe("rmi", reference).code == 0
    for blob in (digest, manifest["config"]["digest"], manifest["layers"][0]["digest"]):
        assert stack.hythe("content", "rm", blob).code == 0


def test_running_container_is_packed_as_it_is_now(stack: Stack, busybox: str, place: Path) -> None:
    """`bundle pack CONTAINER` makes a bundle of a container that runs on undisturbed; the bundle starts again elsewhere."""
    script = "echo changed > /tmp/file; echo ready; while :; do sleep 0.05; done"
    running = stack.popen("run", "--rm", "--name", "packed", busybox, "sh", "-c", script)
    try:
        assert read_line(running) == "ready\n"
        packed = stack.hythe("bundle", "pack", "packed", "-o", str(place / "a.tgz"))
        assert (packed.code, packed.stderr.replace("rootfs: Packing\n", "")) == (0, "")
    finally:
        stack.hythe("kill", "packed")
        running.wait(20)
    back = place / "back"
    assert stack.hythe("bundle", "unpack", str(place / "a.tgz"), str(back)).code == 0
    try:
        say(back, args=["cat", "/tmp/file"])
        assert stack.hythe("bundle", "run", "--rm", str(back)).stdout == "changed\n"
    finally:
        assert stack.hythe("bundle", "rm", str(back)).code == 0
    assert not back.exists()


def _refused(done: Completed, code: int, text: str) -> None:
    assert done.code == code and text in done.stderr, (done.code, done.stderr)
    assert "next:" in done.stderr and "Traceback" not in done.stderr


def test_bad_directories_are_refused_with_the_reason(stack: Stack, foreign: Path, place: Path) -> None:
    """A directory that can't be run makes no container, and the error says why and what to do."""
    say(foreign, terminal=False)
    config = foreign / "config.json"
    good = config.read_text()
    run: Callable[[], Completed] = lambda: stack.hythe("bundle", "run", "--rm", str(foreign))  # noqa: E731 (read six times)
    _refused(stack.hythe("bundle", "run", str(place / "nothing")), 125, "no such directory")
    say(foreign, args=[])
    _refused(run(), 125, "nothing to run")
    config.unlink()
    _refused(run(), 125, "no config.json")
    os.mkfifo(config)
    _refused(run(), 125, "no regular file")
    config.unlink()
    config.touch()
    os.truncate(config, 10_000_000_000)
    _refused(run(), 125, "larger than")
    config.unlink()
    config.write_text(good)
    (foreign / "rootfs").rename(foreign / "other")
    _refused(run(), 125, "no directory")
    _refused(stack.hythe("bundle", "rm", str(foreign)), 6, "did not make it")
    assert stack.hythe("ps", "-a", "-q").stdout == ""
    assert_nothing_of_containers(stack)


def test_killed_service_leaves_nothing_after_its_next_start(
    make_stack: Callable[..., Stack], busybox: str, place: Path
) -> None:
    """kill -9 in the middle of `bundle create` leaves one directory with a telling name, which the next start removes."""
    stack = make_stack(variables={"HYTHE_FAILPOINTS": "bundle.directory.begun=kill"})
    stack.up()
    assert stack.hythe("pull", "-q", busybox).code == 0
    failed = stack.hythe("bundle", "create", "--timeout", "1", busybox, str(place / "made"))
    assert failed.code != 0 and not (place / "made").exists()
    eventually(lambda: not list(place.iterdir()), what="what was left unfinished is removed")
    eventually(lambda: stack.hythe("bundle", "ls", "-q").code == 0, what="the service is back")
    assert stack.hythe("bundle", "ls", "-q").stdout == ""
    assert "removed what was left unfinished" in stack.logs(lines=1000)
