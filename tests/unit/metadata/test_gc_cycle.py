"""What a collection keeps and what it removes, over owners on several hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hythe.errors import FailedPrecondition, Unavailable
from hythe.gc_trust import OLDER, RESTORED, UNKNOWN, Trust
from hythe_metadata import contents
from hythe_metadata.gc.cycle import Wish
from hythe_metadata.gc.owners import Sweep, Swept
from hythe_metadata.lease_records import Resource
from hythe_metadata.records import NO_NAMESPACE, Key
from tests.fakes.gc_owners import SNAPSHOTTER, FakeOwners, go_on
from tests.fakes.gc_world import LEASE_S, NAMESPACE, World, digest, refers_to

SNAPSHOT = f"snapshot/{SNAPSHOTTER}"
REF_SNAPSHOT = f"containerd.io/gc.ref.snapshot.{SNAPSHOTTER}"


def rfc3339(ns: int) -> str:
    """Return a time as a label has it."""
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_image_keeps_its_blobs_and_the_layers_unpacked_from_them() -> None:
    """What an image needs stays, on disk and unpacked; what no image needs goes, children before their parents."""
    world = await World().begin()
    bundle = world.owners.bundles["h1"]
    world.bring("h1", "kept", "config", "layer")
    world.publish("h1", "config", {REF_SNAPSHOT: "chain-2"})
    world.bring("h1", "dropped", "layer", "old layer")
    bundle.prepare("chain-1")
    bundle.prepare("chain-2", "chain-1")
    bundle.prepare("old-1")
    bundle.prepare("old-2", "old-1")
    await world.image("a:1", "kept")

    report = await world.collect()

    assert world.has("h1", "kept", "config", "layer")
    assert world.blobs("h1") == 3
    assert world.snapshots("h1") == {"chain-1", "chain-2"}
    assert [item.name for item in report.items if item.kind == "snapshot"] == ["old-2", "old-1"]
    assert report.removed == 4
    assert report.freed_bytes == 2 * 100 + 2 * 1000
    assert {owner.state for owner in report.owners} == {"swept"}


async def test_container_keeps_its_snapshot_and_its_image_without_a_name() -> None:
    """A container whose image was untagged still starts, commits and exports."""
    world = await World().begin()
    world.bring("h1", "app", "layer")
    world.owners.bundles["h1"].prepare("c1")
    await world.container("c1", "app")
    await world.collect()
    assert world.has("h1", "app", "layer")
    assert world.snapshots("h1") == {"c1"}

    await world.delete(Key("container", NAMESPACE, "c1"))
    await world.collect()
    assert (world.blobs("h1"), world.snapshots("h1")) == (0, set())


async def test_root_labels_and_mounts_keep_what_nothing_refers_to() -> None:
    """What carries containerd's root label stays with all it refers to, and so does what is mounted."""
    world = await World().begin()
    bundle = world.owners.bundles["h1"]
    world.publish("h1", "pinned", {"containerd.io/gc.root": "2026-01-01", **refers_to("part")})
    world.publish("h1", "part")
    world.publish("h1", "of snapshot")
    bundle.prepare("rooted", labels={"containerd.io/gc.root": "yes", **refers_to("of snapshot")})
    bundle.prepare("below")
    bundle.prepare("busy", "below")
    bundle.mounted.add("busy")
    await world.collect()
    assert world.has("h1", "pinned", "part", "of snapshot")
    assert world.snapshots("h1") == {"rooted", "below", "busy"}


async def test_references_across_owners_are_followed_until_nothing_new_is_found() -> None:
    """Blob → snapshot → blob → snapshot → blob: the last one stays as well as the first."""
    world = await World().begin()
    bundle = world.owners.bundles["h1"]
    world.publish("h1", "one", {REF_SNAPSHOT: "s1"})
    bundle.prepare("s1", labels=refers_to("two"))
    world.publish("h1", "two", {REF_SNAPSHOT: "s2"})
    bundle.prepare("s2", labels=refers_to("three"))
    world.publish("h1", "three")
    await world.image("a:1", "one")
    await world.collect()
    assert world.has("h1", "one", "two", "three")
    assert world.snapshots("h1") == {"s1", "s2"}


