"""What is collected on a whole stack, what never is, and what a user is told of it."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scripts.lab.images import Image, ImageBuilder, Layer, busybox
from scripts.lab.registry import Registry
from scripts.lab.stack import Stack
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import eventually

ROUNDS = int(os.environ.get("HYTHE_STRESS_ROUNDS", "6"))
WORKERS = 3


def small_image(name: str) -> Image:
    """Return an image with busybox and a layer of its own."""
    return busybox().layer(Layer().file("data", name.encode() * 1000), "gzip").build()


def collect(stack: Stack, *flags: str) -> dict[str, Any]:
    """Collect, and return the report."""
    done = stack.hythe("gc", *flags, "--format", "json")
    assert done.code == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def digests(stack: Stack) -> list[str]:
    """Return the digests of all blobs in the namespace."""
    return stack.hythe("content", "ls", "-q").stdout.split()


def snapshots(stack: Stack) -> list[str]:
    """Return the keys of all snapshots."""
    return stack.hythe("snapshot", "ls", "-q").stdout.split()


def registered(stack: Stack) -> None:
    """Wait until the host has registered, so that a collection asks it."""
    eventually(lambda: collect(stack, "--dry-run")["hosts"], what="the host has registered")


def test_what_nothing_refers_to_goes_and_nothing_else(fresh_stack: Stack, registry: Registry) -> None:
    """Content and snapshots go with the last name and container that need them, and `gc why` names those until then."""
    stack = fresh_stack
    kept, gone = registry.push(small_image("kept"), "e2e/kept:1"), registry.push(small_image("gone"), "e2e/gone:1")
    registered(stack)
    started = stack.hythe("run", "-d", "--name", "user", gone, "sleep", "1000")
    assert started.code == 0, started.stderr
    container = started.stdout.strip()
    assert stack.hythe("pull", kept).code == 0
    before = set(digests(stack))
    assert stack.hythe("rmi", "-f", gone).code == 0
    assert collect(stack)["removed"] == 0, "the container keeps its image"
    assert set(digests(stack)) == before
    told = [stack.hythe("gc", "why", digest).stdout for digest in sorted(before)]
    assert len([text for text in told if f"container {container}" in text]) == 4, "manifest, config and two layers"
    assert stack.hythe("rm", "-f", "user").code == 0
    planned = collect(stack, "--dry-run")
    assert set(digests(stack)) == before
    done = collect(stack)
    assert done["removed"] == planned["removed"] > 0
    left = set(digests(stack))
    assert left < before
    assert stack.hythe("images", "check", kept).code == 0
    assert stack.hythe("run", "--rm", kept, "true").code == 0
    assert stack.hythe("rmi", kept).code == 0
    collect(stack)
    assert digests(stack) == snapshots(stack) == []
    assert not list((stack.root / "content" / "blobs" / "sha256").iterdir())


def test_pulls_runs_removals_and_collections_at_once(fresh_stack: Stack, registry: Registry) -> None:
    """Whatever goes on at the same time, nothing is missing that somebody needs, and in the end nothing is left over."""
    stack = fresh_stack
    references = [registry.push(small_image(f"stress {number}"), f"e2e/stress:{number}") for number in range(3)]
    registered(stack)
    wrong: list[str] = []

    def must(*words: str, codes: tuple[int, ...] = (0,)) -> None:
        done = stack.hythe(*words)
        if done.code not in codes:
            wrong.append(f"{' '.join(words)}: {done.code}\n{done.stderr}")

    def work(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(ROUNDS):
            reference = choose.choice(references)
            must("run", "--rm", reference, "cat", "/data")
            if choose.random() < 0.5:
                must("pull", reference)
            must("rmi", "-f", reference, codes=(0, 3, 4))  # somebody else may have been faster

    def sweep() -> None:
        for _ in range(ROUNDS * 2):
            must("gc")

    with ThreadPoolExecutor(WORKERS + 1) as pool:
        for future in [*(pool.submit(work, seed) for seed in range(WORKERS)), pool.submit(sweep)]:
            future.result()
    assert wrong == []
    for reference in references:
        stack.hythe("rmi", "-f", reference)
    for _ in range(2):
        collect(stack)
    assert digests(stack) == snapshots(stack) == []
    assert stack.hythe("lease", "ls", "-q").stdout == ""


def test_restored_store_deletes_nothing_until_it_is_confirmed(
    make_stack: Callable[..., Stack], registry: Registry
) -> None:
    """After a restore what the backup knows nothing of stays, `hythe gc` says so, and `--confirm` lets it go."""
    stack = make_stack()
    stack.up()
    old, new = registry.push(small_image("old"), "e2e/old:1"), registry.push(small_image("new"), "e2e/new:1")
    registered(stack)
    assert stack.hythe("pull", old).code == 0
    backup = stack.base / "backup.db"
    assert stack.hythe("metadata", "backup", str(backup)).code == 0
    assert stack.hythe("pull", new).code == 0
    before = set(digests(stack))
    assert stack.hythe("metadata", "restore", str(backup)).code == 6, "not while the service uses the store"
    assert stack.down().code == 0
    restored = stack.hythe("metadata", "restore", str(backup))
    assert restored.code == 0, restored.stderr
    stack.up()
    registered(stack)
    report = collect(stack)
    assert {host["state"] for host in report["hosts"]} == {"untrusted"}
    assert "restored" in report["hosts"][0]["reason"]
    assert set(digests(stack)) == before
    told = stack.hythe("gc")
    assert "--confirm" in told.stdout + told.stderr
    assert collect(stack, "--confirm")["removed"] > 0
    assert stack.hythe("images", "check", old).code == 0
    assert set(digests(stack)) < before


def test_other_store_on_the_same_root_deletes_nothing(
    make_stack: Callable[..., Stack], registry: Registry, redis_server: RedisServer
) -> None:
    """A fresh Redis, or a lost file, knows nothing of what is there: it takes nothing away."""
    stack = make_stack()
    stack.up()
    registered(stack)
    assert stack.hythe("pull", registry.push(small_image("first"), "e2e/first:1")).code == 0
    before = digests(stack)
    assert stack.down().code == 0
    other = make_stack(variables={"HYTHE_METADATA_URL": redis_server.url("fresh")}, root=stack.root)
    other.up()
    registered(other)
    report = collect(other)
    assert {host["state"] for host in report["hosts"]} == {"untrusted"}
    assert digests(other) == before
    assert other.down().code == 0
    shutil.rmtree(stack.root / "metadata")
    stack.up()
    registered(stack)
    assert {host["state"] for host in collect(stack)["hosts"]} == {"untrusted"}
    assert digests(stack) == before


def test_stack_works_on_redis_as_on_sqlite(
    make_stack: Callable[..., Stack], registry: Registry, redis_server: RedisServer
) -> None:
    """With HYTHE_METADATA_URL pointing to Redis images, containers, namespaces and collections work the same."""
    stack = make_stack(variables={"HYTHE_METADATA_URL": redis_server.url("stack")})
    stack.up()
    registered(stack)
    reference = registry.push(small_image("redis"), "e2e/redis:1")
    assert stack.hythe("run", "--rm", reference, "echo", "hi").stdout == "hi\n"
    assert stack.hythe("run", "-d", "--name", "web", reference, "sleep", "1000").code == 0
    assert "web" in stack.hythe("ps").stdout
    assert stack.hythe("rm", "-f", "web").code == 0
    assert stack.hythe("rmi", "--sync", reference).code == 0
    assert digests(stack) == []
    assert stack.hythe("namespace", "rm", "default").code == 0
    assert not (stack.root / "metadata" / "metadata.db").exists()


def test_store_is_checked_backed_up_and_upgraded_by_commands(fresh_stack: Stack, tmp_path: Path) -> None:
    """`hythe metadata` says of a running stack that its store is whole, and writes a backup that is one."""
    stack = fresh_stack
    assert stack.hythe("namespace", "create", "team", "for=test").code == 0
    checked = stack.hythe("metadata", "check")
    assert (checked.code, checked.stdout) == (0, "whole\n")
    target = tmp_path / "backup.db"
    assert stack.hythe("metadata", "backup", str(target)).stdout == f"{target}\n"
    again = stack.hythe("metadata", "backup", str(target))
    assert again.code == 4
    assert "name a new file" in again.stderr
    assert stack.hythe("metadata", "upgrade").code == 6
    assert stack.down().code == 0
    assert "as it was" in stack.hythe("metadata", "upgrade").stdout
    with target.open("r+b") as file:
        file.seek(5000)
        file.write(os.urandom(4000))
    refused = stack.hythe("metadata", "restore", str(target))
    assert refused.code == 8
    assert "damaged" in refused.stderr
    assert stack.hythe("metadata", "check").stdout == "whole\n"


def test_garbage_of_a_given_up_pull_goes(fresh_stack: Stack, registry: Registry) -> None:
    """What a pull brought that didn't end, and blobs that nothing names, are gone after two collections."""
    stack = fresh_stack
    registered(stack)
    builder = ImageBuilder().layer(Layer().file("big", os.urandom(8 << 20)), "none")
    reference = registry.push(builder.build(), "e2e/big:1")
    pulling = stack.popen("pull", reference)
    eventually(lambda: any((stack.root / "content").rglob("data")) or digests(stack), what="the pull has begun")
    pulling.kill()
    pulling.wait()
    stack.hythe("rmi", "-f", reference)
    eventually(lambda: collect(stack)["removed"] == 0 and not digests(stack), what="nothing is left", timeout_s=90)


def test_redis_that_may_lose_a_second_is_taken_only_when_somebody_says_so(
    make_stack: Callable[..., Stack], start_redis: Callable[..., RedisServer]
) -> None:
    """`appendfsync everysec` is refused with what to do, and taken with `--allow-relaxed`."""
    server = start_redis("--appendfsync", "everysec")
    stack = make_stack(variables={"HYTHE_METADATA_URL": server.url("relaxed")})
    refused = stack.hythe("up", "--detach")
    assert refused.code != 0
    assert "appendfsync" in refused.stderr + stack.logs()
    stack.down()
    taken = stack.hythe("up", "--detach", "--allow-relaxed")
    assert taken.code == 0, taken.stderr + stack.logs()
    assert stack.hythe("namespace", "create", "team").code == 0
