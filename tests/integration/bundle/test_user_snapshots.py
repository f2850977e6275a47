"""What users may do with snapshots that Hythe needs, and what they see of them."""

from __future__ import annotations

import pytest

from hythe.errors import FailedPrecondition, InvalidArgument, NotFound
from hythe.ports.snapshots import Snapshotter
from hythe_bundle.user_snapshots import UserSnapshots
from scripts.lab.images import ImageBuilder, Layer
from tests.fixtures.bundles import Rig
from tests.fixtures.snapshots import commit, write

ELF_32 = b"\x7fELF\x01" + bytes(60)


async def test_root_file_system_of_a_container_is_left_alone(rig: Rig) -> None:
    """A container's snapshot is neither removed nor committed while its bundle exists; the error says what to do instead."""
    image = ImageBuilder().layer(Layer().file("bin/sh", b"#!", mode=0o755)).config(Cmd=["sh"]).build()
    await rig.unpack(image)
    bundle = await rig.bundles.prepare(rig.request(rig.blobs.add(image)), rig.reports.append)
    users, key = UserSnapshots(rig.snapshots), bundle.path.name
    with pytest.raises(FailedPrecondition) as caught:
        await users.remove(key)
    assert caught.value.next_step == f"`hythe rm {key}` removes both"
    with pytest.raises(FailedPrecondition, match="root file system of a container"):
        await users.commit("layer", key, {})
    assert (await users.label(key, {"mine": "yes"})).labels == {"mine": "yes"}
    assert await rig.bundles.prepare(rig.request(rig.blobs.add(image), container_id=key), rig.reports.append) == bundle
    await rig.bundles.release("default", key)
    with pytest.raises(NotFound):
        await users.info(key)


async def test_labels_of_hythe_s_own_are_neither_shown_nor_changed(rig: Rig) -> None:
    """Users see their own labels alone, cannot set or take away others, and cannot ask for them in filters."""
    image = ImageBuilder().layer(Layer().file("bin/sh", ELF_32, mode=0o755)).config(Cmd=["sh"]).build()
    layer = (await rig.unpack(image)).image.chain_id
    await rig.bundles.prepare(rig.request(rig.blobs.add(image)), rig.reports.append)
    users = UserSnapshots(rig.snapshots)
    assert "elf-32" in (await rig.snapshots.stat(layer)).labels
    found, more = await users.page([], "", 10)
    assert [snapshot.labels for snapshot in found] == [{}, {}] and not more
    assert (await users.info(layer)).labels == {}
    assert await users.page(['labels."elf-32"', 'labels."bundle/record.json"'], "", 10) == ([], False)
    for labels in ({"elf-32": ""}, {"bundle/record.json": "{}"}, {"bundle/": ""}):
        for call in (users.label(layer, labels), users.prepare("x", "", labels), users.view("x", "", labels)):
            with pytest.raises(InvalidArgument, match="Hythe's own"):
                await call
    assert "elf-32" in (await rig.snapshots.stat(layer)).labels


@pytest.mark.parametrize("labels", [{"": "x"}, {"k": "v" * 4096}])
async def test_labels_keep_containerd_s_rule(rig: Rig, labels: dict[str, str]) -> None:
    """A label has a key, and key and value have at most 4096 bytes together."""
    with pytest.raises(InvalidArgument):
        await UserSnapshots(rig.snapshots).prepare("x", "", labels)


async def test_removed_layer_is_unpacked_again_when_it_is_needed(rig: Rig) -> None:
    """Who removes an image's layers costs the next run an unpack, and nothing else."""
    image = ImageBuilder().layer(Layer().file("a", b"1")).layer(Layer().file("b", b"2")).build()
    unpacked = await rig.unpack(image)
    assert (unpacked.new_layers, (await rig.unpack(image)).new_layers) == (2, 0)
    await UserSnapshots(rig.snapshots).remove(unpacked.image.chain_id)
    assert (await rig.unpack(image)).new_layers == 1
    assert await rig.snapshots.read_file(unpacked.image.chain_id, "/b", 9) == b"2"


async def filled(snapshots: Snapshotter) -> None:
    """Make snapshots of all kinds with and without labels."""
    root = {"containerd.io/gc.root": "walk"}
    await snapshots.prepare("a-np", "", labels=root)
    await snapshots.prepare("p-tmp", "", labels=root)
    await snapshots.commit("p", "p-tmp", labels=root)
    await snapshots.prepare("a", "p", labels=root)
    await snapshots.view("v", "p", labels=root)
    await commit(snapshots, "p-wl", "", write(f="1"))
    await snapshots.update("p-wl", {"l": "1", **root})
    await snapshots.prepare("a-wl", "p-wl", labels={"l": "2", **root})
    await snapshots.view("v-wl", "p-wl", labels={"l": "3", **root})
    await snapshots.prepare("a-np-wl", "", labels={"l": "2", **root})


async def test_filters_find_what_containerd_s_would(rig: Rig) -> None:
    """Name, parent, kind and labels can be asked for, one of several filters being enough; pages follow each other."""
    await filled(rig.snapshots)
    users = UserSnapshots(rig.snapshots)
    rooted = 'labels."containerd.io/gc.root"==walk'
    for filters, expected in [
        ([], "a a-np a-np-wl a-wl p p-wl v v-wl"),
        ([rooted], "a a-np a-np-wl a-wl p p-wl v v-wl"),
        ([f"kind==active,{rooted}"], "a a-np a-np-wl a-wl"),
        ([f"kind==view,{rooted}"], "v v-wl"),
        ([f"kind==committed,{rooted}"], "p p-wl"),
        (["name==p", "name==a-np-wl"], "a-np-wl p"),
        (["name==a-wl,labels.l"], "a-wl"),
        (["parent==p"], "a v"),
        ([f'parent!="",{rooted}'], "a a-wl v v-wl"),
        (["labels.l"], "a-np-wl a-wl p-wl v-wl"),
        (["labels.l==2"], "a-np-wl a-wl"),
        (["name~=^a"], "a a-np a-np-wl a-wl"),
    ]:
        found: list[str] = []
        more = True
        while more:
            page, more = await users.page(filters, found[-1] if found else "", 3)
            found += [snapshot.name for snapshot in page]
        assert found == expected.split()
    with pytest.raises(InvalidArgument):
        await users.page(["kind=active"], "", 3)
