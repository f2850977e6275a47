"""`hythe cp` as a user meets it: as `docker cp`, in both directions, and whoever is killed meanwhile leaves nothing."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.lab.stack import Stack
from tests.fixtures.waiting import eventually


@pytest.fixture(scope="module")
def web(stack: Stack, busybox: str) -> Iterator[str]:
    """A running container."""
    assert stack.hythe("run", "-d", "--name", "web", busybox, "sleep", "600").code == 0
    yield "web"
    assert stack.hythe("rm", "-f", "web").code == 0


@pytest.fixture(scope="module")
def ended(stack: Stack, busybox: str) -> Iterator[str]:
    """A container that has ended."""
    assert stack.hythe("run", "--name", "ended", busybox, "true").code == 0
    yield "ended"
    assert stack.hythe("rm", "ended").code == 0


def cp(stack: Stack, source: object, destination: object, *flags: str) -> None:
    """Copy, which must succeed and say nothing."""
    done = stack.hythe("cp", *flags, str(source), str(destination))
    assert (done.code, done.stdout, done.stderr) == (0, "", "")


def tree(path: Path) -> dict[str, str]:
    """Return what a directory has: content of files, targets of links, a slash for directories."""
    return {
        str(p.relative_to(path)): str(p.readlink()) if p.is_symlink() else "/" if p.is_dir() else p.read_text()
        for p in sorted(path.rglob("*"))
    }


def run(stack: Stack, *arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command whose output is bytes."""
    return subprocess.run([str(stack.program), *arguments], input=data, capture_output=True, env=stack.environment())


def pid_of(stack: Stack, service: str) -> int:
    """Return the process id of one of the stack's services."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in stack.hythe("status", "--json").stdout.splitlines()]
    return int(next(row["pid"] for row in rows if row["name"] == service))


def workers(agent: int) -> list[int]:
    """Return the copy workers that the agent of this process id started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b'{"parent": %d, ' % agent in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def names_in(stack: Stack, source: str) -> list[str]:
    """Return the names in an archive of what a container has."""
    with tarfile.open(fileobj=io.BytesIO(run(stack, "cp", source, "-").stdout)) as file:
        return file.getnames()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with a file, a directory and a link to the host's passwd."""
    top = tmp_path / "src"
    (top / "sub").mkdir(parents=True)
    (top / "a").write_text("A")
    (top / "sub/b").write_text("B")
    (top / "passwd").symlink_to("/etc/passwd")
    return top


CONTENT = {"a": "A", "passwd": "/etc/passwd", "sub": "/", "sub/b": "B"}


