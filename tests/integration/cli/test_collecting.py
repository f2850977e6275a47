"""What commands do about collection: `--sync`, and the lease of a day for what has no name."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nats.aio.msg import Msg

from hythe.digest import Digest, digest_of
from hythe.errors import FailedPrecondition
from hythe.identifiers import new_id
from hythe.wire import garbage, images
from hythe.wire.base import Empty, Request
from hythe.wire.leases import LeaseAdd, LeaseCreate, LeaseRecord, LeaseRemove
from tests.fakes.distribution_desk import DIGEST, Distribution
from tests.fixtures.secured_bus import HOST, Responder
from tests.integration.cli.conftest import Desk
from tests.integration.distribution.processes import ServiceProcess

DATA = b"a blob without a name"
BLOB = digest_of(DATA)
REQUESTS: dict[str, type[Request]] = {
    "gc.run": garbage.GcRun,
    "lease.create": LeaseCreate,
    "lease.add": LeaseAdd,
    "lease.remove": LeaseRemove,
}


class Metadata:
    """A metadata service that collects nothing and keeps leases.

    Attributes:
        asked: each request as ``noun.verb`` with its message, oldest first.
        report: what a collection answers.
        here: whether the blob was in content, each time a lease was to keep it.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, Request]] = []
        self.report = garbage.GcReport(generation=1, dry_run=False, freed_bytes=2_000_000)
        self.content: ServiceProcess | None = None
        self.here: list[bool] = []

    def verbs(self) -> list[str]:
        """Return what was asked, oldest first."""
        return [verb for verb, _ in self.asked]

    async def answer(self, message: Msg, service: Responder) -> None:
        """Answer one request."""
        verb = ".".join(message.subject.split(".")[-2:])
        request = REQUESTS[verb].model_validate_json(message.data)
        self.asked.append((verb, request))
        answer: Any = Empty()
        if isinstance(request, garbage.GcRun):
            await service.say(message.reply, "accepted", {})
            answer = self.report
        if isinstance(request, LeaseCreate | LeaseAdd):
            self.here += [self._has(Digest(each.name[7:])) for each in request.resources]
            now = "2026-06-01T00:00:00Z"
            answer = LeaseRecord(namespace="default", id=request.id, revision=1, created_at=now, updated_at=now)
        await service.say(message.reply, "done", answer.model_dump(mode="json"))

    def _has(self, digest: Digest) -> bool:
        assert self.content is not None
        return (self.content.root / "content" / "blobs" / "sha256" / digest.hex).exists()


@pytest.fixture
async def metadata(desk: Desk) -> Metadata:
    """A metadata service on the bus of the commands."""
    made = Metadata()
    await desk.serve("metadata", made.answer)
    return made


@pytest.fixture
async def content(desk: Desk, metadata: Metadata) -> AsyncIterator[ServiceProcess]:
    """A real content store on the bus of the commands."""
    process = metadata.content = ServiceProcess("distribution", desk.directory, desk.bus, root=desk.directory / "root")
    await asyncio.to_thread(process.start)
    yield process
    await asyncio.to_thread(process.end)


async def test_removed_image_is_collected_at_once_if_that_is_wanted(
    desk: Desk, distribution: Distribution, metadata: Metadata
) -> None:
    """With --sync the room is there when `rmi` returns, and it says how much; without, nothing is collected."""
    distribution.answers["image.remove"] = images.ImageRemoved(untagged=[], deleted=[DIGEST])
    assert (await desk.run("rmi", "busybox"))[1] == f"Deleted: {DIGEST}\n"
    assert metadata.asked == []
    code, out, err = await desk.run("rmi", "--sync", "busybox", "alpine")
    assert (code, out, err) == (0, f"Deleted: {DIGEST}\nDeleted: {DIGEST}\nFreed: 2.0 MB\n", "")
    assert metadata.asked == [("gc.run", garbage.GcRun())]


async def test_what_was_removed_is_collected_though_another_could_not_be(
    desk: Desk, distribution: Distribution, metadata: Metadata
) -> None:
    """One image in use keeps neither the others nor their room; the error is told all the same."""
    distribution.answers["image.remove"] = FailedPrecondition("remove image used: a container uses it")
    code, out, err = await desk.run("images", "rm", "--sync", "used")
    assert (code, out) == (6, "Freed: 2.0 MB\n")
    assert "a container uses it" in err


