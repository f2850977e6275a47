"""A stack whose content is in S3: what a user may rely on is the same."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from scripts.lab.images import busybox
from scripts.lab.registry import Registry
from scripts.lab.stack import Stack
from tests.fixtures.s3 import Bucket, SeaweedServer


def variables(bucket: Bucket) -> dict[str, str]:
    """Return the settings of a stack that keeps its content in `bucket`."""
    return {
        "HYTHE_CONTENT_URL": bucket.url,
        "HYTHE_S3_ACCESS_KEY": bucket.access_key,
        "HYTHE_S3_SECRET_KEY": bucket.secret_key,
    }


def test_container_runs_from_an_image_in_s3(
    make_stack: Callable[..., Stack], bucket: Bucket, registry: Registry, tmp_path: Path
) -> None:
    """Pull, run, push, save and read blobs, with no blob on the host's disk; the keys are shown nowhere."""
    stack = make_stack(variables=variables(bucket))
    stack.up()
    reference = registry.push(busybox().config(Labels={"for": "s3"}).build(), "e2e/s3:1")
    done = stack.hythe("run", "--rm", reference, "echo", "from S3")
    assert (done.code, done.stdout) == (0, "from S3\n"), done.stderr
    assert not (stack.root / "content").exists()
    blobs = [json.loads(line) for line in stack.hythe("content", "ls", "--format", "json").stdout.splitlines()]
    assert len(blobs) == 3
    for blob in blobs:
        command = [str(stack.program), "content", "get", blob["digest"]]
        data = subprocess.run(command, capture_output=True, env=stack.environment(), check=True).stdout
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == blob["digest"]
    assert stack.hythe("content", "check").code == 0
    assert stack.hythe("push", reference, f"{registry.address}/e2e/s3:2").code == 0
    assert stack.hythe("save", "-o", str(tmp_path / "saved.tar"), reference).code == 0
    config = stack.hythe("config")
    assert bucket.url in config.stdout
    assert bucket.secret_key not in config.stdout + stack.logs(lines=10_000)
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit() and str(stack.root) in _environment(directory):
            service = (directory / "cmdline").read_text().partition("-m\0")[2].rstrip("\0")
            if service:
                assert (bucket.secret_key in _environment(directory)) == (service == "hythe_distribution")


def _environment(process: Path) -> str:
    try:
        return (process / "environ").read_text(errors="replace")
    except OSError:
        return ""


def test_pull_without_s3_fails_by_name_and_works_again_later(
    make_stack: Callable[..., Stack], start_seaweed: Callable[[], SeaweedServer], registry: Registry
) -> None:
    """With S3 stopped nothing is half stored; what was staged is used when it is back."""
    seaweed = start_seaweed()
    bucket = seaweed.new_bucket()
    stack = make_stack(variables=variables(bucket))
    stack.up()
    reference = registry.push(busybox().config(Labels={"for": "away"}).build(), "e2e/s3-away:1")
    seaweed.kill()
    failed = stack.hythe("pull", "--no-unpack", reference)
    assert failed.code == 10, failed.stderr
    assert bucket.host in failed.stderr
    seaweed.start()
    assert stack.hythe("content", "ls", "-q").stdout == ""
    again = stack.hythe("pull", "--no-unpack", reference)
    assert again.code == 0, again.stderr
