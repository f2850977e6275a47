"""What the metadata store promises of namespaces (`hythe_metadata.namespaces`), on every body."""

from __future__ import annotations

import pytest

from hythe.errors import AlreadyExists, Conflict, FailedPrecondition, InvalidArgument, NotFound
from hythe.identifiers import new_id
from hythe.ports.metadata import Origin
from hythe_metadata import leases, namespaces
from hythe_metadata.labelled import LabelWish, RemoveWish
from hythe_metadata.namespaces import CreateWish
from hythe_metadata.records import Key, RecordStore, Transaction

SNAPSHOTTER = namespaces.DEFAULT_SNAPSHOTTER
RUNTIME = namespaces.DEFAULT_RUNTIME


def asks(namespace: str = "default", request_id: str = "") -> Origin:
    """Return who asks, by default with a fresh request id."""
    return Origin(namespace, "admin", request_id or new_id(), "f" * 32)


async def make(store: RecordStore, name: str, **labels: str) -> namespaces.NamespaceRecord:
    """Make a namespace."""
    return await store.change(namespaces.create(asks(), CreateWish(name, labels)))


async def test_namespace_is_what_it_was_made_as(record_store: RecordStore) -> None:
    """A new namespace has its labels and nothing in it."""
    made = await make(record_store, "team-a", owner="ops", empty="")
    assert (made.name, made.labels, made.records) == ("team-a", {"owner": "ops"}, {})
    assert made.created_at == made.updated_at
    assert await record_store.read(namespaces.get("team-a")) == made


async def test_second_namespace_of_a_name_is_refused_but_a_repetition_is_not(record_store: RecordStore) -> None:
    """Who asks twice by accident gets the first answer; who asks for a taken name is told."""
    origin = asks()
    made = await record_store.change(namespaces.create(origin, CreateWish("team-a")))
    assert await record_store.change(namespaces.create(origin, CreateWish("team-a"))) == made
    with pytest.raises(AlreadyExists) as caught:
        await make(record_store, "team-a")
    assert "hythe namespace label team-a" in caught.value.next_step


@pytest.mark.parametrize("name", ["", "-a", "a_", "a..b", "ä", "a/b", "a b", "x" * 77, "a\n"])
async def test_name_that_breaks_containerds_rule_is_refused(record_store: RecordStore, name: str) -> None:
    """Only containerd's names are taken, so that its clients can use them all."""
    with pytest.raises(InvalidArgument):
        await make(record_store, name)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("", "v"),
        ("k", "v" * 4096),
        ("k\ud800", "v"),
        (SNAPSHOTTER, "zfs"),
        (RUNTIME, "a b"),
        (RUNTIME, "/usr/bin/runc"),
    ],
)
async def test_label_that_breaks_its_rule_is_refused(record_store: RecordStore, key: str, value: str) -> None:
    """A label that is too long, or a default that can't be one, never comes into a record."""
    made = await make(record_store, "team-a")
    with pytest.raises(InvalidArgument):
        await record_store.change(namespaces.create(asks(), CreateWish("team-b", {key: value})))
    with pytest.raises(InvalidArgument):
        await record_store.change(namespaces.label(asks(), LabelWish("team-a", {key: value})))
    assert await record_store.read(namespaces.get("team-a")) == made


async def test_longest_label_and_known_defaults_are_taken(record_store: RecordStore) -> None:
    """A label of exactly 4096 bytes fits, and the defaults that Hythe has are taken."""
    labels = {"k": "v" * 4095, SNAPSHOTTER: "native", RUNTIME: "io.containerd.runc.v2"}
    assert (await record_store.change(namespaces.create(asks(), CreateWish("team-a", labels)))).labels == labels


async def test_labels_change_only_at_the_revision_that_was_seen(record_store: RecordStore) -> None:
    """Of two who change what they saw, the second is told that it has changed."""
    made = await make(record_store, "team-a", a="1", b="2")
    changed = await record_store.change(
        namespaces.label(asks(), LabelWish("team-a", {"a": "", "c": "3"}, made.revision))
    )
    assert changed.labels == {"b": "2", "c": "3"}
    assert changed.revision > made.revision
    with pytest.raises(Conflict) as caught:
        await record_store.change(namespaces.label(asks(), LabelWish("team-a", {"d": "4"}, made.revision)))
    assert caught.value.details["revision"] == str(changed.revision)
    assert await record_store.read(namespaces.get("team-a")) == changed


