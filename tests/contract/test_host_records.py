"""What the metadata store promises of hosts (`hythe_metadata.hosts`), on every body."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from hythe.errors import AlreadyExists, Conflict, FailedPrecondition, InvalidArgument, NotFound
from hythe.identifiers import new_id
from hythe.ports.metadata import Origin
from hythe_metadata import hosts
from hythe_metadata.hosts import HostRecord, RegisterWish
from hythe_metadata.hosts_seen import HostsSeen
from hythe_metadata.labelled import LabelWish, RemoveWish
from hythe_metadata.records import RecordStore
from tests.fakes.boottime import Boottime

FIRST = RegisterWish("h1", "m" * 32, "boot-1", "1" * 32, "a" * 32, "0.1")
RESTARTED = replace(FIRST, instance="2" * 32, version="0.2")
OTHER_ROOT = replace(FIRST, machine_id="n" * 32, boot_id="boot-2", instance="3" * 32, root_id="b" * 32)
COPY_ELSEWHERE = replace(FIRST, boot_id="boot-3", instance="4" * 32)


@pytest.fixture
def boottime() -> Boottime:
    """The clock of the metadata process."""
    return Boottime()


@pytest.fixture
def seen(boottime: Boottime) -> HostsSeen:
    """What a metadata process that has listened for a minute has heard of hosts: nothing yet."""
    made = HostsSeen(boottime)
    boottime.pass_s(60)
    return made


def asks() -> Origin:
    """Return who asks, with a fresh request id."""
    return Origin("default", "admin", new_id())


async def register(store: RecordStore, wish: RegisterWish, seen: HostsSeen) -> HostRecord:
    """Register an agent."""
    return await store.change(hosts.register(wish, seen))


async def test_host_is_what_its_agent_says(record_store: RecordStore, seen: HostsSeen) -> None:
    """The record of a host says which agent it is; registering it again, as after a reconnect, changes nothing."""
    made = await register(record_store, FIRST, seen)
    assert (made.machine_id, made.boot_id, made.instance, made.root_id, made.version) == (
        FIRST.machine_id,
        FIRST.boot_id,
        FIRST.instance,
        FIRST.root_id,
        "0.1",
    )
    seen.beat("h1", FIRST.instance)
    assert await register(record_store, FIRST, seen) == made
    assert await record_store.read(hosts.get("h1")) == made


async def test_agent_that_is_started_again_is_the_same_host(record_store: RecordStore, seen: HostsSeen) -> None:
    """An agent that was killed and started again is taken at once, and keeps what operators wrote on its host."""
    made = await register(record_store, FIRST, seen)
    await record_store.change(hosts.label(asks(), LabelWish("h1", {"rack": "7"})))
    seen.beat("h1", FIRST.instance)
    again = await register(record_store, RESTARTED, seen)
    assert (again.instance, again.version, again.labels) == (RESTARTED.instance, "0.2", {"rack": "7"})
    assert again.created_at == made.created_at


async def test_second_host_of_a_name_is_refused_while_the_first_beats(
    record_store: RecordStore, seen: HostsSeen, boottime: Boottime
) -> None:
    """Two machines under one name would both obey: the second is refused, and told which two they are."""
    made = await register(record_store, FIRST, seen)
    seen.beat("h1", FIRST.instance)
    boottime.pass_s(29)
    with pytest.raises(AlreadyExists) as caught:
        await register(record_store, OTHER_ROOT, seen)
    assert FIRST.root_id in caught.value.cause and OTHER_ROOT.root_id in caught.value.cause
    assert FIRST.machine_id in caught.value.cause and OTHER_ROOT.machine_id in caught.value.cause
    assert "HYTHE_HOST" in caught.value.next_step
    assert await record_store.read(hosts.get("h1")) == made


async def test_name_is_free_when_its_agent_has_fallen_silent(
    record_store: RecordStore, seen: HostsSeen, boottime: Boottime
) -> None:
    """A machine that replaces a dead one gets its name, however loud others of its kind are."""
    await register(record_store, FIRST, seen)
    seen.beat("h1", FIRST.instance)
    boottime.pass_s(30)
    seen.beat("h1", OTHER_ROOT.instance)
    assert (await register(record_store, OTHER_ROOT, seen)).root_id == OTHER_ROOT.root_id
    seen.beat("h1", OTHER_ROOT.instance)
    with pytest.raises(AlreadyExists):
        await register(record_store, RESTARTED, seen)


async def test_metadata_that_has_just_started_takes_nobody_for_silent(
    record_store: RecordStore, boottime: Boottime
) -> None:
    """That metadata wasn't there to hear a host doesn't give its name away."""
    fresh = HostsSeen(boottime)
    await register(record_store, FIRST, fresh)
    with pytest.raises(AlreadyExists):
        await register(record_store, OTHER_ROOT, fresh)
    boottime.pass_s(30)
    assert (await register(record_store, OTHER_ROOT, fresh)).root_id == OTHER_ROOT.root_id


async def test_copy_of_a_root_on_another_machine_is_refused(
    record_store: RecordStore, seen: HostsSeen, boottime: Boottime
) -> None:
    """A cloned machine doesn't become its original while that beats; a machine that was rebooted is taken at once."""
    await register(record_store, FIRST, seen)
    seen.beat("h1", FIRST.instance)
    with pytest.raises(AlreadyExists, match="another agent") as caught:
        await register(record_store, COPY_ELSEWHERE, seen)
    assert "a copy of that" in caught.value.cause
    boottime.pass_s(5)
    assert (await register(record_store, COPY_ELSEWHERE, seen)).boot_id == "boot-3"


