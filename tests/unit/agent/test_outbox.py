"""Events reach the stream once each and in order, whatever fails on the way."""

from __future__ import annotations

from collections.abc import Callable

from hythe_runtime.agent.model import Event
from hythe_runtime.agent.outbox import Outbox
from tests.fakes.agent_bus import FakeEventStore
from tests.fixtures.waiting import eventually_async


def event(container_id: str, number: int) -> Event:
    return Event(container_id, "default", number, 1, "/tasks/start", "started", "", "", "", {})


def events(container_id: str, first: int, last: int) -> tuple[Event, ...]:
    return tuple(event(container_id, number) for number in range(first, last + 1))


class Sending:
    """An outbox and what it confirmed."""

    def __init__(self, store: FakeEventStore, left_over: list[tuple[Event, ...]] | None = None) -> None:
        self.store = store
        self.confirmed: list[tuple[str, int]] = []
        self.outbox = Outbox(store, lambda i, n: self.confirmed.append((i, n)), left_over or [])

    def stored(self, container_id: str) -> list[int]:
        return [e.number for e in self.store.events.get(container_id, [])]

    async def until(self, wanted: Callable[[], object]) -> None:
        async def met() -> bool:
            return bool(wanted())

        await eventually_async(met, 10)


async def test_events_are_stored_in_order_and_confirmed() -> None:
    """Each container's events arrive by number; the journal hears of each."""
    sending = Sending(FakeEventStore())
    sending.outbox.start()
    sending.outbox.offer(events("a", 1, 2))
    sending.outbox.offer(events("b", 1, 1))
    sending.outbox.offer(events("a", 3, 4))
    await sending.until(lambda: sending.outbox.waiting == 0)
    assert sending.stored("a") == [1, 2, 3, 4]
    assert sending.stored("b") == [1]
    assert [n for i, n in sending.confirmed if i == "a"] == [1, 2, 3, 4]


async def test_events_wait_while_the_bus_is_away() -> None:
    """Nothing is lost or overtaken when storing fails."""
    store = FakeEventStore()
    store.fail_before = 3
    sending = Sending(store)
    sending.outbox.start()
    sending.outbox.offer(events("a", 1, 3))
    await sending.until(lambda: sending.outbox.waiting == 0)
    assert sending.stored("a") == [1, 2, 3]


async def test_lost_acknowledgement_makes_no_duplicate() -> None:
    """An event whose acknowledgement was lost is found in the stream and not stored again."""
    store = FakeEventStore()
    store.fail_after = 1
    sending = Sending(store)
    sending.outbox.start()
    sending.outbox.offer(events("a", 1, 3))
    await sending.until(lambda: sending.outbox.waiting == 0)
    assert sending.stored("a") == [1, 2, 3]


async def test_next_agent_sends_only_what_is_missing() -> None:
    """After a restart what the stream has is confirmed, and the rest is sent."""
    store = FakeEventStore()
    store.events["a"] = list(events("a", 1, 2))
    sending = Sending(store, [events("a", 1, 4), events("b", 3, 3)])
    sending.outbox.start()
    await sending.until(lambda: sending.outbox.waiting == 0)
    assert sending.stored("a") == [1, 2, 3, 4]
    assert sending.stored("b") == [3]
    assert ("a", 2) in sending.confirmed


async def test_reconnect_tries_again_at_once() -> None:
    """Events do not wait out a long pause when the bus is back."""
    store = FakeEventStore()
    store.fail_before = 1000
    sending = Sending(store)
    sending.outbox.start()
    sending.outbox.offer(events("a", 1, 1))
    await sending.until(lambda: store.fail_before < 1000)
    store.fail_before = 0
    sending.outbox.bus_is_back()
    await sending.until(lambda: sending.outbox.waiting == 0)


async def test_events_offered_before_the_start_are_sent_by_it() -> None:
    """What happens while the agent adopts containers is not lost."""
    sending = Sending(FakeEventStore())
    sending.outbox.offer(events("a", 1, 1))
    sending.outbox.start()
    await sending.until(lambda: sending.stored("a") == [1])
    await sending.outbox.stop()