async def test_labels_that_are_there_already_change_nothing(record_store: RecordStore) -> None:
    """Saying again what is so makes no revision and no event."""
    made = await make(record_store, "team-a", a="1")
    assert await record_store.change(namespaces.label(asks(), LabelWish("team-a", {"a": "1", "x": ""}))) == made
    assert len(await record_store.outgoing(0, 100)) == 1


async def test_change_that_is_repeated_answers_as_before(record_store: RecordStore) -> None:
    """A repeated request with the revision of before is no conflict, and a repeated removal no missing namespace."""
    made = await make(record_store, "team-a")
    origin, wish = asks(), LabelWish("team-a", {"a": "1"}, made.revision)
    changed = await record_store.change(namespaces.label(origin, wish))
    assert await record_store.change(namespaces.label(origin, wish)) == changed
    origin = asks()
    await record_store.change(namespaces.remove(origin, RemoveWish("team-a")))
    await record_store.change(namespaces.remove(origin, RemoveWish("team-a")))
    with pytest.raises(NotFound):
        await record_store.change(namespaces.remove(asks(), RemoveWish("team-a")))


async def test_namespace_with_something_in_it_is_not_removed(record_store: RecordStore) -> None:
    """Removing a namespace that is in use is refused, and what is in it is counted."""
    await make(record_store, "team-a")

    def fill(transaction: Transaction) -> None:
        for number in range(3):
            transaction.put(Key("image", "team-a", f"localhost/a:{number}"), "{}")
        transaction.put(Key("container", "team-a", "1" * 32), "{}")

    await record_store.change(fill)
    with pytest.raises(FailedPrecondition) as caught:
        await record_store.change(namespaces.remove(asks(), RemoveWish("team-a")))
    assert caught.value.cause == "it has 1 container, 3 images"
    found = await record_store.read(namespaces.get("team-a"))
    assert found.records == {"image": 3, "container": 1}


async def test_namespace_comes_to_be_with_the_first_record_in_it(record_store: RecordStore) -> None:
    """Nobody has to make a namespace before it is used; its event tells who was first."""
    await record_store.change(leases.create(asks("team-a"), leases.LeaseWish("l1")))
    await record_store.change(leases.create(asks("team-a"), leases.LeaseWish("l2")))
    assert (await record_store.read(namespaces.get("team-a"))).records == {"lease": 2}
    told = await record_store.outgoing(0, 100)
    assert [(event.topic, event.namespace, event.object_id, event.caller) for event in told] == [
        ("/namespaces/create", "team-a", "team-a", "admin")
    ]


async def test_life_of_a_namespace_is_told_with_containerds_fields(record_store: RecordStore) -> None:
    """Each change is one event in the namespace itself, numbered without gaps, with who asked and in which trace."""
    origin = asks("default")
    await record_store.change(namespaces.create(origin, CreateWish("team-a", {"a": "1"})))
    await record_store.change(namespaces.label(asks(), LabelWish("team-a", {"b": "2"})))
    await record_store.change(namespaces.remove(asks(), RemoveWish("team-a")))
    told = await record_store.outgoing(0, 100)
    assert [(event.topic, event.past, event.number, dict(event.attributes)) for event in told] == [
        ("/namespaces/create", "created", 1, {"name": "team-a", "labels.a": "1"}),
        ("/namespaces/update", "updated", 2, {"name": "team-a", "labels.a": "1", "labels.b": "2"}),
        ("/namespaces/delete", "deleted", 3, {"name": "team-a", "labels.a": "1", "labels.b": "2"}),
    ]
    assert {event.namespace for event in told} == {"team-a"}
    assert (told[0].caller, told[0].request_id, told[0].trace_id) == ("admin", origin.request_id, "f" * 32)


async def test_lists_are_filtered_and_come_in_pages(record_store: RecordStore) -> None:
    """A list by filters has every match once, by name, however small its pages are."""
    for name in ("c", "a", "e", "b", "d"):
        await make(record_store, name, even="yes" if name in "bd" else "no")
    names: list[str] = []
    after = ""
    while True:
        page = await record_store.read(namespaces.list_all(after, 2, ["labels.even==no"]))
        names += [record.name for record in page.records]
        after = page.next
        if not after:
            break
    assert names == ["a", "c", "e"]
    page = await record_store.read(namespaces.list_all("", 10, ["name==a", "name~=^[de]$"]))
    assert [record.name for record in page.records] == ["a", "d", "e"]


async def test_filter_that_cannot_be_read_is_refused_with_its_place(record_store: RecordStore) -> None:
    """A misspelt filter says where it is wrong."""
    with pytest.raises(InvalidArgument, match="position 6"):
        await record_store.read(namespaces.list_all("", 10, ["name==,"]))