async def test_host_that_keeps_its_content_is_named(desk: Desk, distribution: Distribution, metadata: Metadata) -> None:
    """Where a host could not be collected, the command says which and why."""
    distribution.answers["image.remove"] = images.ImageRemoved(untagged=[], deleted=[])
    metadata.report = garbage.GcReport(
        generation=1,
        dry_run=False,
        suspended="the clock was set",
        hosts=[
            garbage.GcHostReport(host="h1", owner="distribution", state="swept"),
            garbage.GcHostReport(host="h2", owner="distribution", state="untrusted", reason="unknown store"),
            garbage.GcHostReport(host="h3", owner="bundle", state="unreachable"),
        ],
    )
    err = (await desk.run("rmi", "--sync", "busybox"))[2]
    assert err.splitlines() == [
        "warning: nothing was collected: the clock was set",
        "warning: distribution on h2 was not collected, untrusted: unknown store",
        "warning: bundle on h3 was not collected, unreachable",
    ]


async def test_prune_says_what_was_freed_or_when_it_will_be(
    desk: Desk, distribution: Distribution, metadata: Metadata
) -> None:
    """With --sync it is what was freed, else what will be with the next collection; a dry run collects nothing."""
    distribution.answers["image.prune"] = images.ImagePruned(untagged=[], deleted=[], reclaimable_bytes=1000)
    assert (await desk.run("images", "prune", "-f"))[1] == (
        "Total reclaimable space: 1.0 kB; it goes with the next collection\n"
    )
    assert (await desk.run("images", "prune", "--sync", "--dry-run"))[1] == "Total reclaimable space: 1.0 kB\n"
    assert metadata.asked == []
    assert (await desk.run("images", "prune", "-f", "--sync"))[1] == "Total reclaimed space: 2.0 MB\n"
    row = json.loads((await desk.run("images", "prune", "-f", "--sync", "--format", "json"))[1])
    assert (row["reclaimable_bytes"], row["freed_bytes"]) == (1000, 2_000_000)


@pytest.mark.parametrize("flags", [(), ("--expected-digest", str(BLOB))], ids=["unknown", "expected"])
async def test_ingested_blob_is_kept_for_a_day(
    desk: Desk, metadata: Metadata, content: ServiceProcess, flags: tuple[str, ...]
) -> None:
    """A blob that nothing refers to isn't collected the moment it came: a lease of a day keeps it from before it is there."""
    before = datetime.now(UTC)
    code, out, err = await desk.run("content", "ingest", *flags, new_id(), stdin=DATA, HYTHE_HOST=HOST)
    assert (code, out, err) == (0, f"{BLOB}\n", "")
    [(verb, lease)] = metadata.asked
    assert verb == "lease.create" and isinstance(lease, LeaseCreate)
    assert [(each.kind, each.name) for each in lease.resources] == [("content", str(BLOB))]
    left = datetime.fromisoformat(lease.labels["containerd.io/gc.expire"]) - before
    assert timedelta(hours=23, minutes=59) < left < timedelta(hours=24, minutes=1)
    assert (lease.duration_s, metadata.here) == (None, [False])


async def test_refused_ingest_leaves_no_lease(desk: Desk, metadata: Metadata, content: ServiceProcess) -> None:
    """Bytes that are not what was expected are refused, and nothing is kept for a day."""
    wrong = digest_of(b"something else")
    code, out, _ = await desk.run(
        "content", "ingest", "--expected-digest", str(wrong), "some", stdin=DATA, HYTHE_HOST=HOST
    )
    assert (code, out) == (6, "")
    assert metadata.verbs() == ["lease.create", "lease.remove"]


async def test_ingest_says_on_a_terminal_how_long_it_is_kept(
    desk: Desk, metadata: Metadata, content: ServiceProcess
) -> None:
    """People are told until when a blob without a name is there."""
    terminal, inside = os.openpty()
    process = desk.start("content", "ingest", "some", stdin=subprocess.PIPE, stderr=inside, HYTHE_HOST=HOST)
    try:
        out, _ = await asyncio.to_thread(process.communicate, DATA, 20)
        assert (process.returncode, out) == (0, f"{BLOB}\n".encode())
        [(_, lease)] = metadata.asked
        assert isinstance(lease, LeaseCreate)
        assert f"kept until {lease.labels['containerd.io/gc.expire']}" in os.read(terminal, 1000).decode()
    finally:
        os.close(inside)
        os.close(terminal)
