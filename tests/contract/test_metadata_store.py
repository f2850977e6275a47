"""What is promised of containers and images, on every body of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from hythe.errors import AlreadyExists, Conflict, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from hythe.identifiers import new_id
from hythe.ports.metadata import ALL_NAMESPACES, ContainerWish, ImageRecord, ImageWish, Origin
from hythe_metadata.records import RecordStore
from tests.fakes.intent import Intent
from tests.fixtures.record_stores import DURABLE, OpenStore
from tests.fixtures.waiting import eventually_async

DIGEST_A = "sha256:" + "a" * 64
DIGEST_B = "sha256:" + "b" * 64
MANIFEST = "application/vnd.oci.image.manifest.v1+json"

OpenIntent = Callable[[], Intent]


@pytest.fixture
def open_intent(open_store: OpenStore) -> OpenIntent:
    """A function that opens the same store again each time."""
    return lambda: Intent(open_store())


@pytest.fixture
def store(record_store: RecordStore) -> Intent:
    """An empty store."""
    return Intent(record_store)


def wish(name: str, **changes: object) -> ContainerWish:
    """Return a wish for a new container."""
    base = ContainerWish(new_id(), name, "localhost/busybox:latest", DIGEST_A, "h1", '{"args":["true"]}')
    return replace(base, **changes)  # type: ignore[arg-type]


def asks(namespace: str = "default", request_id: str = "", caller: str = "runtime") -> Origin:
    """Return who asks, by default with a fresh request id."""
    return Origin(namespace, caller, request_id or new_id())


def image(reference: str = "localhost/a:1", digest: str = DIGEST_A, if_revision: int | None = None) -> ImageWish:
    """Return a wish to point `reference` at `digest`."""
    return ImageWish(reference, digest, MANIFEST, 1234, if_revision)


async def test_new_wish_begins_a_creating_record(store: Intent) -> None:
    """A container that was begun has a record with its spec, its place and an epoch of the store's era."""
    wanted = wish("web")
    record = await store.begin(asks(), wanted)
    assert (record.id, record.name, record.host, record.spec) == (wanted.id, "web", "h1", wanted.spec)
    assert (record.desired, record.phase, record.lease_expired) == ("running", "creating", False)
    assert (record.era, record.epoch_revision) == (store.era, record.revision)
    assert await store.container("default", wanted.id) == record


async def test_same_wish_again_answers_the_present_record(store: Intent) -> None:
    """A repeated begin makes nothing new and answers what is there now."""
    wanted = wish("web")
    await store.begin(asks(), wanted)
    created = await store.finish(asks(), wanted.id, "created")
    assert await store.begin(asks(), wanted) == created


async def test_same_id_with_another_wish_is_a_conflict(store: Intent) -> None:
    """One id never stands for two different containers, in no namespace."""
    wanted = wish("web")
    await store.begin(asks(), wanted)
    with pytest.raises(Conflict):
        await store.begin(asks(), replace(wanted, spec='{"args":["false"]}'))
    with pytest.raises(Conflict):
        await store.begin(asks("other"), wanted)


async def test_taken_name_is_refused_and_names_its_holder(store: Intent) -> None:
    """Who asks for a taken name learns who has it and what to do."""
    holder = await store.begin(asks(), wish("web"))
    with pytest.raises(AlreadyExists) as caught:
        await store.begin(asks(), wish("web"))
    assert holder.id[:12] in caught.value.cause
    assert "--name" in caught.value.next_step
    assert "hythe rm web" in caught.value.next_step


async def test_names_of_namespaces_are_apart(store: Intent) -> None:
    """The same name can be used once in each namespace."""
    await store.begin(asks("a"), wish("web"))
    await store.begin(asks("b"), wish("web"))
    assert (await store.container("a", "web")).namespace == "a"


async def test_wish_without_digest_takes_the_digest_of_the_image(store: Intent) -> None:
    """A container of a known image is recorded with the digest that the name had at that moment."""
    await store.put_image(asks(), image("localhost/a:1", DIGEST_B))
    record = await store.begin(asks(), wish("web", reference="localhost/a:1", digest=None))
    assert record.digest == DIGEST_B


