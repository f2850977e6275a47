"""`hythe content`: what a user may rely on about blobs."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from scripts.lab.images import busybox as busybox_image
from scripts.lab.registry import Registry
from scripts.lab.stack import Stack
from tests.fixtures.waiting import eventually

DATA = b"bytes of a blob\n" * 70_000
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


def ingest(stack: Stack, data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run `hythe content ingest` with `data` on stdin."""
    command = [str(stack.program), "content", "ingest", *arguments]
    return subprocess.run(command, input=data, capture_output=True, env=stack.environment(), timeout=60, check=False)


def get(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run `hythe content get` and return its bytes."""
    command = [str(stack.program), "content", "get", *arguments]
    return subprocess.run(command, capture_output=True, env=stack.environment(), timeout=60, check=False)


def test_blob_goes_in_and_comes_out(stack: Stack) -> None:
    """stdin becomes a blob, which can be read whole, in part, shown, labelled and removed."""
    done = ingest(stack, DATA, "--expected-digest", DIGEST, "--label", "made=here", "e2e")
    assert (done.returncode, done.stdout.decode().strip()) == (0, DIGEST), done.stderr
    assert get(stack, DIGEST).stdout == DATA
    assert get(stack, DIGEST[:19], "--offset", "5", "--length", "10").stdout == DATA[5:15]
    labelled = stack.hythe("content", "label", DIGEST, "kept=yes", "made=")
    assert (labelled.code, labelled.stdout) == (0, "kept=yes\n")
    info = json.loads(stack.hythe("content", "info", DIGEST).stdout)
    assert (info["size_bytes"], info["labels"]) == (len(DATA), {"kept": "yes"})
    listed = stack.hythe("content", "ls", 'labels."kept"==yes', "-q")
    assert listed.stdout.split() == [DIGEST]
    assert stack.hythe("content", "ls", "-n", "other", "-q").stdout == ""
    removed = stack.hythe("content", "rm", DIGEST)
    assert (removed.code, removed.stdout.strip()) == (0, DIGEST)
    assert stack.hythe("content", "info", DIGEST).code == 3
    assert not (stack.root / "content" / "blobs" / "sha256" / DIGEST[7:]).exists()


def test_blob_written_to_a_file_appears_whole(stack: Stack, tmp_path: Path) -> None:
    """A file is there with all its bytes or not at all."""
    ingest(stack, DATA, "file")
    target = tmp_path / "out"
    assert stack.hythe("content", "get", "--output", str(target), DIGEST).code == 0
    assert target.read_bytes() == DATA
    assert list(tmp_path.iterdir()) == [target]
    stack.hythe("content", "rm", DIGEST)


def test_other_bytes_than_expected_are_refused(stack: Stack) -> None:
    """A lie about the digest leaves neither a blob nor an ingest."""
    done = ingest(stack, b"other bytes", "--expected-digest", DIGEST, "lie")
    assert done.returncode == 6, done.stderr
    assert b"expected sha256:" in done.stderr
    assert stack.hythe("content", "active").stdout.splitlines()[1:] == []


def test_interrupted_ingest_goes_on(stack: Stack) -> None:
    """What an interrupted ingest brought is listed, and is not sent again."""
    command = [str(stack.program), "content", "ingest", "broken"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=stack.environment())
    assert process.stdin is not None
    size = 9 << 20
    data = os.urandom(size)
    process.stdin.write(data[: 8 << 20])
    process.stdin.flush()

    def arrived() -> bool:
        lines = stack.hythe("content", "active", "--json").stdout.splitlines()
        return any(json.loads(line)["offset"] == 8 << 20 for line in lines)

    eventually(arrived, timeout_s=20)
    busy = ingest(stack, data, "--resume", "broken")
    assert (busy.returncode, b"another writer holds it" in busy.stderr) == (10, True)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    process.stdin.close()
    done = ingest(stack, data, "--resume", "broken")
    assert done.returncode == 0, done.stderr
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert get(stack, digest).stdout == data
    stack.hythe("content", "rm", digest)


def test_corrupt_blob_is_found_and_fetched_again(fresh_stack: Stack, registry: Registry) -> None:
    """A byte that the disk changed is found by a check, and repaired from the registry that the blob came from."""
    stack = fresh_stack
    reference = registry.push(busybox_image().build(), "content-check:1")
    assert stack.hythe("pull", reference).code == 0
    assert stack.hythe("content", "check").code == 0
    layer = max((stack.root / "content" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    whole = layer.read_bytes()
    layer.chmod(0o600)
    layer.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    found = stack.hythe("content", "check")
    assert found.code == 12
    assert f"sha256:{layer.name}: corrupt" in found.stdout
    repaired = stack.hythe("content", "check", "--repair")
    assert (repaired.code, "1 repaired" in repaired.stdout) == (0, True), repaired.stdout + repaired.stderr
    assert layer.read_bytes() == whole
    assert stack.hythe("content", "check").code == 0


@pytest.mark.parametrize(
    "arguments", [("get", "sha256:xyz"), ("get", "ab"), ("label", DIGEST, "novalue"), ("ls", "==")]
)
def test_wrong_words_are_refused(stack: Stack, arguments: tuple[str, ...]) -> None:
    """What is not understood is said to be so, before anything is done."""
    assert stack.hythe("content", *arguments).code == 2