async def test_child_that_names_its_parent_lives_as_long_as_it() -> None:
    """A back reference keeps the child while the parent stays, whichever kinds they are."""
    world = await World().begin()
    bundle = world.owners.bundles["h1"]
    world.publish("h1", "image")
    world.publish("h1", "signature", {"containerd.io/gc.bref.content": digest("image")})
    world.publish("h1", "lost", {"containerd.io/gc.bref.content": digest("gone")})
    bundle.prepare("extra", labels={"containerd.io/gc.bref.image": "a:1"})
    bundle.prepare("orphan", labels={"containerd.io/gc.bref.image": "b:1"})
    await world.image("a:1", "image")
    await world.collect()
    assert world.has("h1", "image", "signature")
    assert world.blobs("h1") == 2
    assert world.snapshots("h1") == {"extra"}

    await world.remove_image("a:1")
    await world.collect()
    assert (world.blobs("h1"), world.snapshots("h1")) == (0, set())


async def test_flat_lease_keeps_only_what_it_names() -> None:
    """With containerd.io/gc.flat a lease keeps a manifest, not its layers; without it both."""
    world = await World().begin()
    world.bring("h1", "flat", "flat layer")
    world.bring("h1", "deep", "deep layer")
    named = Resource("content", digest("flat"))
    await world.lease("l1", named, Resource(SNAPSHOT, "s1"), labels={"containerd.io/gc.flat": "yes"})
    await world.lease("l2", Resource("content", digest("deep")))
    world.owners.bundles["h1"].prepare("s1")
    await world.collect()
    assert world.has("h1", "flat", "deep", "deep layer")
    assert world.blobs("h1") == 3
    assert world.snapshots("h1") == {"s1"}


async def test_lease_that_ended_goes_with_what_it_kept() -> None:
    """A lease whose holder died keeps things for its duration, counted by this process, and then no longer."""
    world = await World().begin()
    await world.refer("pull", {"layer": {}})
    world.publish("h1", "layer")
    await world.collect()
    world.clocks.pass_s(LEASE_S - 1)
    await world.collect()
    assert world.has("h1", "layer")

    world.clocks.pass_s(1)
    report = await world.collect()
    assert world.blobs("h1") == 0
    assert await world.lease_ids() == []
    assert report.leases == 1
    assert await world.hints() == 0


async def test_restarted_metadata_gives_every_lease_its_whole_duration() -> None:
    """While metadata was away no pull could renew its lease, so none ends by that."""
    world = await World().begin()
    await world.refer("pull", {"layer": {}})
    world.publish("h1", "layer")
    await world.collect()
    world.clocks.pass_s(10 * LEASE_S)
    world.collector = world.process("m1")
    await world.collect()
    assert world.has("h1", "layer")


async def test_lease_renewed_in_mid_collection_keeps_everything() -> None:
    """A lease that seemed to have ended when it was read, and is renewed before the sweep, loses nothing."""
    world = await World().begin()
    world.bring("h1", "app", "layer")
    await world.refer("pull", {"app": refers_to("layer")})
    await world.collect()
    world.clocks.pass_s(LEASE_S)

    async def renew_once_it_is_read() -> None:
        world.store.pause = go_on
        if world.owners.asked[-1] == ("h1", "distribution.list"):
            await world.refer("pull", {"other": {}})
        else:
            world.store.pause = renew_once_it_is_read

    world.store.pause = renew_once_it_is_read
    await world.collect()
    assert world.has("h1", "app", "layer")
    assert await world.lease_ids() == ["pull"]


async def test_what_is_asked_for_since_the_begin_stays() -> None:
    """A blob that a pull finds in mid-collection is still there when it goes on, though nothing referred to it at the mark."""
    world = await World().begin()
    world.publish("h1", "layer")

    async def look_before_the_sweep() -> None:
        if world.owners.asked[-1] == ("h1", "bundle.mark"):
            world.owners.pause = go_on
            await world.refer("pull", {"layer": {}})
            assert world.owners.distributions["h1"].has(NAMESPACE, digest("layer"))

    world.owners.pause = look_before_the_sweep
    await world.collect()
    assert world.owners.pause is go_on
    assert world.has("h1", "layer")
    await world.collect()
    assert world.has("h1", "layer")


async def test_blob_that_is_about_to_be_brought_again_keeps_its_references() -> None:
    """What a pull has said in mid-collection isn't forgotten with the hint of the blob that was garbage until then."""
    world = await World().begin()
    world.bring("h1", "app", "layer")

    async def refer_before_it_is_forgotten() -> None:
        if world.owners.asked[-1] == ("h1", "distribution.sweep"):
            world.store.pause = go_on
            await world.refer("pull", {"app": refers_to("layer", "new layer")})

    world.store.pause = refer_before_it_is_forgotten
    await world.collect()
    assert world.store.pause is go_on
    world.publish("h1", "new layer")
    await world.collect()
    assert world.has("h1", "new layer")


