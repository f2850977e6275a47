"""`hythe namespace` and `hythe lease` as processes, against metadata's own handlers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.cli import exits
from hythe.identifiers import check_id
from hythe.wire.garbage import GcHostReport, GcReport, GcRun
from hythe_metadata.adapters.memory_store import MemoryStore
from hythe_metadata.lease_clock import LeaseClock
from hythe_metadata.lease_handlers import LeaseHandlers
from hythe_metadata.record_handlers import NamespaceHandlers
from tests.fixtures.peers import Peers
from tests.integration.cli.conftest import Desk

DIGEST = "sha256:" + "a" * 64


class Metadata:
    """Metadata's endpoints of namespaces and leases, and a collection that finds nothing.

    Attributes:
        collections: how often a collection was asked for.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.store = MemoryStore()
        self.collections = 0

    def register(self, service: Service) -> None:
        """Add all endpoints."""
        NamespaceHandlers(self.store).register(service)
        LeaseHandlers(self.store, LeaseClock(), self.nothing).register(service)
        service.operation("gc", "run", GcRun, self.collect, scope="any")

    async def nothing(self) -> None:
        """The command asks for a collection by itself, so that many leases need only one."""
        raise AssertionError("a lease was removed with sync")

    async def collect(self, context: Context, request: GcRun, progress: Progress) -> GcReport:
        """Note that a collection was asked for."""
        self.collections += 1
        silent = GcHostReport(host="h2", owner="bundle", state="unreachable")
        return GcReport(generation=1, dry_run=False, hosts=[silent])

    async def out(self, *arguments: str) -> str:
        """Return what a command that succeeds prints."""
        code, out, err = await self.desk.run(*arguments)
        assert code == 0, err
        return out

    async def rows(self, *arguments: str) -> list[dict[str, object]]:
        """Return the objects that a command prints with ``--json``."""
        return [json.loads(line) for line in (await self.out(*arguments, "--json")).splitlines()]


@pytest.fixture
async def metadata(desk: Desk) -> AsyncIterator[Metadata]:
    """A bus with metadata on it."""
    made = Metadata(desk)
    peers = Peers(desk.directory / "root", desk.bus)
    await peers.service("metadata", made.register)
    yield made
    await peers.close()


async def test_namespaces_are_made_shown_and_removed(metadata: Metadata) -> None:
    """A namespace is made with labels, listed as a table, as names, as objects and by a template, and removed."""
    assert await metadata.out("namespace", "create", "team-b", "a=1", "b=2") == "team-b\n"
    assert await metadata.out("ns", "create", "team-a") == "team-a\n"
    await metadata.out("-n", "team-a", "lease", "create")
    await metadata.out("-n", "team-a", "lease", "create")
    lines = (await metadata.out("namespace", "ls")).splitlines()
    assert [line.split("   ") for line in lines if "team-b" in line] == [["team-b", "a=1,b=2"]]
    assert lines[0].split() == ["NAME", "LABELS", "RECORDS"]
    assert lines[1].split(maxsplit=1) == ["team-a", "2 leases"]
    assert await metadata.out("ns", "-q") == "team-a\nteam-b\n"
    assert await metadata.out("ns", "ls", "-q", "--filter", "labels.a==1") == "team-b\n"
    assert (
        await metadata.out("ns", "ls", "--format", "{{.Name}} {{.Labels}}", "-f", "name==team-b") == "team-b a=1,b=2\n"
    )
    [row] = await metadata.rows("ns", "ls", "-f", "name==team-a")
    assert (row["name"], row["records"]) == ("team-a", {"lease": 2})
    code, out, err = await metadata.desk.run("ns", "rm", "team-a", "none", "team-b")
    assert (code, out) == (exits.PRECONDITION, "team-b\n")
    assert "it has 2 leases" in err and "none" in err


