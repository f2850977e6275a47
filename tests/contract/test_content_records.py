"""What every body of the records of content promises beyond what namespaces see: changes in order, and events."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping

import pytest

from hythe.asking import Asker, working_for
from hythe.digest import Digest, digest_of
from hythe.errors import NotFound, OutOfRange
from hythe.ports.events import OutgoingEvent
from hythe_distribution.adapters.records_memory import MemoryRecords
from hythe_distribution.adapters.records_s3 import S3Records
from hythe_distribution.adapters.records_sqlite import SqliteRecords
from hythe_distribution.records import BlobChange, Publication, Records

ONE, TWO, THREE = (digest_of(name.encode()) for name in ("one", "two", "three"))


def sqlite_body(request: pytest.FixtureRequest) -> Records:
    """Records beside a directory."""
    return SqliteRecords(request.getfixturevalue("tmp_path") / "records.db")


def s3_body(request: pytest.FixtureRequest) -> Records:
    """Records in a bucket."""
    return S3Records(request.getfixturevalue("bucket").open(), request.getfixturevalue("tmp_path") / "ledger.db")


def memory_body(request: pytest.FixtureRequest) -> Records:
    """Records in memory."""
    return MemoryRecords()


BODIES: dict[str, Callable[[pytest.FixtureRequest], Records]] = {
    "sqlite": sqlite_body,
    "s3": s3_body,
    "memory": memory_body,
}


@pytest.fixture(params=BODIES)
def records(request: pytest.FixtureRequest) -> Iterator[Records]:
    """Fresh, empty records of each body."""
    records: Records = BODIES[request.param](request)
    yield records
    records.close()


def publish(records: Records, digest: Digest, namespace: str = "default", **labels: str) -> None:
    """Make one blob visible."""
    records.publish(namespace, [Publication(digest, 7, labels)])


def all_changes(records: Records, after: int = 0, limit: int = 2) -> list[BlobChange]:
    """Read page after page until there is nothing new."""
    found: list[BlobChange] = []
    while page := records.changes(after, limit):
        assert len(page) <= limit
        found += page
        after = page[-1].sequence
    return found


def events(records: Records, after: int = 0) -> list[OutgoingEvent]:
    """Return what waits in the outbox."""
    return list(asyncio.run(_outgoing(records, after)))


async def _outgoing(records: Records, after: int) -> list[OutgoingEvent]:
    return list(await records.ledger.outgoing(after, 1000))


def test_all_records_are_listed_by_sequence(records: Records) -> None:
    """Who asks for all gets each record of each namespace once, with size and labels, in growing order."""
    publish(records, ONE, a="1")
    publish(records, TWO)
    publish(records, ONE, "others", b="2")
    found = all_changes(records)
    assert {(change.namespace, change.digest) for change in found} == {
        ("default", ONE),
        ("default", TWO),
        ("others", ONE),
    }
    assert all(change.size_bytes == 7 and not change.gone for change in found)
    assert [dict(change.labels) for change in found if change.namespace == "others"] == [{"b": "2"}]
    sequences = [change.sequence for change in found]
    assert sequences == sorted(set(sequences))
    assert sequences[0] > 0


def test_only_what_changed_since_is_listed(records: Records) -> None:
    """A new label, a new record and one that went are told beyond the last sequence; what changes nothing isn't."""
    publish(records, ONE)
    publish(records, TWO)
    after = all_changes(records)[-1].sequence
    assert list(records.changes(after, 10)) == []
    publish(records, ONE)
    records.label("default", ONE, {})
    assert list(records.changes(after, 10)) == []
    records.label("default", ONE, {"a": "1"})
    records.withdraw("default", TWO)
    publish(records, THREE)
    found = {change.digest: change for change in all_changes(records, after)}
    assert dict(found[ONE].labels) == {"a": "1"}
    assert (found[TWO].gone, found[THREE].gone) == (True, False)
    assert min(change.sequence for change in found.values()) > after


def test_record_that_came_back_is_no_longer_gone(records: Records) -> None:
    """What went and was published again is told as it is now."""
    publish(records, ONE, a="1")
    after = all_changes(records)[-1].sequence
    records.withdraw("default", ONE)
    publish(records, ONE, b="2")
    (change,) = all_changes(records, after)
    assert (change.gone, dict(change.labels)) == (False, {"b": "2"})


def test_sequence_that_was_never_given_is_out_of_range(records: Records) -> None:
    """Who comes with a number from elsewhere is told to ask for all, and isn't told that nothing changed."""
    publish(records, ONE)
    with pytest.raises(OutOfRange):
        records.changes(all_changes(records)[-1].sequence + 1000, 10)


