"""Copies into and out of containers: what is inside stays inside, and whoever copies leaves nothing behind."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hythe.errors import (
    DataLoss,
    FailedPrecondition,
    HytheError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from hythe_runtime.agent.copies import Copied, Wish
from hythe_runtime.agent.stdio import Channel
from tests.fixtures.agents import NAMESPACE, AgentLab, mounted
from tests.fixtures.waiting import eventually_async, until

SLEEP = ("sleep", "600")


def archive(*names: str, data: bytes = b"data", **fields: int) -> bytes:
    """Return an archive of files with the same content and fields; a name with a slash at its end is a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name in names:
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.type, entry.mode = (tarfile.DIRTYPE, 0o755) if name.endswith("/") else (tarfile.REGTYPE, 0o644)
            entry.size = 0 if name.endswith("/") else len(data)
            for key, value in fields.items():
                setattr(entry, key, value)
            file.addfile(entry, io.BytesIO(data) if entry.size else None)
    return out.getvalue()


def link(name: str, target: str) -> bytes:
    """Return an archive of one symbolic link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        file.addfile(entry)
    return out.getvalue()


class Copying:
    """A client that copies into one container, and out of it."""

    def __init__(self, lab: AgentLab, container_id: str) -> None:
        self.lab = lab
        self.id = container_id

    def begin(self, path: str, *, inward: bool, **wishes: bool) -> tuple[Channel, asyncio.Task[Copied]]:
        """Begin a copy and return its channel and work."""
        channel = self.lab.channel()
        wish = Wish(inward=inward, path=path, **wishes)
        return channel, asyncio.ensure_future(self.lab.copies.copy(NAMESPACE, self.id, channel, wish))

    async def out(self, path: str, **wishes: bool) -> dict[str, bytes]:
        """Copy out and return the files, by name; links and directories have no content."""
        channel, work = self.begin(path, inward=False, **wishes)
        received = self.lab.transport.channel(channel.id)
        while not work.done() or (
            work.exception() is None and len(received.streams["stdout"]) < work.result().sent_bytes
        ):
            have = len(received.streams["stdout"])
            self.lab.outputs.credit(NAMESPACE, channel.id, "stdout", have, have + (1 << 20), resend=False)
            await asyncio.sleep(0.002)
        sent = work.result().sent_bytes
        self.lab.outputs.credit(NAMESPACE, channel.id, "stdout", sent, sent, resend=False)
        with tarfile.open(fileobj=io.BytesIO(bytes(received.streams["stdout"]))) as file:
            return {e.name: file.extractfile(e).read() if e.isreg() else b"" for e in file}  # type: ignore[union-attr]

    async def send(self, channel: Channel, work: asyncio.Task[Copied], data: bytes) -> int:
        """Send the archive `data` within the credit as long as the work goes on, and return how much was sent."""
        offset, until = 0, 0
        while (offset < len(data) or not until) and not work.done():
            grants = self.lab.transport.channel(channel.id).grants
            until = grants[-1][1] if grants else 0
            piece = data[offset : min(until, offset + (64 << 10))]
            if piece:
                self.lab.inputs.take(NAMESPACE, channel.id, offset, piece)
                offset += len(piece)
            else:
                await asyncio.sleep(0.002)
        return offset

    async def into(self, path: str, data: bytes, **wishes: bool) -> Copied:
        """Copy the archive `data` in."""
        channel, work = self.begin(path, inward=True, **wishes)
        end = await self.send(channel, work, data)
        self.lab.inputs.take(NAMESPACE, channel.id, end, b"")
        return await work


async def container(lab: AgentLab, *, runs: bool = True, **spec: object) -> Copying:
    """Return the client of a container that runs, or has ended."""
    status = await lab.run_intent(lab.intent(*(SLEEP if runs else ("true",)), **spec), wait=not runs)
    return Copying(lab, status.record.id)


def workers() -> list[int]:
    """Return the copy workers of this process."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"agent.worker" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def confined() -> dict[str, str]:
    """Return what the kernel says of a worker that has given up what it does not need."""
    for pid in workers():
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        fields = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
        if fields["NoNewPrivs"] == "1" and int(fields["CapBnd"], 16) == 0 and int(fields["CapPrm"], 16) < 1 << 32:
            assert Path(f"/proc/{pid}/root/etc/plain").exists()
            return fields
    return {}