async def test_wish_for_a_bundle_directory_needs_no_image(store: Intent) -> None:
    """A container that is run from a directory is recorded without any digest, whatever images are known."""
    record = await store.begin(asks(), wish("web", reference="bundle:/srv/web", digest=None))
    assert (record.reference, record.digest) == ("bundle:/srv/web", "")
    assert (await store.container("default", "web")).digest == ""


async def test_wish_with_unknown_image_is_not_found_by_kind(store: Intent) -> None:
    """A caller can tell that it is the image that is missing, and nothing is reserved."""
    with pytest.raises(NotFound) as caught:
        await store.begin(asks(), wish("web", digest=None))
    assert caught.value.details["kind"] == "image"
    await store.begin(asks(), wish("web"))


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "short"},
        {"name": ""},
        {"name": "-web"},
        {"name": "a b"},
        {"digest": "sha256:xyz"},
        {"digest": ""},
        {"host": ""},
        {"reference": ""},
    ],
)
async def test_malformed_wish_is_refused(store: Intent, changes: dict[str, str]) -> None:
    """A wish that breaks a rule is refused as such and leaves nothing behind."""
    with pytest.raises(InvalidArgument):
        await store.begin(asks(), replace(wish("web"), **changes))  # type: ignore[arg-type]
    assert (await store.containers(ALL_NAMESPACES, "", 10)).records == ()


async def test_begin_without_namespace_is_refused(store: Intent) -> None:
    """Every record belongs to a namespace."""
    with pytest.raises(InvalidArgument):
        await store.begin(asks(""), wish("web"))


async def test_concurrent_begins_of_one_name_have_one_winner(store: Intent) -> None:
    """Of 32 who ask for one name at once exactly one gets it, and all others are told so."""
    results = await asyncio.gather(*(store.begin(asks(), wish("web")) for _ in range(32)), return_exceptions=True)
    winners = [result for result in results if not isinstance(result, BaseException)]
    assert len(winners) == 1
    assert sum(isinstance(result, AlreadyExists) for result in results) == 31
    assert await store.container("default", "web") == winners[0]


async def test_concurrent_begins_of_one_id_have_one_effect(store: Intent) -> None:
    """A request that arrives 32 times at once makes one record and one event."""
    wanted = wish("web")
    results = await asyncio.gather(*(store.begin(asks(), wanted) for _ in range(32)))
    assert len({result.revision for result in results}) == 1
    assert len(await store.outgoing(0, 100)) == 1


async def test_finish_created_ends_the_lease(store: Intent) -> None:
    """A settled container stays settled, however often it is said."""
    wanted = wish("web", lease_s=0.001)
    await store.begin(asks(), wanted)
    created = await store.finish(asks(), wanted.id, "created")
    assert created is not None
    assert (created.phase, created.lease_expired) == ("created", False)
    assert await store.finish(asks(), wanted.id, "created") == created


async def test_creating_record_whose_lease_ran_out_says_so(store: Intent) -> None:
    """Whoever lists records can see which of them somebody must settle."""
    late, early = wish("late", lease_s=0.001), wish("early", lease_s=60.0)
    await store.begin(asks(), late)
    await store.begin(asks(), early)

    async def expired() -> bool:
        return (await store.container("default", late.id)).lease_expired

    await eventually_async(expired)
    listed = {record.name: record.lease_expired for record in (await store.containers("default", "", 10)).records}
    assert listed == {"late": True, "early": False}


async def test_finish_removing_frees_the_name_at_once(store: Intent) -> None:
    """A container on its way out is hidden but for its full id, and its name can be used."""
    wanted = wish("web")
    await store.begin(asks(), wanted)
    removing = await store.finish(asks(), wanted.id, "removing")
    assert removing is not None
    assert (removing.phase, removing.desired) == ("removing", "removed")
    await store.begin(asks(), wish("web"))
    assert (await store.container("default", wanted.id)) == removing
    assert [record.id == wanted.id for record in (await store.containers("default", "", 10)).records] == [False]
    with pytest.raises(NotFound):
        await store.container("default", wanted.id[:20])
    assert await store.finish(asks(), wanted.id, "removing") == removing