async def test_dry_run_only_tells_what_would_go() -> None:
    """`hythe gc --dry-run` lists with sizes what a collection would remove, and removes nothing."""
    world = await World().begin()
    world.bring("h1", "app", "layer")
    world.owners.bundles["h1"].prepare("s1")
    await world.lease("old", duration_s=1)
    await world.collect(dry_run=True)
    world.clocks.pass_s(2)
    report = await world.collect(dry_run=True)
    assert (world.blobs("h1"), world.snapshots("h1"), await world.lease_ids()) == (2, {"s1"}, ["old"])
    assert sorted((item.kind, item.size_bytes) for item in report.items) == [
        ("content", 100), ("content", 100), ("lease", 0), ("snapshot", 0),
    ]  # fmt: skip
    assert {owner.state for owner in report.owners} == {"dry run"}
    assert (await world.collect()).removed == report.removed


async def test_host_that_does_not_answer_is_passed_over_and_caught_up_with() -> None:
    """One host that is down stops no collection on the others, is named, and loses its garbage when it is back."""
    world = await World("h1", "h2").begin()
    for host in ("h1", "h2"):
        world.publish(host, "old")
        world.owners.bundles[host].prepare("s1")
    world.owners.silent = {("h2", "distribution"), ("h2", "bundle")}
    report = await world.collect()
    assert (world.blobs("h1"), world.blobs("h2")) == (0, 1)
    assert (world.snapshots("h1"), world.snapshots("h2")) == (set(), {"s1"})
    assert {(owner.host, owner.owner, owner.state) for owner in report.owners if owner.host == "h2"} == {
        ("h2", "distribution", "unreachable"), ("h2", "bundle", "unreachable"),
    }  # fmt: skip

    world.owners.silent = set()
    await world.collect()
    assert (world.blobs("h2"), world.snapshots("h2")) == (0, set())


async def test_host_that_was_removed_leaves_nothing_behind_in_the_records() -> None:
    """What a host had that is gone for good is forgotten, however silent it is; the other hosts keep theirs."""
    world = await World("h1", "h2").begin()
    for host in ("h1", "h2"):
        world.bring(host, "app", "layer")
    world.bring("h2", "only there", "layer")
    await world.image("a:1", "app")
    await world.image("b:1", "only there")
    await world.collect()
    assert len(await world.store.read(lambda view: list(view.scan("content")))) == 3
    await world.delete(Key("image", NAMESPACE, "b:1"))
    await world.delete(Key("host", NO_NAMESPACE, "h2"))
    world.owners.silent = {("h2", "distribution"), ("h2", "bundle")}
    for _ in range(2):
        await world.collect()
    assert world.has("h1", "app", "layer")
    assert {stored.key.name for stored in await world.store.read(lambda view: list(view.scan("content")))} == {
        digest("app"),
        digest("layer"),
    }
    kept = await world.store.read(lambda view: [stored.key.name for stored in view.scan("gc")])
    assert not [name for name in kept if "h2" in name]


async def test_shared_store_is_known_as_long_as_a_host_uses_it() -> None:
    """The removal of one of the hosts of a shared store changes nothing of what is known of it."""
    world = World("h1", "h2")
    store = world.owners.distributions["h1"].store
    store.shared, world.owners.distributions["h2"].store = "s3", store
    await world.begin()
    world.bring("h1", "app", "layer")
    await world.image("a:1", "app")
    await world.collect()
    await world.delete(Key("host", NO_NAMESPACE, "h2"))
    await world.collect()
    assert world.has("h1", "app", "layer")
    hints = await world.store.read(lambda view: [contents.read(stored) for stored in view.scan("content")])
    assert {tuple(hint.holders) for hint in hints} == {("shared:s3",)}


async def test_content_stays_while_the_snapshots_of_its_host_are_unknown() -> None:
    """If bundle is silent nobody knows what its snapshots refer to, so no blob of that host goes."""
    world = await World().begin()
    world.publish("h1", "of snapshot")
    world.owners.bundles["h1"].prepare("s1", labels={"containerd.io/gc.root": "yes", **refers_to("of snapshot")})
    world.owners.silent = {("h1", "bundle")}
    report = await world.collect()
    assert world.has("h1", "of snapshot")
    assert {owner.owner: owner.state for owner in report.owners} == {"bundle": "unreachable", "distribution": "kept"}


@pytest.mark.parametrize("silent", ["bundle", "distribution"])
async def test_shared_store_stays_while_one_of_its_hosts_is_silent(silent: str) -> None:
    """Of an S3 store that two hosts share nothing goes while one of them can't say what it uses."""
    world = World("h1", "h2")
    store = world.owners.distributions["h1"].store
    store.shared = "s3"
    world.owners.distributions["h2"].store = store
    await world.begin()
    world.publish("h1", "old")
    world.owners.silent = {("h2", "bundle" if silent == "bundle" else "distribution")}
    await world.collect()
    assert world.has("h1", "old")
    world.owners.silent = set()
    await world.collect()
    assert world.blobs("h1") == 0


