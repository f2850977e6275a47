"""What the metadata store promises of networks and volumes as they are intended, on every body."""

from __future__ import annotations

import pytest

from hythe.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from hythe.identifiers import new_id
from hythe.ports.metadata import Origin
from hythe_metadata import namespaces, networks, volumes
from hythe_metadata.labelled import LabelWish, RemoveWish
from hythe_metadata.networks import NetworkWish
from hythe_metadata.records import RecordStore
from hythe_metadata.volumes import VolumeWish


def asks(namespace: str = "default") -> Origin:
    """Return who asks, with a fresh request id."""
    return Origin(namespace, "runtime", new_id())


async def make(store: RecordStore, name: str, subnet: str = "") -> networks.NetworkRecord:
    """Make a network."""
    return await store.change(networks.create(asks(), NetworkWish(name, subnet=subnet)))


async def test_network_lives_from_creation_to_removal(record_store: RecordStore) -> None:
    """A network keeps what it was made with; labels and removal hold to the revision that was seen."""
    origin, wish = asks(), NetworkWish("lab", "bridge", "10.88.0.0/16", {"a": "1"})
    made = await record_store.change(networks.create(origin, wish))
    assert await record_store.change(networks.create(origin, wish)) == made
    assert (made.driver, made.subnet, made.labels) == ("bridge", "10.88.0.0/16", {"a": "1"})
    labelled = await record_store.change(networks.label(asks(), LabelWish("lab", {"b": "2"}, made.revision)))
    assert labelled.labels == {"a": "1", "b": "2"}
    assert await record_store.read(networks.get("lab")) == labelled
    with pytest.raises(Conflict):
        await record_store.change(networks.remove(asks(), RemoveWish("lab", made.revision)))
    await record_store.change(networks.remove(asks(), RemoveWish("lab", labelled.revision)))
    with pytest.raises(NotFound):
        await record_store.read(networks.get("lab"))


@pytest.mark.parametrize(
    "subnet", ["10.88.0.1/16", "10.88.0.0", "10.88.0.0/31", "10.88.0.0/33", "fd00::/127", "lab", "10.88/16"]
)
async def test_subnet_that_is_none_is_refused(record_store: RecordStore, subnet: str) -> None:
    """A subnet with bits of a host, without a length, or without room for a container is refused."""
    with pytest.raises(InvalidArgument):
        await make(record_store, "lab", subnet)


@pytest.mark.parametrize(
    "wish", [NetworkWish("-a"), NetworkWish("a", driver="Bridge"), NetworkWish("a", labels={"": "v"})]
)
async def test_network_that_breaks_a_rule_is_refused(record_store: RecordStore, wish: NetworkWish) -> None:
    """A name, a driver or a label that can't be one is refused."""
    with pytest.raises(InvalidArgument):
        await record_store.change(networks.create(asks(), wish))


async def test_networks_never_share_addresses(record_store: RecordStore) -> None:
    """A subnet that overlaps another network's is refused, and that one is named; other addresses are fine."""
    await make(record_store, "a", "10.88.0.0/16")
    with pytest.raises(AlreadyExists, match="of network a"):
        await make(record_store, "b", "10.88.7.0/24")
    with pytest.raises(AlreadyExists):
        await make(record_store, "a", "10.90.0.0/16")
    await make(record_store, "b", "10.89.0.0/16")
    await make(record_store, "c", "FD00:0::/64")
    await make(record_store, "d")
    page = await record_store.read(networks.list_all("", 10, ["subnet~=^fd00", "subnet==10.89.0.0/16"]))
    assert [(network.name, network.subnet) for network in page.records] == [("b", "10.89.0.0/16"), ("c", "fd00::/64")]


async def test_volume_is_known_by_its_host(record_store: RecordStore) -> None:
    """Where a volume is can be asked; saying it again changes nothing, and its namespace comes to be with it."""
    made = await record_store.change(volumes.record(asks("team"), VolumeWish("data", "h1", {"a": "1"})))
    assert await record_store.change(volumes.record(asks("team"), VolumeWish("data", "h1", {"a": "1"}))) == made
    assert (await record_store.read(volumes.get("team", "data"))).host == "h1"
    assert (await record_store.read(namespaces.get("team"))).records == {"volume": 1}
    with pytest.raises(NotFound):
        await record_store.read(volumes.get("default", "data"))


async def test_volume_of_a_name_is_on_one_host_only(record_store: RecordStore) -> None:
    """Two hosts can't both have the volume of one name; the one that has it is named."""
    await record_store.change(volumes.record(asks(), VolumeWish("data", "h1")))
    with pytest.raises(AlreadyExists) as caught:
        await record_store.change(volumes.record(asks(), VolumeWish("data", "h2")))
    assert caught.value.details["host"] == "h1"


async def test_volumes_are_labelled_listed_and_forgotten(record_store: RecordStore) -> None:
    """Records of volumes have the features of all records: labels, filters, pages, compare-and-set."""
    for namespace, name in (("b", "x"), ("a", "x"), ("a", "y")):
        await record_store.change(volumes.record(asks(namespace), VolumeWish(name, "h1")))
    labelled = await record_store.change(volumes.label(asks("a"), LabelWish("y", {"kept": "yes"})))
    page = await record_store.read(volumes.list_all("", "", 2, ["host==h1"]))
    assert ([(v.namespace, v.name) for v in page.records], page.next) == ([("a", "x"), ("a", "y")], "a y")
    page = await record_store.read(volumes.list_all("", page.next, 2, ["host==h1"]))
    assert ([(v.namespace, v.name) for v in page.records], page.next) == ([("b", "x")], "")
    page = await record_store.read(volumes.list_all("a", "", 10, ["labels.kept==yes"]))
    assert page.records == (labelled,)
    with pytest.raises(Conflict):
        await record_store.change(volumes.label(asks("a"), LabelWish("y", {"kept": ""}, labelled.revision - 1)))
    await record_store.change(volumes.remove(asks("a"), RemoveWish("y", labelled.revision)))
    with pytest.raises(NotFound):
        await record_store.change(volumes.remove(asks("a"), RemoveWish("y")))


@pytest.mark.parametrize(
    "wish", [VolumeWish("", "h1"), VolumeWish("a/b", "h1"), VolumeWish("v" * 201, "h1"), VolumeWish("a", "")]
)
async def test_volume_that_breaks_a_rule_is_refused(record_store: RecordStore, wish: VolumeWish) -> None:
    """A name that bundle would not take, or no host, is refused."""
    with pytest.raises(InvalidArgument):
        await record_store.change(volumes.record(asks(), wish))