async def test_record_never_goes_back_in_its_life(store: Intent) -> None:
    """A late word that a container was created does not bring it back from removal."""
    wanted = wish("web")
    await store.begin(asks(), wanted)
    removing = await store.finish(asks(), wanted.id, "removing")
    assert await store.finish(asks(), wanted.id, "created") == removing
    assert await store.begin(asks(), wanted) == removing


async def test_finish_absent_deletes_the_record(store: Intent) -> None:
    """A container that never came to be leaves nothing, and saying so again is harmless."""
    wanted = wish("web")
    await store.begin(asks(), wanted)
    assert await store.finish(asks(), wanted.id, "absent") is None
    assert await store.finish(asks(), wanted.id, "absent") is None
    with pytest.raises(NotFound):
        await store.container("default", wanted.id)
    await store.begin(asks(), wish("web"))


async def test_begin_that_comes_late_makes_nothing_again(store: Intent) -> None:
    """A repeated begin that arrives after the container is gone is refused: ids are never used twice."""
    wanted = wish("web")
    await store.begin(asks(), wanted)
    await store.finish(asks(), wanted.id, "absent")
    with pytest.raises(FailedPrecondition):
        await store.begin(asks(), wanted)


async def test_finish_of_unknown_container_changes_nothing(store: Intent) -> None:
    """Settling what is not there, or is another namespace's, is answered with no record."""
    wanted = wish("web")
    await store.begin(asks(), wanted)
    assert await store.finish(asks(), new_id(), "created") is None
    assert await store.finish(asks("other"), wanted.id, "absent") is None
    assert (await store.container("default", "web")).phase == "creating"


async def test_desire_raises_the_epoch(store: Intent) -> None:
    """Each decision about a container orders its commands after all earlier ones."""
    wanted = wish("web")
    begun = await store.begin(asks(), wanted)
    stopped = await store.desire(asks(), wanted.id, "stopped")
    started = await store.desire(asks(), wanted.id, "running")
    assert (stopped.desired, started.desired) == ("stopped", "running")
    assert begun.epoch_revision < stopped.epoch_revision < started.epoch_revision


async def test_repeated_desire_does_not_undo_a_later_one(store: Intent) -> None:
    """A request that arrives twice acts once, also when another decision came in between."""
    wanted = wish("web")
    await store.begin(asks(), wanted)
    first = asks()
    stopped = await store.desire(first, wanted.id, "stopped")
    started = await store.desire(asks(), wanted.id, "running")
    assert await store.desire(first, wanted.id, "stopped") == stopped
    assert await store.container("default", wanted.id) == started
    with pytest.raises(Conflict):
        await store.desire(first, wanted.id, "removed")


async def test_request_ids_of_callers_are_apart(store: Intent) -> None:
    """Nobody gets another caller's answer by using its request id."""
    wanted = wish("web")
    await store.begin(asks(), wanted)
    await store.desire(asks(request_id="r1", caller="a"), wanted.id, "stopped")
    assert (await store.desire(asks(request_id="r1", caller="b"), wanted.id, "running")).desired == "running"


async def test_desire_of_a_container_that_goes_is_refused(store: Intent) -> None:
    """What is being removed can't be started again; removing it again is fine."""
    wanted = wish("web")
    await store.begin(asks(), wanted)
    await store.finish(asks(), wanted.id, "removing")
    with pytest.raises(FailedPrecondition):
        await store.desire(asks(), wanted.id, "running")
    assert (await store.desire(asks(), wanted.id, "removed")).desired == "removed"
    with pytest.raises(NotFound):
        await store.desire(asks(), new_id(), "running")


async def test_container_is_found_by_id_name_and_prefix(store: Intent) -> None:
    """People may write as little of an id as is unique."""
    wanted = wish("web", id="ab" * 16)
    record = await store.begin(asks(), wanted)
    for key in (wanted.id, "web", "ab", "abab"):
        assert await store.container("default", key) == record
    for key in ("abb", "we", "", "*", "AB", "%"):
        with pytest.raises(NotFound) as caught:
            await store.container("default", key)
        assert caught.value.details["kind"] == "container"
    with pytest.raises(NotFound):
        await store.container("other", wanted.id)