async def test_machine_rebooted_together_with_metadata_is_taken_at_once(
    record_store: RecordStore, boottime: Boottime
) -> None:
    """A single machine comes up by itself after a reboot, without a refusal first."""
    await register(record_store, FIRST, HostsSeen(boottime))
    after_reboot = HostsSeen(boottime)
    rebooted = replace(RESTARTED, boot_id="boot-2")
    assert (await register(record_store, rebooted, after_reboot)).boot_id == "boot-2"


@pytest.mark.parametrize("name", ["", ".h", "a/b", "a\nb", "ä" * 127])
async def test_name_that_no_host_can_have_is_refused(record_store: RecordStore, seen: HostsSeen, name: str) -> None:
    """A name that couldn't be a directory is refused."""
    with pytest.raises(InvalidArgument):
        await register(record_store, replace(FIRST, name=name), seen)


async def test_host_is_forgotten_only_when_it_is_silent(
    record_store: RecordStore, seen: HostsSeen, boottime: Boottime
) -> None:
    """A host that is at work can't be forgotten by mistake, nor one that changed since it was looked at."""
    made = await register(record_store, FIRST, seen)
    seen.beat("h1", FIRST.instance)
    with pytest.raises(FailedPrecondition):
        await record_store.change(hosts.remove(asks(), RemoveWish("h1"), seen))
    boottime.pass_s(30)
    with pytest.raises(Conflict):
        await record_store.change(hosts.remove(asks(), RemoveWish("h1", made.revision + 1), seen))
    origin = asks()
    await record_store.change(hosts.remove(origin, RemoveWish("h1", made.revision), seen))
    await record_store.change(hosts.remove(origin, RemoveWish("h1", made.revision), seen))
    with pytest.raises(NotFound):
        await record_store.read(hosts.get("h1"))


async def test_hosts_are_listed_by_filters(record_store: RecordStore, seen: HostsSeen) -> None:
    """Hosts are found by what their agents said and by their labels."""
    await register(record_store, FIRST, seen)
    await register(record_store, replace(OTHER_ROOT, name="h2", labels={"rack": "7"}), seen)
    page = await record_store.read(hosts.list_all("", 10, ["labels.rack==7", "boot_id==none"]))
    assert [host.name for host in page.records] == ["h2"]
    page = await record_store.read(hosts.list_all("", 1, ["version==0.1"]))
    assert ([host.name for host in page.records], page.next) == (["h1"], "h1")


def test_hosts_that_beat_are_alive(boottime: Boottime) -> None:
    """Who wasn't heard of for 5 s isn't counted as alive, and who never was is infinitely silent."""
    seen = HostsSeen(boottime)
    seen.beat("h1", "1" * 32)
    boottime.pass_s(3)
    seen.beat("h2", "2" * 32)
    assert seen.alive() == {"h1", "h2"}
    boottime.pass_s(3)
    assert seen.alive() == {"h2"}
    assert (seen.silent_s("h1"), seen.silent_s("h2", "2" * 32)) == (6, 3)
    assert seen.silent_s("h2", "3" * 32) == seen.silent_s("h3") == math.inf


def test_host_that_is_started_for_ever_takes_no_room(boottime: Boottime) -> None:
    """An agent in a restart loop doesn't fill the memory of metadata, and its last process stays known."""
    seen = HostsSeen(boottime)
    for number in range(1000):
        seen.beat("h1", str(number))
    assert seen.silent_s("h1", "999") == 0
    assert seen.silent_s("h1", "0") == math.inf