def config(copying: Copying) -> tuple[Path, dict[str, Any]]:
    """Return the file and the content of a container's configuration."""
    path = copying.lab.places.bundle(NAMESPACE, copying.id) / "config.json"
    return path, json.loads(path.read_bytes())


@pytest.mark.parametrize("runs", [True, False])
async def test_files_go_in_and_come_out_the_same(lab: AgentLab, runs: bool) -> None:
    """What was copied into a container, running or not, comes out of it again; a missing path is not found."""
    copying = await container(lab, runs=runs)
    copied = await copying.into("/tmp/new", archive("src/", "src/a", "src/sub/b", data=b"x" * 300_000))
    assert (copied.entries, copied.file_bytes) == (3, 600_000)
    assert await copying.out("/tmp/new") == {
        "new": b"",
        "new/a": b"x" * 300_000,
        "new/sub": b"",
        "new/sub/b": b"x" * 300_000,
    }
    assert set(await copying.out("/tmp/new/.")) == {".", "./a", "./sub", "./sub/b"}
    await copying.into("tmp/new", archive("f"))
    assert await copying.out("tmp/new/f") == {"f": b"data"}
    with pytest.raises(NotFound, match="/tmp/none"):
        await copying.out("/tmp/none")
    with pytest.raises(NotFound):
        await copying.into("/no/such/directory", archive("f"))
    with pytest.raises(InvalidArgument, match="not a directory"):
        await copying.out("/tmp/new/f/")
    assert workers() == []
    assert not mounted(str(lab.places.bundle(NAMESPACE, copying.id) / "rootfs")) or runs


async def test_running_container_is_copied_as_its_processes_see_it(lab: AgentLab) -> None:
    """What is mounted in a running container is what a copy meets; what the kernel makes up is left out of a whole copy."""
    copying = await container(lab)
    await copying.into("/dev", archive("in-tmpfs"))
    upper = lab.places.bundle(NAMESPACE, copying.id) / "upper"
    assert not (upper / "dev/in-tmpfs").exists()
    whole = await copying.out("/")
    assert whole["./dev/in-tmpfs"] == b"data"
    assert "./proc" in whole
    assert not any(name.startswith("./proc/") for name in whole)
    with pytest.raises(ResourceExhausted, match="no space"):
        await copying.into("/dev", archive("big", data=bytes(500_000)))
    assert "big" not in " ".join(await copying.out("/dev"))


@pytest.mark.parametrize("runs", [True, False])
async def test_links_lead_nowhere_but_inside(lab: AgentLab, runs: bool) -> None:
    """A link to the host's files is one to the container's own, as source, as destination and on the way."""
    copying = await container(lab, runs=runs)
    for name, target in (
        ("passwd", "/etc/passwd"),
        ("plain", "/etc/plain"),
        ("up", "../../../../../.."),
        ("a", "b"),
        ("b", "a"),
    ):
        await copying.into("/tmp", link(name, target))
    assert await copying.out("/tmp/passwd") == {"passwd": b""}
    with pytest.raises(NotFound):
        await copying.out("/tmp/passwd", follow_link=True)  # the container has no such file, the host has
    assert await copying.out("/tmp/plain", follow_link=True) == {"plain": b"not a program\n"}
    assert "etc/plain" in await copying.out("/tmp/up/etc/")
    with pytest.raises(HytheError, match="symbolic links"):
        await copying.out("/tmp/a", follow_link=True)
    await copying.into("/tmp/plain", archive("f"))
    assert await copying.out("/etc/plain") == {"plain": b"data"}
    await copying.into("/tmp/passwd", archive("f"))
    assert await copying.out("/etc/passwd") == {"passwd": b"data"}
    assert os.stat("/etc/passwd").st_size > len(b"data")  # noqa: PTH116 (the host's, untouched)