async def test_ambiguous_prefix_names_its_candidates(store: Intent) -> None:
    """A prefix that fits two containers is refused with both of them."""
    await store.begin(asks(), wish("one", id="ab" + "1" * 30))
    await store.begin(asks(), wish("two", id="ab" + "2" * 30))
    with pytest.raises(InvalidArgument) as caught:
        await store.container("default", "ab")
    assert "ab1111111111 (one)" in caught.value.message
    assert "ab2222222222 (two)" in caught.value.message


async def test_name_that_looks_like_a_prefix_wins_over_it(store: Intent) -> None:
    """A container's name always finds that container, though another's id begins with the same letters."""
    await store.begin(asks(), wish("other", id="abc" + "1" * 29))
    named = await store.begin(asks(), wish("abc", id="f" * 32))
    assert await store.container("default", "abc") == named


async def test_list_comes_in_pages_by_id(store: Intent) -> None:
    """Following `next` shows each container once, whatever is added meanwhile."""
    wishes = [wish(f"c{number}") for number in range(7)]
    for wanted in wishes:
        await store.begin(asks(), wanted)
    seen: list[str] = []
    after = ""
    while True:
        page = await store.containers("default", after, 3)
        seen += [record.id for record in page.records]
        after = page.next
        if not after:
            break
    assert seen == sorted(wanted.id for wanted in wishes)


async def test_page_of_large_specs_stays_small(store: Intent) -> None:
    """A page never holds more than 512 KiB of specs, yet always one record."""
    spec = '{"args":["' + "x" * 300_000 + '"]}'
    for number in range(3):
        await store.begin(asks(), wish(f"c{number}", spec=spec))
    page = await store.containers("default", "", 500)
    assert len(page.records) == 1
    rest = await store.containers("default", page.next, 500)
    assert len(rest.records) == 1


async def test_list_without_namespace_shows_all(store: Intent) -> None:
    """Those who look after all namespaces see all records."""
    await store.begin(asks("a"), wish("web"))
    await store.begin(asks("b"), wish("web"))
    page = await store.containers(ALL_NAMESPACES, "", 10)
    assert {record.namespace for record in page.records} == {"a", "b"}
    assert [record.namespace for record in (await store.containers("a", "", 10)).records] == ["a"]


async def test_image_is_put_listed_and_removed(store: Intent) -> None:
    """An image name is kept until it is removed."""
    first = await store.put_image(asks(), image("localhost/a:1"))
    second = await store.put_image(asks(), image("localhost/b:1"))
    assert await store.image("default", "localhost/a:1") == first
    assert (await store.images("default", "", 10)).records == (first, second)
    assert (await store.images("default", "", 1)).next == "localhost/a:1"
    assert (await store.images("default", "localhost/a:1", 10)).records == (second,)
    assert (await store.images("other", "", 10)).records == ()
    await store.remove_image(asks(), "localhost/a:1")
    with pytest.raises(NotFound) as caught:
        await store.image("default", "localhost/a:1")
    assert caught.value.details["kind"] == "image"
    with pytest.raises(NotFound):
        await store.remove_image(asks(), "localhost/a:1")


async def test_images_of_all_namespaces_are_listed_page_by_page(store: Intent) -> None:
    """Whoever must know what any namespace still needs sees each name once, with its namespace."""
    wanted = [(namespace, f"localhost/{name}:1") for namespace in ("a", "b-b", "b.c") for name in ("x", "y")]
    for namespace, reference in reversed(wanted):
        await store.put_image(asks(namespace), image(reference))
    seen, after = [], ""
    while True:
        page = await store.images(ALL_NAMESPACES, after, 2)
        seen += [(record.namespace, record.reference) for record in page.records]
        if not (after := page.next):
            break
    assert seen == wanted
    with pytest.raises(InvalidArgument):
        await store.images(ALL_NAMESPACES, "localhost/x:1", 2)