async def test_labels_of_a_namespace_are_set_and_taken_away(metadata: Metadata) -> None:
    """`KEY=VALUE` sets a label, `KEY=` takes one away, and what breaks a rule is refused with what to write."""
    await metadata.out("ns", "create", "team", "a=1", "b=2")
    assert await metadata.out("ns", "label", "team", "a=", "c=3=4") == "b=2\nc=3=4\n"
    [row] = await metadata.rows("ns", "label", "team", "c=")
    assert row["labels"] == {"b": "2"}
    code, _, err = await metadata.desk.run("ns", "label", "team", "containerd.io/defaults/snapshotter=zfs")
    assert code == exits.USAGE
    assert "overlayfs, native" in err
    code, _, err = await metadata.desk.run("ns", "create", "no/name")
    assert code == exits.USAGE
    code, _, err = await metadata.desk.run("ns", "ls", "--filter", "name==,")
    assert code == exits.USAGE
    assert "position 6" in err


async def test_leases_are_made_changed_shown_and_ended(metadata: Metadata) -> None:
    """A lease keeps what is named in any spelling; it is listed with when it ends, and ended."""
    made = (await metadata.out("lease", "create", DIGEST, "image:busybox", "--label", "a=1")).strip()
    assert check_id(made)
    assert (
        await metadata.out("lease", "add", made, "snapshot/overlayfs:sha256:1", f"content:{DIGEST}")
    ).splitlines() == [
        f"content:{DIGEST}",
        "image:docker.io/library/busybox:latest",
        "snapshot/overlayfs:sha256:1",
    ]
    assert await metadata.out("lease", "drop", made, "image:busybox", DIGEST) == "snapshot/overlayfs:sha256:1\n"
    assert await metadata.out("lease", "create", "--id", "kept", "--no-expiry", "--flat") == "kept\n"
    header, *lines = (await metadata.out("lease", "ls")).splitlines()
    assert header.split("   ")[0] == "LEASE ID"
    shown = {line.split()[0]: line for line in lines}
    assert "in 23 h" in shown[made] and "a=1" in shown[made]
    assert "never" in shown["kept"] and "containerd.io/gc.flat=true" in shown["kept"]
    assert await metadata.out("lease", "-q", "-f", "labels.a==1") == f"{made}\n"
    [row] = await metadata.rows("lease", "ls", "-f", "id==kept")
    assert (row["duration_s"], row["left_s"], row["expired"], row["resources"]) == (None, None, False, [])
    code, out, err = await metadata.desk.run("lease", "rm", "none", made)
    assert (code, out) == (exits.NOT_FOUND, f"{made}\n")
    assert "none" in err
    assert metadata.collections == 0


async def test_end_of_a_lease_is_a_span_or_a_time(metadata: Metadata) -> None:
    """`--expires` takes how long or until when; anything else is refused before a lease is made."""
    [row] = await metadata.rows("lease", "create", "--expires", "1h30m")
    assert row["duration_s"] == 5400
    [row] = await metadata.rows("lease", "create", "--expires", "2026-01-01T00:00:00Z")
    assert (row["duration_s"], row["expired"]) == (None, True)
    assert row["labels"] == {"containerd.io/gc.expire": "2026-01-01T00:00:00Z"}
    [row] = await metadata.rows("lease", "create", "--label", "containerd.io/gc.expire=2199-01-01T00:00:00Z")
    assert (row["duration_s"], row["expired"]) == (None, False)
    for wrong in ("soon", "0s", "32d", "2026-01-01"):
        code, _, err = await metadata.desk.run("lease", "create", "--expires", wrong)
        assert code == exits.USAGE, wrong
        assert "--expires" in err
    assert len(await metadata.rows("lease", "ls")) == 3


@pytest.mark.parametrize(
    "resource", ["latest", "content:", "snapshot:a", "sha256:abc", "blob:a", f"content:{DIGEST[:-1]}"]
)
async def test_resource_that_is_none_is_refused(metadata: Metadata, resource: str) -> None:
    """A misspelt digest or kind makes no lease that keeps nothing."""
    code, _, err = await metadata.desk.run("lease", "create", resource)
    assert code == exits.USAGE
    assert err
    assert await metadata.rows("lease", "ls") == []


async def test_sync_collects_once_after_all_leases_are_gone(metadata: Metadata) -> None:
    """Ending many leases with --sync collects once, and says which hosts kept theirs."""
    await metadata.out("lease", "create", "--id", "l1")
    await metadata.out("lease", "create", "--id", "l2")
    code, out, err = await metadata.desk.run("lease", "rm", "--sync", "l1", "l2")
    assert (code, out) == (0, "l1\nl2\n")
    assert metadata.collections == 1
    assert "bundle on h2 was not collected, unreachable" in err