async def test_archive_as_it_is_goes_through_links_of_the_container_but_not_through_its_own(lab: AgentLab) -> None:
    """A hand-made archive may rely on links that the container has, such as /lib, and can make none to go through."""
    copying = await container(lab)
    await copying.into("/tmp", archive("real/"))
    await copying.into("/tmp", link("lib", "/tmp/real"))
    await copying.into("/", archive("tmp/lib/f", "tmp/lib/sub/g"), as_is=True)
    assert {"real/f", "real/sub/g"} <= set(await copying.out("/tmp/real"))
    both = link("own", "/etc")[:512] + archive("own/plain")
    with pytest.raises(InvalidArgument, match="link"):
        await copying.into("/tmp", both, as_is=True)
    assert await copying.out("/etc/plain") == {"plain": b"not a program\n"}
    with pytest.raises(InvalidArgument, match="directory"):
        await copying.into("/etc/plain", archive("f"), as_is=True)


async def test_owner_is_root_unless_it_is_to_be_kept(lab: AgentLab) -> None:
    """Files belong to the container's root, or to whom they belonged to; in a user namespace, as that sees it."""
    copying = await container(lab, runs=False)
    upper = lab.places.bundle(NAMESPACE, copying.id) / "upper/tmp"
    await copying.into("/tmp/root", archive("f", uid=1000, gid=1001))
    await copying.into("/tmp/kept", archive("f", uid=1000, gid=1001), keep_owner=True)
    assert [((upper / n).stat().st_uid, (upper / n).stat().st_gid) for n in ("root", "kept")] == [(0, 0), (1000, 1001)]
    ids = [{"container_id": 0, "host_id": 100_000, "size": 2000}]
    mapped = await container(lab, runs=False, namespaces={"user_ids": ids})
    upper = lab.places.bundle(NAMESPACE, mapped.id) / "upper/tmp"
    await mapped.into("/tmp/d", archive("d/", "d/f", uid=1000, gid=1001))
    await mapped.into("/tmp/kept", archive("f", uid=1000, gid=1001), keep_owner=True)
    assert [(upper / n).stat().st_uid for n in ("d", "d/f", "kept")] == [100_000, 100_000, 101_000]
    assert (upper / "kept").stat().st_gid == 101_001
    with pytest.raises(InvalidArgument, match="no owner"):
        await mapped.into("/tmp/f", archive("f", uid=5000), keep_owner=True)


async def test_user_namespace_bounds_what_a_copy_changes(lab: AgentLab, tmp_path: Path) -> None:
    """Where the container's root may not write, nor change an owner, a copy that it has lured there does neither."""
    copying = await container(
        lab, runs=False, namespaces={"user_ids": [{"container_id": 0, "host_id": 100_000, "size": 2000}]}
    )
    own, hosts = tmp_path / "own", tmp_path / "own/hosts"
    hosts.mkdir(parents=True, mode=0o755)
    os.chown(own, 100_000, 100_000)
    path, content = config(copying)
    content["mounts"].append({"destination": "/tmp", "type": "bind", "source": str(own), "options": ["rbind"]})
    path.write_text(json.dumps(content))
    await copying.into("/tmp", archive("f"))
    assert (own / "f").stat().st_uid == 100_000
    (own / "lure").symlink_to("/tmp/hosts")
    for place, names in (("/tmp/lure/", ("f",)), ("/tmp", ("hosts/",)), ("/tmp/hosts/f", ("f",))):
        with pytest.raises(PermissionDenied):
            await copying.into(place, archive(*names))
    assert (hosts.stat().st_uid, list(hosts.iterdir())) == (0, [])


async def test_volumes_of_a_container_that_does_not_run_are_there(lab: AgentLab, tmp_path: Path) -> None:
    """Directories bound into a container are copied to and from also when it does not run; read-only ones are not written."""
    copying = await container(lab, runs=False)
    (tmp_path / "data").write_text("in the volume")
    path, content = config(copying)
    for target, options in (("/tmp", ["rbind"]), ("/etc", ["rbind", "ro"])):
        content["mounts"].append({"destination": target, "type": "bind", "source": str(tmp_path), "options": options})
    content["root"]["readonly"] = True
    path.write_text(json.dumps(content))
    assert await copying.out("/tmp/data") == {"data": b"in the volume"}
    await copying.into("/tmp", archive("f"))
    assert (tmp_path / "f").read_bytes() == b"data"
    for read_only in ("/etc/x", "/x"):
        with pytest.raises(FailedPrecondition, match="read-only"):
            await copying.into(read_only, archive("f"))
    assert not any(mounted(str(point)) for point in (tmp_path, path.parent / "rootfs", path.parent / "rootfs/tmp"))


