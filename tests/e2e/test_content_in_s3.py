"""A stack whose content is in S3: what a user may rely on is the same."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hythe_distribution.adapters.s3_bucket import PART_BYTES
from scripts.lab.images import ImageBuilder, Layer, busybox
from scripts.lab.registry import Registry
from scripts.lab.stack import Stack
from tests.e2e.test_bad_input import assert_clear
from tests.fakes.registry import FakeRegistry
from tests.fakes.relay import Relay
from tests.fixtures.s3 import Bucket, SeaweedServer
from tests.fixtures.s3_client import blob as stored_blob


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


def test_s3_that_goes_away_in_the_middle_of_an_upload_leaves_no_part_of_a_blob(
    make_stack: Callable[..., Stack], bucket: Bucket, fake_registry: FakeRegistry
) -> None:
    """The pull fails by the store's name; when the store is back the next one sends what is here, and fetches nothing twice."""
    data = os.urandom(PART_BYTES + 1000)
    image = ImageBuilder().layer(Layer().file("large", data), "none").config(Cmd=["/large"]).build()
    reference = fake_registry.serve(image, "e2e/s3-cut:1")
    with Relay(bucket.host) as relay:
        stack = make_stack(variables=variables(replace(bucket, host=relay.host)))
        stack.up()
        relay.after_sending(PART_BYTES // 2, relay.cut)
        failed = stack.hythe("pull", "--no-unpack", reference)
        assert failed.code == 10, failed.stderr
        assert_clear(failed, relay.host, "outcome known: ", "trace: ")
        assert bucket.secret_key not in failed.stderr
        assert stored_blob(bucket, image.layers[0].digest[7:]) is None
        relay.mend()
        assert stack.hythe("content", "ls", "-q").stdout == ""
        assert reference not in stack.hythe("images", "--format", "{{.Reference}}").stdout
        again = stack.hythe("pull", "--no-unpack", reference)
        assert again.code == 0, again.stderr
        asked = [each for each in fake_registry.requests if image.layers[0].digest in each.path]
        assert len(asked) == 1
        assert stored_blob(bucket, image.layers[0].digest[7:]) == image.layers[0].data