async def test_blob_of_a_shared_store_stays_if_another_of_its_hosts_used_it() -> None:
    """The host that removes a blob from S3 isn't the only one that is asked whether it may go."""
    world = World("h1", "h2")
    store = world.owners.distributions["h1"].store
    store.shared = "s3"
    world.owners.distributions["h2"].store = store
    await world.begin()
    world.publish("h1", "used")
    world.publish("h1", "old")

    async def use_it_on_the_other_host() -> None:
        if world.owners.asked[-1] == ("h1", "bundle.mark"):
            world.owners.distributions["h2"].has(NAMESPACE, digest("used"))

    world.owners.pause = use_it_on_the_other_host
    await world.collect()
    assert world.has("h2", "used")
    assert world.blobs("h2") == 1


async def test_owner_restarted_in_mid_collection_removes_nothing() -> None:
    """A service that has forgotten what was used since the begin refuses the sweep; the next collection makes up for it."""
    world = await World().begin()
    world.publish("h1", "old")

    async def restart() -> None:
        if world.owners.asked[-1] == ("h1", "bundle.mark"):
            world.owners.distributions["h1"].restart()

    world.owners.pause = restart
    report = await world.collect()
    assert world.has("h1", "old")
    assert {owner.owner: owner.state for owner in report.owners}["distribution"] == "refused"
    world.owners.pause = go_on
    await world.collect()
    assert world.blobs("h1") == 0


async def test_owner_that_knows_another_store_is_a_dry_run_until_confirmed() -> None:
    """A fresh Redis in place of the old one would collect everything; it collects nothing until somebody confirms."""
    world = await World().begin()
    world.bring("h1", "app", "layer")
    world.owners.bundles["h1"].prepare("s1")
    await world.image("a:1", "app")
    fresh = World(clocks=world.clocks)
    fresh.owners = world.owners
    fresh.collector = fresh.process("m2")
    await fresh.register()

    report = await fresh.collect()
    assert (fresh.blobs("h1"), fresh.snapshots("h1")) == (2, {"s1"})
    assert {(owner.state, owner.reason) for owner in report.owners} == {("untrusted", UNKNOWN)}
    assert (report.removed, report.freed_bytes) == (0, 0)

    report = await fresh.collect(confirm=True)
    assert (fresh.blobs("h1"), fresh.snapshots("h1")) == (0, set())
    assert {owner.state for owner in report.owners} == {"swept"}


@pytest.mark.parametrize(("change", "reason"), [("restored", RESTORED), ("put back", OLDER)])
async def test_store_that_went_back_deletes_nothing(change: str, reason: str) -> None:
    """A restored backup, and an older file that was put back, know less than the owners have: nothing goes by their word."""
    world = await World().begin()
    world.bring("h1", "app", "layer")
    world.owners.bundles["h1"].prepare("s1")
    for owner in (world.owners.distributions["h1"], world.owners.bundles["h1"]):
        known = owner.trust.known
        assert known is not None
        ahead = replace(known, era=known.era - 1) if change == "restored" else replace(known, generation=99)
        owner.trust = Trust(known=ahead)
    for _ in range(2):
        report = await world.collect()
        assert (world.blobs("h1"), world.snapshots("h1")) == (2, {"s1"})
        assert {owner.reason for owner in report.owners} == {reason}
    await world.collect(confirm=True)
    assert (world.blobs("h1"), world.snapshots("h1")) == (0, set())


async def test_content_stays_while_bundle_does_not_trust_the_store() -> None:
    """A bundle that keeps all its snapshots needs what they refer to, also when distribution would delete it."""
    world = await World().begin()
    world.publish("h1", "of snapshot")
    world.owners.bundles["h1"].prepare("s1", labels=refers_to("of snapshot"))
    world.owners.bundles["h1"].trust = Trust()
    await world.collect()
    assert world.has("h1", "of snapshot")