async def test_name_that_moved_meanwhile_is_not_removed(store: Intent) -> None:
    """Who decides to remove a name because of what it pointed to never removes what it points to by now."""
    first = await store.put_image(asks(), image())
    newer = await store.put_image(asks(), image(digest=DIGEST_B))
    with pytest.raises(Conflict) as caught:
        await store.remove_image(asks(), "localhost/a:1", first.revision)
    assert caught.value.details == {"revision": str(newer.revision), "digest": DIGEST_B}
    await store.remove_image(asks(), "localhost/a:1", newer.revision)
    with pytest.raises(NotFound):
        await store.image("default", "localhost/a:1")


async def test_put_with_an_old_revision_is_a_conflict(store: Intent) -> None:
    """An older resolve never overwrites a newer one, and learns what is there."""
    first = await store.put_image(asks(), image(if_revision=0))
    newer = await store.put_image(asks(), image(digest=DIGEST_B, if_revision=first.revision))
    assert newer.revision > first.revision
    assert (newer.created_at, newer.digest) == (first.created_at, DIGEST_B)
    with pytest.raises(Conflict) as caught:
        await store.put_image(asks(), image(digest=DIGEST_A, if_revision=first.revision))
    assert caught.value.details == {"revision": str(newer.revision), "digest": DIGEST_B}
    with pytest.raises(Conflict):
        await store.put_image(asks(), image(if_revision=0))


async def test_put_of_what_is_there_changes_nothing(store: Intent) -> None:
    """Pulling an unchanged tag leaves its record alone and tells nobody."""
    first = await store.put_image(asks(), image())
    assert await store.put_image(asks(), image()) == first
    assert len(await store.outgoing(0, 10)) == 1


async def test_repeated_put_does_not_undo_a_later_one(store: Intent) -> None:
    """A put that arrives twice acts once."""
    first = asks()
    record = await store.put_image(first, image())
    newer = await store.put_image(asks(), image(digest=DIGEST_B))
    assert await store.put_image(first, image()) == record
    assert await store.image("default", "localhost/a:1") == newer


async def test_repeated_remove_does_not_undo_a_later_put(store: Intent) -> None:
    """A removal that arrives twice acts once."""
    await store.put_image(asks(), image())
    removal = asks()
    await store.remove_image(removal, "localhost/a:1")
    record = await store.put_image(asks(), image())
    await store.remove_image(removal, "localhost/a:1")
    assert await store.image("default", "localhost/a:1") == record


async def test_concurrent_compare_and_set_never_lies(store: Intent) -> None:
    """Of 32 who replace the same revision exactly one succeeds; every success was seen by its successor."""
    present = await store.put_image(asks(), image())
    for round_ in range(5):
        wishes = [image(digest=f"sha256:{round_:02}{number:062}", if_revision=present.revision) for number in range(32)]
        results = await asyncio.gather(*(store.put_image(asks(), each) for each in wishes), return_exceptions=True)
        winners = [result for result in results if isinstance(result, ImageRecord)]
        assert len(winners) == 1
        assert all(isinstance(result, Conflict) for result in results if result is not winners[0])
        present = winners[0]
        assert await store.image("default", "localhost/a:1") == present


@pytest.mark.parametrize(
    "wanted",
    [image(reference=""), image(reference="a b"), image(reference="ä"), image(digest="md5:1"), image(digest="")],
)
async def test_malformed_image_is_refused(store: Intent, wanted: ImageWish) -> None:
    """A name or digest that breaks a rule is never stored."""
    with pytest.raises(InvalidArgument):
        await store.put_image(asks(), wanted)


async def test_revision_grows_with_each_change(store: Intent) -> None:
    """All changes of the store are in one order."""
    wanted = wish("web")
    revisions = [(await store.begin(asks(), wanted)).revision]
    revisions.append((await store.put_image(asks(), image())).revision)
    revisions.append((await store.desire(asks(), wanted.id, "stopped")).revision)
    await store.remove_image(asks(), "localhost/a:1")
    revisions.append((await store.put_image(asks(), image())).revision)
    assert revisions == [1, 2, 3, 5]