async def test_copies_of_a_container_that_does_not_run_wait_for_one_another(lab: AgentLab) -> None:
    """Two copies at once both succeed: never is one overlay mounted twice."""
    copying = await container(lab, runs=False)
    data = archive("f", data=bytes(2_000_000))
    await asyncio.gather(*(copying.into(f"/tmp/f{n}", data) for n in range(3)))
    found = await asyncio.gather(*(copying.out(f"/tmp/f{n}") for n in range(3)))
    assert [len(each[f"f{n}"]) for n, each in enumerate(found)] == [2_000_000] * 3


@pytest.mark.parametrize("runs", [True, False])
async def test_removal_ends_a_copy_first(lab: AgentLab, runs: bool) -> None:
    """A container is removed at once although somebody copies into it; he is told, and no worker and no mount remains."""
    copying = await container(lab, runs=runs)
    channel, work = copying.begin("/tmp/f", inward=True)
    data = archive("f", data=bytes(3_000_000))
    await copying.send(channel, work, data[:1_000_000])
    record = lab.get(copying.id)
    await lab.supervisor.remove(NAMESPACE, copying.id, record.epoch, force=True)
    with pytest.raises(FailedPrecondition, match="given up"):
        await work
    assert workers() == []
    await lab.gone(copying.id)
    with pytest.raises(NotFound):
        await copying.out("/tmp")


async def test_end_of_the_container_ends_a_copy_out_of_it(lab: AgentLab) -> None:
    """Who copies out of a container that ends meanwhile is told to copy again, and can."""
    copying = await container(lab)
    await copying.into("/tmp/f", archive("f", data=bytes(3_000_000)))
    channel, work = copying.begin("/tmp/f", inward=False)

    async def first_credit_used() -> bool:
        return len(lab.transport.channel(channel.id).streams["stdout"]) >= channel.credit_bytes

    await eventually_async(first_credit_used)
    await lab.supervisor.kill(NAMESPACE, copying.id, lab.get(copying.id).epoch, "SIGKILL")
    with pytest.raises(FailedPrecondition, match="given up"):
        await work
    assert len((await copying.out("/tmp/f"))["f"]) == 3_000_000


@pytest.mark.parametrize("runs", [True, False])
async def test_copy_that_is_cancelled_leaves_no_half_file(lab: AgentLab, runs: bool) -> None:
    """A client that goes away in the middle of a file leaves the file that was there, nothing else, and no worker."""
    copying = await container(lab, runs=runs)
    await copying.into("/tmp/f", archive("f"))
    channel, work = copying.begin("/tmp/f", inward=True)
    await copying.send(channel, work, archive("f", data=bytes(3_000_000))[:1_000_000])
    work.cancel()
    await asyncio.wait([work])
    assert workers() == []
    assert await copying.out("/tmp/.") == {".": b"", "./f": b"data"}


async def test_archive_cut_short_or_empty_is_refused(lab: AgentLab) -> None:
    """An archive without its end makes no half file, and no archive at all is not taken for an empty one."""
    copying = await container(lab)
    with pytest.raises(DataLoss):
        await copying.into("/tmp/f", archive("f", data=bytes(100_000))[:50_000])
    with pytest.raises(DataLoss):
        await copying.into("/tmp/f", b"")
    with pytest.raises(InvalidArgument):
        await copying.into("/tmp/f", b"no archive" * 200)
    assert await copying.out("/tmp/.") == {".": b""}


async def test_worker_has_no_more_rights_than_it_needs(lab: AgentLab) -> None:
    """A copy worker is in the container's root, reads only when it copies out, and can gain nothing."""
    copying = await container(lab)
    channel, work = copying.begin("/tmp/f", inward=True)
    await copying.send(channel, work, archive("f", data=bytes(100_000))[:20_000])

    try:
        status = await until(confined)
        kept = sum(1 << number for number in (0, 1, 2, 3, 4, 27, 31))
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == kept
        assert int(status["CapBnd"], 16) == int(status["CapInh"], 16) == 0
    finally:
        work.cancel()
        await asyncio.wait([work])