def test_follower_always_ends_up_with_what_is_there(records: Records) -> None:
    """Whoever follows the changes, page by page while others change things, has in the end exactly the records."""
    chance = random.Random(7)
    digests = [digest_of(str(number).encode()) for number in range(6)]
    view: dict[tuple[str, Digest], Mapping[str, str]] = {}
    after = 0

    def follow(pages: int) -> bool:
        nonlocal after
        for _ in range(pages):
            page = records.changes(after, 3)
            for change in page:
                if change.gone:
                    view.pop((change.namespace, change.digest), None)
                else:
                    view[change.namespace, change.digest] = dict(change.labels)
            if not page:
                return False
            after = page[-1].sequence
        return True

    for step in range(80):
        namespace, digest = chance.choice(("one", "two")), chance.choice(digests)
        action = chance.choice(("publish", "publish", "label", "withdraw", "follow"))
        try:
            if action == "publish":
                publish(records, digest, namespace, step=str(step))
            elif action == "label":
                records.label(namespace, digest, {"label": str(step)})
            elif action == "withdraw":
                records.withdraw(namespace, digest)
            else:
                follow(1)
        except NotFound:
            continue
    while follow(1):
        pass
    assert view == {
        (namespace, blob.digest): dict(blob.labels) for namespace in ("one", "two") for blob in records.walk(namespace)
    }


def test_several_records_are_withdrawn_at_once(records: Records) -> None:
    """Those that there are go, and are named; the others are no error."""
    publish(records, ONE)
    publish(records, TWO)
    publish(records, ONE, "others")
    assert set(records.withdraw_all("default", [ONE, THREE, TWO, ONE])) == {ONE, TWO}
    assert list(records.walk("default")) == []
    assert records.namespaces_of(ONE) == {"others"}
    assert records.withdraw_all("default", [ONE]) == ()


def test_blobs_that_no_namespace_sees_are_told_from_the_others(records: Records) -> None:
    """A blob is unseen only when it has no record in any namespace."""
    publish(records, ONE, "others")
    publish(records, TWO)
    assert records.unseen([ONE, TWO, THREE]) == [THREE]
    assert records.unseen([]) == []


def test_each_change_of_what_is_seen_leaves_one_event(records: Records) -> None:
    """A blob that comes into view or goes out of it is told with its number; labels and repetitions are not."""
    records.publish("default", [Publication(ONE, 7), Publication(TWO, 7)])
    publish(records, ONE, a="1")
    records.label("default", ONE, {"b": "2"})
    records.withdraw("default", ONE)
    publish(records, ONE)
    publish(records, ONE, "others")
    found = events(records)
    assert [(event.namespace, event.object_id, event.number, event.past) for event in found] == [
        ("default", str(ONE), 1, "created"),
        ("default", str(TWO), 1, "created"),
        ("default", str(ONE), 2, "deleted"),
        ("default", str(ONE), 3, "created"),
        ("others", str(ONE), 1, "created"),
    ]
    assert [event.topic for event in found[1:3]] == ["/content/create", "/content/delete"]
    assert dict(found[0].attributes) == {"digest": str(ONE), "size": "7"}
    assert dict(found[2].attributes) == {"digest": str(ONE)}
    assert all(event.noun == "content" for event in found)


def test_event_says_who_asked(records: Records) -> None:
    """The request in which something was done stands in its event."""
    with working_for(Asker("runtime", "request-1")):
        publish(records, ONE)
    (event,) = events(records)
    assert (event.caller, event.request_id) == ("runtime", "request-1")


def test_event_that_was_sent_is_forgotten_and_its_number_is_not(records: Records) -> None:
    """What is in the stream isn't shown again, and the next event of that blob goes on counting."""
    publish(records, ONE)
    (event,) = events(records)
    records.ledger.sent([event.sequence])
    assert events(records) == []
    records.withdraw("default", ONE)
    (following,) = events(records)
    assert (following.number, following.sequence > event.sequence) == (2, True)


def test_whoever_waits_for_events_is_woken(records: Records) -> None:
    """A change is told to the sender at once, in any thread."""
    woken: list[bool] = []
    records.ledger.on_change(lambda: woken.append(True))
    publish(records, ONE)
    assert woken


def test_facts_are_kept_by_name(records: Records) -> None:
    """What was noted is there, and what wasn't is empty."""
    records.ledger.note("a", "1")
    records.ledger.note("a", "2")
    assert (records.ledger.fact("a"), records.ledger.fact("b")) == ("2", "")
    assert records.ledger.id
