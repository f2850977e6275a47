"""What becomes of containers and images, whatever is asked in whatever order."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.errors import Conflict, FailedPrecondition, HytheError, NotFound
from hythe.identifiers import new_id
from hythe.ports.metadata import ContainerRecord, ContainerWish, ImageWish, Origin
from hythe_metadata.adapters.memory_store import MemoryStore
from hythe_metadata.changes import Answered, body_hash, repeated
from tests.fakes.intent import Intent

DIGEST = "sha256:" + "a" * 64
PHASES = ("creating", "created", "removing")
REQUESTS = st.lists(
    st.one_of(
        st.tuples(st.just("finish"), st.sampled_from(["created", "removing", "absent"])),
        st.tuples(st.just("desire"), st.sampled_from(["running", "stopped", "removed"])),
        st.tuples(st.just("begin"), st.just("")),
    ),
    max_size=12,
)


def asks() -> Origin:
    """Return who asks, with a fresh request id."""
    return Origin("default", "test", new_id())


async def ask(intent: Intent, wish: ContainerWish, kind: str, value: str) -> ContainerRecord | None:
    """Ask one thing of a container; None where it is refused or there is no answer."""
    try:
        if kind == "begin":
            return await intent.begin(asks(), wish)
        if kind == "finish":
            return await intent.finish(asks(), wish.id, value)  # type: ignore[arg-type]
        return await intent.desire(asks(), wish.id, value)  # type: ignore[arg-type]
    except (FailedPrecondition, NotFound):
        return None


@given(REQUESTS)
def test_any_sequence_of_requests_keeps_the_order_of_a_life(requests: list[tuple[str, str]]) -> None:
    """Phases never go back, revisions and epochs never fall, the deletion is told at most once, and nobody rises again."""

    async def live() -> None:
        intent = Intent(MemoryStore())
        wish = ContainerWish(new_id(), "web", "localhost/a:1", DIGEST, "h1", "{}")
        seen = [await intent.begin(asks(), wish)]
        gone = False
        for kind, value in requests:
            answer = await ask(intent, wish, kind, value)
            gone = gone or (kind, value) in (("finish", "absent"), ("finish", "removing"))
            if answer is not None:
                assert PHASES.index(answer.phase) >= PHASES.index(seen[-1].phase)
                assert (answer.era, answer.epoch_revision) >= (seen[-1].era, seen[-1].epoch_revision)
                assert answer.revision >= seen[-1].revision
                seen.append(answer)
        events = [event.past for event in await intent.outgoing(0, 100)]
        assert events == (["created", "deleted"] if gone else ["created"])
        listed = (await intent.containers("default", "", 10)).records
        assert [record.id for record in listed] == ([] if gone else [wish.id])

    asyncio.run(live())


@given(st.lists(st.integers(0, 300_000), max_size=12), st.integers(1, 5))
def test_pages_bring_every_record_once_and_stay_small(sizes: list[int], limit: int) -> None:
    """However large the specs, following the pages shows all, in order, each page within its limits."""

    async def list_all() -> None:
        intent = Intent(MemoryStore())
        for number, size in enumerate(sizes):
            wish = ContainerWish(new_id(), f"c{number}", "localhost/a:1", DIGEST, "h1", "x" * size)
            await intent.begin(asks(), wish)
        found: list[str] = []
        after = ""
        while True:
            page = await intent.containers("default", after, limit)
            assert len(page.records) <= limit
            assert len(page.records) <= 1 or sum(len(record.spec) for record in page.records) <= 512 << 10
            found += [record.id for record in page.records]
            after = page.next
            if not after:
                break
        assert found == sorted(found)
        assert len(found) == len(sizes)

    asyncio.run(list_all())


@pytest.mark.parametrize("if_revision", [None, 0, 1, 2, 7])
@pytest.mark.parametrize("present", [False, True])
async def test_compare_and_set_compares(if_revision: int | None, present: bool) -> None:
    """A put with a revision succeeds exactly when that is the present one, 0 meaning none."""
    intent = Intent(MemoryStore())
    revision = 0
    if present:
        revision = (await intent.put_image(asks(), ImageWish("localhost/a:1", DIGEST, "m", 1))).revision
    wish = ImageWish("localhost/a:1", "sha256:" + "b" * 64, "m", 1, if_revision)
    if if_revision in (None, revision):
        await intent.put_image(asks(), wish)
    else:
        with pytest.raises(Conflict):
            await intent.put_image(asks(), wish)


async def test_image_put_keeps_when_the_name_was_made() -> None:
    """A name that is pointed elsewhere keeps its age and its labels."""
    intent = Intent(MemoryStore())
    made = await intent.put_image(asks(), ImageWish("localhost/a:1", DIGEST, "m", 1, labels={"a": "b"}))
    moved = await intent.put_image(asks(), ImageWish("localhost/a:1", "sha256:" + "b" * 64, "m", 1))
    assert (moved.created_at, moved.labels) == (made.created_at, {"a": "b"})
    assert moved.revision > made.revision


def test_request_id_answers_only_its_own_request() -> None:
    """What was answered is repeated for the same request only."""
    answered = Answered("image.put", "h", "{}")
    assert repeated(None, "image.put", "h") is None
    assert repeated(answered, "image.put", "h") == "{}"
    for kind, hashed in (("image.remove", "h"), ("image.put", "other")):
        with pytest.raises(Conflict):
            repeated(answered, kind, hashed)


@given(
    st.text(max_size=3),
    st.text(max_size=3),
    st.sampled_from(["name", "reference", "spec", "host"]),
    st.text(max_size=3),
)
def test_body_hash_tells_different_requests_apart(one: str, other: str, field: str, value: str) -> None:
    """Requests with another namespace or content have another hash, and equal ones the same."""
    values = {"id": "i", "name": "n", "reference": "r", "digest": None, "host": "h", "spec": "s"}
    first = ContainerWish(**values)  # type: ignore[arg-type]
    second = ContainerWish(**{**values, field: value})  # type: ignore[arg-type]
    same = (one, first) == (other, second)
    assert (body_hash(one, first) == body_hash(other, second)) == same


async def test_ids_in_messages_are_short() -> None:
    """People see the twelve digits that they can use."""
    intent = Intent(MemoryStore())
    wish = ContainerWish(new_id(), "web", "localhost/a:1", DIGEST, "h1", "{}")
    await intent.begin(asks(), wish)
    with pytest.raises(HytheError) as caught:
        await intent.begin(asks(), ContainerWish(new_id(), "web", "localhost/a:1", DIGEST, "h1", "{}"))
    assert wish.id[:12] in caught.value.cause
    assert wish.id not in caught.value.cause