@pytest.mark.parametrize("which", ["web", "ended"])
def test_directory_goes_in_and_comes_out(
    stack: Stack, which: str, source: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A directory becomes one that is not there yet, goes into one that is, and with /. gives what it has."""
    container = request.getfixturevalue(which)
    cp(stack, source, f"{container}:/tmp/one")
    cp(stack, source, f"{container}:tmp/one")
    cp(stack, f"{source}/.", f"{container}:/tmp/one/sub")
    cp(stack, f"{container}:/tmp/one", tmp_path / "out")
    inner = {f"src/{name}": what for name, what in CONTENT.items()}
    assert tree(tmp_path / "out") == CONTENT | inner | {"src": "/"} | {f"sub/{n}": w for n, w in CONTENT.items()}
    cp(stack, f"{container}:/tmp/one/src", tmp_path / "out/sub")
    assert tree(tmp_path / "out/sub/src") == CONTENT
    cp(stack, f"{container}:/tmp/one/src/.", tmp_path)
    assert (tmp_path / "a").read_text() == "A"


def test_file_is_created_overwritten_and_put_into_directories(
    stack: Stack, web: str, source: Path, tmp_path: Path
) -> None:
    """A file takes a new name or that of another file, and goes into a directory under its own."""
    cp(stack, source / "a", f"{web}:/tmp/file")
    cp(stack, source / "sub/b", f"{web}:/tmp/file")
    cp(stack, source / "a", f"{web}:/tmp/")
    cp(stack, f"{web}:/tmp/file", tmp_path)
    cp(stack, f"{web}:/tmp/a", tmp_path / "file2")
    assert ((tmp_path / "file").read_text(), (tmp_path / "file2").read_text()) == ("B", "A")
    colon = tmp_path / "with:colon"
    colon.write_text("C")
    done = subprocess.run(
        [str(stack.program), "cp", "./with:colon", f"{web}:/tmp/"], cwd=tmp_path, env=stack.environment(), check=False
    )
    assert done.returncode == 0
    container_id = json.loads(stack.hythe("inspect", web).stdout)["id"]
    cp(stack, f"{container_id[:10]}:tmp/with:colon", tmp_path / "again")
    assert (tmp_path / "again").read_text() == "C"


def test_link_in_a_container_never_leads_to_the_hosts_files(
    stack: Stack, web: str, source: Path, tmp_path: Path
) -> None:
    """A link to /etc/passwd stays a link, with -L it is the container's file, and writing to it writes there."""
    inside = Path(f"/proc/{json.loads(stack.hythe('inspect', web).stdout)['pid']}/root")
    cp(stack, source / "passwd", f"{web}:/tmp/evil")
    cp(stack, f"{web}:/tmp/evil", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    host = Path("/etc/passwd").read_bytes()
    cp(stack, source / "a", f"{web}:/tmp/evil")
    assert (inside / "etc/passwd").read_text() == "A"
    cp(stack, f"{web}:/tmp/evil", tmp_path / "followed", "-L")
    assert (tmp_path / "followed").read_text() == "A"
    assert Path("/etc/passwd").read_bytes() == host
    cp(stack, source / "passwd", f"{web}:/tmp/real", "--follow-link")
    assert (inside / "tmp/real").read_bytes() == host


def test_loops_and_missing_things_are_said(stack: Stack, web: str, source: Path, tmp_path: Path) -> None:
    """What cannot be copied ends with one error that names it, and with the exit code of its kind."""
    (tmp_path / "loop").symlink_to("loop")
    cp(stack, tmp_path / "loop", f"{web}:/tmp/loop")
    for code, word, *arguments in (
        (2, "symbolic links", f"{web}:/tmp/loop/x", str(tmp_path / "x")),
        (2, "symbolic links", f"{web}:/tmp/loop", str(tmp_path / "x"), "-L"),
        (3, "/tmp/none", f"{web}:/tmp/none", str(tmp_path / "x")),
        (3, "no such container", "nobody:/tmp", str(tmp_path / "x")),
        (3, "none", str(tmp_path / "none"), f"{web}:/tmp"),
        (3, "no such file", str(source), f"{web}:/no/such/place"),
        (3, "there is no directory", f"{web}:/tmp", str(tmp_path / "no/such")),
        (2, "cannot copy a directory", str(source), f"{web}:/etc/hostname-file"),
        (2, "no such directory", str(source / "a"), f"{web}:/tmp/nothing/"),
        (2, "neither path", str(source), str(tmp_path / "x")),
        (2, "between containers", f"{web}:/tmp", f"{web}:/etc"),
    ):
        if word == "cannot copy a directory":
            cp(stack, source / "a", f"{web}:/etc/hostname-file")
        done = stack.hythe("cp", *arguments)
        assert (done.code, word in done.stderr) == (code, True), (arguments, done)
        assert done.stderr.startswith("error: ")


def test_archives_go_through_pipes(stack: Stack, web: str, ended: str, source: Path) -> None:
    """`cp ONE:DIR - | cp - OTHER:DIR` carries a directory between containers, as tar; no archive at all is an error."""
    cp(stack, source, f"{web}:/tmp/piped")
    sent = run(stack, "cp", f"{web}:/tmp/piped", "-")
    assert sent.returncode == 0
    with tarfile.open(fileobj=io.BytesIO(sent.stdout)) as file:
        assert set(file.getnames()) == {"piped", *(f"piped/{name}" for name in CONTENT)}
    assert run(stack, "cp", "-", f"{ended}:/tmp", data=sent.stdout).returncode == 0
    assert run(stack, "cp", f"{ended}:/tmp/piped", "-").stdout == sent.stdout
    refused = run(stack, "cp", "-", f"{web}:/tmp", data=b"no archive" * 100)
    assert refused.returncode == 2, refused.stderr
    refused = run(stack, "cp", "-", f"{web}:/tmp/piped/a", data=sent.stdout)
    assert refused.returncode == 2
    assert b"directory" in refused.stderr


def test_owner_and_mode_are_as_docker_has_them(stack: Stack, web: str, source: Path, tmp_path: Path) -> None:
    """Without -a files are root's in the container and the caller's outside; with -a they stay whose they were."""
    os.chown(source / "a", 1234, 1235)
    (source / "a").chmod(0o2640)
    inside = Path(f"/proc/{json.loads(stack.hythe('inspect', web).stdout)['pid']}/root/tmp")
    cp(stack, source / "a", f"{web}:/tmp/mine")
    cp(stack, source / "a", f"{web}:/tmp/kept", "-a")
    cp(stack, f"{web}:/tmp/kept", tmp_path / "mine")
    cp(stack, f"{web}:/tmp/kept", tmp_path / "kept", "--archive")
    for path, expected in (
        (inside / "mine", (0, 0, 0o640)),
        (inside / "kept", (1234, 1235, 0o2640)),
        (tmp_path / "mine", (0, 0, 0o640)),
        (tmp_path / "kept", (1234, 1235, 0o2640)),
    ):
        found = path.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == expected, path


def test_large_file_is_whole_and_counted(stack: Stack, web: str, tmp_path: Path) -> None:
    """A file much larger than every buffer on the way comes back the same; --json says how much went."""
    big = tmp_path / "big"
    big.write_bytes(os.urandom(1 << 20) * 40)
    done = stack.hythe("cp", "--json", str(big), f"{web}:/tmp/big")
    assert json.loads(done.stdout) == {
        "source": str(big),
        "destination": f"{web}:/tmp/big",
        "entries": 1,
        "bytes": 40 << 20,
        "warnings": [],
    }
    cp(stack, f"{web}:/tmp/big", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == big.read_bytes()


def test_terminal_shows_what_came_of_it_unless_quiet(stack: Stack, web: str, source: Path) -> None:
    """On a terminal the command says at its end how much it copied, in Docker's words; with -q nothing."""
    for flags, said in (((), f"Successfully copied 1 B to {web}:/tmp/shown"), (("-q",), "")):
        terminal, other = os.openpty()
        try:
            command = [str(stack.program), "cp", *flags, str(source / "a"), f"{web}:/tmp/shown"]
            assert subprocess.run(command, stderr=other, env=stack.environment(), check=False).returncode == 0
            os.write(other, b"END\n")
            shown = b""
            while b"END" not in shown:
                shown += os.read(terminal, 4096)
            assert shown.decode().split("\x1b[K")[-1].partition("END")[0].strip() == said
        finally:
            os.close(terminal)
            os.close(other)


def test_read_only_root_is_not_written_to(stack: Stack, busybox: str, source: Path, tmp_path: Path) -> None:
    """A container with a read-only root takes no copy into it, running or not, and gives one out."""
    assert stack.hythe("run", "-d", "--read-only", "--name", "fixed", busybox, "sleep", "600").code == 0
    try:
        for _ in range(2):
            done = stack.hythe("cp", str(source), "fixed:/tmp")
            assert (done.code, "read-only" in done.stderr) == (6, True), done.stderr
            cp(stack, "fixed:/bin/busybox", tmp_path)
            assert stack.hythe("stop", "-t", "0", "fixed").code == 0
    finally:
        assert stack.hythe("rm", "-f", "fixed").code == 0


class Half:
    """A copy into a container that has sent half of a file and waits."""

    def __init__(self, stack: Stack, container: str) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as file:
            entry = tarfile.TarInfo("half")
            entry.size = 1 << 20
            file.addfile(entry, io.BytesIO(bytes(entry.size)))
        self.rest = out.getvalue()[1 << 19 :]
        self.process = subprocess.Popen(
            [str(stack.program), "cp", "-", f"{container}:/tmp"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=stack.environment(),
        )
        self._send(out.getvalue()[: 1 << 19])
        self.agent = pid_of(stack, "agent")
        eventually(lambda: workers(self.agent), what="a worker is at work")

    def send_rest(self) -> None:
        """Send the other half."""
        self._send(self.rest)

    def _send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def wait_for_worker_gone(self) -> None:
        """Wait until nothing works for it any more."""
        eventually(lambda: not workers(self.agent), what="the worker is gone")

    def end(self) -> tuple[int, str]:
        """Wait for its end, and return its code and what it said."""
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said.decode()


def test_killed_client_leaves_no_half_file_and_no_worker(stack: Stack, web: str, ended: str) -> None:
    """kill -9 of `hythe cp` in the middle of a file: the worker ends, nothing of the file is there, no mount remains."""
    mounts = stack.places.mounts()
    for container in (web, ended):
        half = Half(stack, container)
        half.process.kill()
        half.end()
        half.wait_for_worker_gone()
        assert not [name for name in names_in(stack, f"{container}:/tmp/.") if "half" in name or "hythe-cp" in name]
    assert set(stack.places.mounts()) <= set(mounts)


def test_removal_in_the_middle_is_said(stack: Stack, busybox: str) -> None:
    """`hythe rm -f` of a container that is copied into succeeds at once, and the copy says what happened."""
    assert stack.hythe("run", "-d", "--name", "brief", busybox, "sleep", "600").code == 0
    half = Half(stack, "brief")
    assert stack.hythe("rm", "-f", "brief").code == 0
    code, said = half.end()
    assert (code, "given up" in said) == (6, True), said
    assert workers(half.agent) == []


def test_killed_agent_ends_the_copy_with_a_word(stack: Stack, web: str) -> None:
    """kill -9 of the agent: its worker dies with it, the command says that the outcome is unknown, and a new copy works."""
    half = Half(stack, web)
    os.kill(half.agent, signal.SIGKILL)
    half.wait_for_worker_gone()
    code, said = half.end()
    assert code != 0
    assert "outcome unknown" in said, said
    eventually(lambda: run(stack, "cp", f"{web}:/etc", "-").returncode == 0, timeout_s=20, what="a copy works")
    assert not [name for name in names_in(stack, f"{web}:/tmp/.") if "half" in name]


def test_copies_go_on_after_the_bus_was_killed(stack: Stack, web: str, tmp_path: Path) -> None:
    """kill -9 of nats-server in the middle of a copy, in either direction, delays it and loses nothing."""
    big = tmp_path / "big"
    big.write_bytes(os.urandom(1 << 20) * 12)
    cp(stack, big, f"{web}:/tmp/big")
    half = Half(stack, web)
    out = subprocess.Popen(
        [str(stack.program), "cp", f"{web}:/tmp/big", "-"], stdout=subprocess.PIPE, env=stack.environment()
    )
    try:
        assert out.stdout is not None
        start = out.stdout.read(1000)
        os.kill(pid_of(stack, "nats-server"), signal.SIGKILL)
        half.send_rest()
        assert half.end() == (0, "")
        with tarfile.open(fileobj=io.BytesIO(start + out.stdout.read())) as file:
            assert file.extractfile("big").read() == big.read_bytes()  # type: ignore[union-attr]
        assert out.wait(20) == 0
    finally:
        out.kill()
        out.communicate()
    assert "half" in names_in(stack, f"{web}:/tmp/half")
    eventually(lambda: stack.hythe("status").code == 0, timeout_s=20, what="the stack is healthy again")


def test_copy_is_in_the_trace_with_its_bytes(stack: Stack, web: str, source: Path) -> None:
    """The trace of a copy shows it on the host, with how many bytes went."""
    cp(stack, source, f"{web}:/tmp/traced")
    done = stack.hythe("trace", "ls", "--json")
    last = next(row for row in map(json.loads, done.stdout.splitlines()) if row["name"] == "hythe cp")
    shown = eventually(lambda: _spans(stack, last["trace_id"]), what="the agent's spans are there")
    assert "copy in" in shown


def _spans(stack: Stack, trace_id: str) -> str:
    shown = stack.hythe("trace", "show", trace_id).stdout
    return shown if "copy in" in shown else ""