@pytest.mark.parametrize("hours", [24, -1])
async def test_wall_clock_set_in_the_middle_of_a_pull_deletes_nothing(hours: int) -> None:
    """Whoever sets the clock a day ahead, or an hour back, loses nothing that a pull or a lease by time has kept."""
    world = await World().begin()
    expires = rfc3339(world.clocks.wall_ns + int(600e9))
    await world.lease("by-time", Resource("content", digest("by time")), labels={"containerd.io/gc.expire": expires})
    await world.refer("pull", {"by duration": {}})
    world.publish("h1", "by time")
    world.publish("h1", "by duration")
    world.publish("h1", "garbage")
    world.clocks.set_wall(hours * 3600)

    report = await world.collect()
    assert world.has("h1", "by time", "by duration", "garbage")
    assert "the wall clock was set" in report.suspended
    assert {owner.state for owner in report.owners} == {"suspended"}
    assert sorted(await world.lease_ids()) == ["by-time", "pull"]
    world.clocks.pass_s(119)
    assert (await world.collect()).suspended
    await world.refer("pull", {})
    world.clocks.pass_s(2)
    assert not (await world.collect()).suspended
    assert world.has("h1", "by duration")
    assert not world.has("h1", "garbage")
    assert world.has("h1", "by time") == (hours < 0)


async def test_two_metadata_processes_never_collect_at_once() -> None:
    """The second waits for its turn or says who has it, and generations never come twice."""
    world = await World().begin()
    other = world.process("m2")
    holding, release = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        holding.set()
        await release.wait()

    world.owners.pause = hold
    first = asyncio.create_task(world.collect())
    await holding.wait()
    with pytest.raises(Unavailable, match="another metadata process"):
        await other.collect(Wish(), wait_s=0)
    release.set()
    generation = (await first).generation
    assert (await other.collect(Wish(), wait_s=0)).generation == generation + 1


async def test_turn_of_a_killed_process_is_taken_over() -> None:
    """A metadata process that died in mid-collection keeps the others from collecting for 20 s only."""
    world = await World().begin()
    await world.put(Key("gc", NO_NAMESPACE, "turn"), body='["dead", 1]')
    other = world.process("m2")
    with pytest.raises(Unavailable):
        await other.collect(Wish(), wait_s=0)
    world.clocks.pass_s(20)
    await other.collect(Wish(), wait_s=0)


async def test_owner_that_cannot_tell_what_changed_is_asked_for_all() -> None:
    """After a restore of distribution's records metadata knows again what is there, and what isn't."""
    world = await World().begin()
    world.publish("h1", "kept")
    world.publish("h1", "lost")
    await world.image("a:1", "kept")
    await world.image("b:1", "lost")
    await world.collect()
    store = world.owners.distributions["h1"].store
    del store.blobs[NAMESPACE, digest("lost")]
    store.changes, store.sequence = [], 0
    store.note(NAMESPACE, digest("kept"))
    await world.remove_image("b:1")
    await world.collect()
    assert world.has("h1", "kept")
    assert await world.hints() == 1


async def test_many_blobs_are_swept_in_pages() -> None:
    """However much garbage there is, one collection takes it all."""
    world = await World().begin()
    for number in range(4500):
        world.publish("h1", f"old {number}")
    report = await world.collect()
    assert (world.blobs("h1"), await world.hints()) == (0, 0)
    assert report.removed == 4500


async def test_sweep_that_ran_out_of_time_goes_on_where_it_stopped() -> None:
    """An owner may take its time: the collection asks again for what is left."""

    class Slow(FakeOwners):
        async def sweep_content(self, host: str, sweep: Sweep, namespace: str, digests: Sequence[str]) -> Swept:
            swept = await super().sweep_content(host, sweep, namespace, digests[:2])
            return replace(swept, next=digests[2] if len(digests) > 2 else "")

    world = World()
    world.owners = Slow("h1")
    world.collector = world.process("m1")
    await world.begin()
    for number in range(7):
        world.publish("h1", f"old {number}")
    assert (await world.collect()).removed == 7


async def test_ingests_that_leases_name_stay() -> None:
    """An upload that was left is aborted after a day, unless somebody leases it."""
    world = await World().begin()
    store = world.owners.distributions["h1"].store
    store.ingests = {(NAMESPACE, "left"): True, (NAMESPACE, "leased"): True, (NAMESPACE, "busy"): False}
    await world.lease("l1", Resource("ingest", "leased"))
    report = await world.collect()
    assert sorted(name for _, name in store.ingests) == ["busy", "leased"]
    assert [(item.kind, item.name) for item in report.items] == [("ingest", "left")]


async def test_owner_that_fails_is_named_with_its_error() -> None:
    """The report says of each owner why nothing was done there."""
    world = await World().begin()
    world.owners.bundles["h1"].error = FailedPrecondition("begin: the disk can't be written")
    report = await world.collect()
    assert [(o.state, o.reason) for o in report.owners if o.owner == "bundle"] == [
        ("refused", "begin: the disk can't be written")
    ]
