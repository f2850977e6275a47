"""`hythe tag`, `rmi` and `images prune`: what is named, forgotten, and asked before."""

from __future__ import annotations

import asyncio
import os

import pytest

from hythe.errors import FailedPrecondition, HytheError, NotFound
from hythe.wire import images
from tests.fakes.distribution_desk import DIGEST, Distribution, summary
from tests.integration.cli.conftest import Desk


async def test_tag_asks_once_and_says_nothing(desk: Desk, distribution: Distribution) -> None:
    """As in Docker, a new name is no news."""
    distribution.answers["image.tag"] = summary("docker.io/library/x:2")
    assert await desk.run("tag", "busybox", "x:2") == (0, "", "")
    assert distribution.asked == [images.ImageTag(image="busybox", target="x:2")]


async def test_rmi_tries_all_and_ends_with_the_first_error(desk: Desk, distribution: Distribution) -> None:
    """One image that cannot be removed does not keep the others; with -f a missing one is no error."""

    def remove(request: images.ImageRemove) -> images.ImageRemoved | HytheError:
        if request.image == "gone":
            return NotFound("remove image gone: there is no such image")
        if request.image == "used":
            return FailedPrecondition("remove image used: a container uses it")
        return images.ImageRemoved(
            untagged=["docker.io/library/busybox:1.36", f"hythe.invalid/x@{DIGEST}"], deleted=[DIGEST]
        )

    distribution.answers["image.remove"] = remove
    code, out, err = await desk.run("rmi", "used", "gone", "busybox")
    assert (code, out) == (6, f"Untagged: busybox:1.36\nDeleted: {DIGEST}\n")
    assert "error: remove image gone" in err
    assert "error: remove image used" in err
    code, out, err = await desk.run("images", "rm", "-f", "gone")
    assert (code, out, err) == (0, "", "warning: remove image gone: there is no such image\n")
    assert distribution.asked[-1].force is True


async def test_prune_without_a_terminal_needs_force_or_a_dry_run(desk: Desk, distribution: Distribution) -> None:
    """Nothing is removed by a script that did not say so; a dry run says what would go."""
    pruned = images.ImagePruned(untagged=["docker.io/library/busybox:1.36"], deleted=[DIGEST], reclaimable_bytes=2000)
    distribution.answers["image.prune"] = pruned
    code, out, err = await desk.run("images", "prune")
    assert (code, out, "--force" in err, distribution.asked) == (6, "", True, [])
    out = (
        await desk.run("images", "prune", "-a", "--dry-run", "--filter", "until=2026-01-02", "--filter", "label=k=v")
    )[1]
    assert out.splitlines() == [
        "Would be untagged: busybox:1.36",
        f"Would be deleted: {DIGEST}",
        "Total reclaimable space: 2.0 kB",
    ]
    assert distribution.asked == [
        images.ImagePrune(all=True, before="2026-01-02T00:00:00Z", labels=["k=v"], dry_run=True)
    ]
    assert (await desk.run("images", "prune", "-f"))[1].startswith("Untagged: busybox:1.36\nDeleted: sha256:")


@pytest.mark.parametrize(("reply", "asked"), [(b"y\n", 1), (b"\n", 0), (b"no\n", 0)])
async def test_prune_asks_on_a_terminal(desk: Desk, distribution: Distribution, reply: bytes, asked: int) -> None:
    """Only yes is yes."""
    distribution.answers["image.prune"] = images.ImagePruned(untagged=[], deleted=[], reclaimable_bytes=0)
    terminal, inside = os.openpty()
    os.write(terminal, reply)
    process = desk.start("images", "prune", stdin=inside)
    _, err = await asyncio.to_thread(process.communicate, None, 10)
    os.close(inside)
    os.close(terminal)
    assert (process.returncode, b"Are you sure" in err, len(distribution.asked)) == (0, True, asked)