async def test_changes_cause_numbered_events(store: Intent) -> None:
    """Each object's events are numbered from 1 without gaps, also across its removal, and say who asked."""
    wanted = wish("web")
    origin = Origin("default", "runtime", "r1", "4bf92f3577b34da6a3ce929d0e0e4736")
    await store.begin(origin, wanted)
    await store.put_image(asks(), image())
    await store.put_image(asks(), image(digest=DIGEST_B))
    await store.remove_image(asks(), "localhost/a:1")
    await store.put_image(asks(), image())
    await store.finish(asks(), wanted.id, "removing")
    await store.finish(asks(), wanted.id, "absent")
    events = await store.outgoing(0, 100)
    assert [(event.topic, event.past, event.number) for event in events] == [
        ("/containers/create", "created", 1),
        ("/images/create", "created", 1),
        ("/images/update", "updated", 2),
        ("/images/delete", "deleted", 3),
        ("/images/create", "created", 4),
        ("/containers/delete", "deleted", 2),
    ]
    first = events[0]
    assert (first.namespace, first.noun, first.object_id, first.caller) == (
        "default",
        "container",
        wanted.id,
        "runtime",
    )
    assert (first.request_id, first.trace_id) == ("r1", origin.trace_id)
    assert first.attributes["name"] == "web"
    assert [event.sequence for event in events] == sorted(event.sequence for event in events)


async def test_refused_change_causes_no_event(store: Intent) -> None:
    """What did not happen is not told."""
    await store.begin(asks(), wish("web"))
    with pytest.raises(AlreadyExists):
        await store.begin(asks(), wish("web"))
    assert len(await store.outgoing(0, 10)) == 1


@pytest.mark.parametrize("open_store", DURABLE, indirect=True)
async def test_sent_events_are_forgotten(open_intent: OpenIntent) -> None:
    """What is in the stream is not sent again after a clean restart."""
    store = open_intent()
    await store.begin(asks(), wish("a"))
    await store.begin(asks(), wish("b"))
    first, second = await store.outgoing(0, 10)
    assert await store.outgoing(first.sequence, 10) == [second]
    store.sent([first.sequence])
    await store.close()
    store = open_intent()
    assert await store.outgoing(0, 10) == [second]
    await store.close()


async def test_change_is_announced(store: Intent) -> None:
    """Whoever waits for events is woken by each change."""
    heard: list[int] = []
    store.on_change(lambda: heard.append(1))
    await store.begin(asks(), wish("web"))
    assert heard == [1]


@pytest.mark.parametrize("open_store", DURABLE, indirect=True)
async def test_everything_survives_a_restart(open_intent: OpenIntent) -> None:
    """A store opened again is the same store with the same records, answers and events."""
    store = open_intent()
    wanted, stop = wish("web"), asks()
    await store.begin(asks(), wanted)
    pulled = await store.put_image(asks(), image())
    stopped = await store.desire(stop, wanted.id, "stopped")
    events = await store.outgoing(0, 10)
    store_id, era = store.store_id, store.era
    await store.close()

    store = open_intent()
    assert (store.store_id, store.era) == (store_id, era)
    assert await store.container("default", "web") == stopped
    assert await store.image("default", "localhost/a:1") == pulled
    assert await store.outgoing(0, 10) == events
    assert await store.desire(stop, wanted.id, "stopped") == stopped
    await store.close()


@pytest.mark.parametrize("open_store", DURABLE, indirect=True)
async def test_restart_extends_leases_in_full(open_intent: OpenIntent) -> None:
    """While the store was away nobody could settle a record, so its lease begins anew."""
    store = open_intent()
    await store.begin(asks(), wish("web", lease_s=0.3))
    opened = store

    async def expired() -> bool:
        return (await opened.container("default", "web")).lease_expired

    await eventually_async(expired)
    await store.close()
    store = open_intent()
    assert not (await store.container("default", "web")).lease_expired
    await store.close()


async def test_closed_store_refuses(store: Intent) -> None:
    """After its end a store neither takes nor answers anything."""
    await store.close()
    with pytest.raises(Unavailable):
        await store.begin(asks(), wish("web"))
    with pytest.raises(Unavailable):
        await store.container("default", "web")
