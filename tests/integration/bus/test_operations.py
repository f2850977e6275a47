"""Requests that take long: progress, signs of life, followers who come and go, silence, and what is known at the end."""

from __future__ import annotations

import asyncio
import itertools
import logging

import pytest

from hythe import deadline
from hythe.bus import operations
from hythe.bus.connection import Bus, Message, Subscription
from hythe.errors import (
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    HytheError,
    Internal,
    ResourceExhausted,
    Unavailable,
)
from hythe.identifiers import new_id
from hythe.wire.operation import OperationGet, OperationState
from tests.fakes.endpoints import Ask, Step, Told, Work, do, do_on_host
from tests.fixtures.peers import Peers, figure
from tests.fixtures.secured_bus import HOST
from tests.fixtures.waiting import eventually_async, until

WORK = do(verb="work")
WATCH = do(verb="watch")
GET = do().replace("thing.do", "operation.get")


async def follow(bus: Bus, subject: str, request: Ask, request_id: str | None = None) -> tuple[list[int], str]:
    """Follow an operation to its end; return the numbers of its progress and the text of its result."""
    async with bus.operate(subject, request, Step, Told, request_id=request_id) as operation:
        numbers = [step.number async for step in operation]
        return numbers, operation.result.text


class Ear:
    """A follower that only listens.

    Attributes:
        heard: (time on the loop's clock, state) of each message, oldest first.
    """

    def __init__(self, bus: Bus) -> None:
        self.heard: list[tuple[float, str]] = []
        self._bus = bus
        self._subscription: Subscription | None = None

    async def follow(self, subject: str, request: Ask, request_id: str) -> None:
        """Start or join an operation."""
        inbox = self._bus.new_inbox() + ".ear"
        self._subscription = await self._bus.subscribe(inbox, self._hear)
        await self._bus.flush()
        headers = {"hythe-request-id": request_id}
        await self._bus.publish(subject, request.model_dump_json().encode(), headers, reply=inbox)
        await until(lambda: self.heard, what="an answer")

    def _hear(self, message: Message) -> None:
        self.heard.append((asyncio.get_running_loop().time(), message.headers["hythe-state"]))

    async def two_signs_of_life(self) -> None:
        """Wait until the service has twice told all its followers that it lives, and so knows which of them left."""
        wanted = len(self.heard) + 2
        await until(lambda: len(self.heard) >= wanted, what="two signs of life")

    async def leave(self) -> None:
        """Stop listening."""
        assert self._subscription is not None
        await self._subscription.unsubscribe()


async def test_operation_brings_its_progress_in_order_and_its_result(peers: Peers) -> None:
    """Each progress message arrives, in order, and the result after them."""
    process = await peers.service("metadata", Work().register)
    caller = await peers.bus("runtime")
    assert await follow(caller, WORK, Ask(text="done")) == ([0, 1, 2], "done")
    await until(
        lambda: figure(process.metrics, "hythe_bus_request_seconds_count", kind="metadata.thing.work", code="ok") == 1,
        what="it is counted",
    )


async def test_operation_is_accepted_at_once_and_alive_each_second(peers: Peers) -> None:
    """Whoever waits hears at once that the work was taken, and then at least every second that it goes on."""
    work = Work()
    work.gate.clear()
    await peers.service("bundle", work.on_host)
    caller = await peers.bus("agent")
    loop = asyncio.get_running_loop()
    ear = Ear(caller)
    started = loop.time()
    await ear.follow(do_on_host(HOST, verb="work"), Ask(), "id")
    assert ear.heard[0][0] - started < 0.5
    await until(lambda: [state for _, state in ear.heard].count("alive") >= 2, what="two signs of life")
    work.gate.set()
    await until(lambda: ear.heard[-1][1] == "done", what="the result")
    states = [state for _, state in ear.heard]
    assert states[:4] == ["accepted", "progress", "progress", "progress"]
    assert set(states[4:-1]) == {"alive"}
    times = [moment for moment, _ in ear.heard]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 1.5


async def test_operation_longer_than_the_timeout_of_a_call_goes_on(peers: Peers) -> None:
    """Signs of life keep an operation from being taken for dead, however long it is silent otherwise."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    following = asyncio.create_task(follow(caller, WORK, Ask(text="long")))
    asyncio.get_running_loop().call_later(2.3, work.gate.set)
    assert await following == ([0, 1, 2], "long")


async def test_second_follower_joins_the_work_in_progress(peers: Peers) -> None:
    """The same request again, while it is worked on or after its end, gives the same result and is done once."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    first, second = await peers.bus("runtime"), await peers.bus("runtime")
    request_id = new_id()
    one = asyncio.create_task(follow(first, WORK, Ask(text="shared"), request_id))
    await until(lambda: work.asked, what="it is begun")
    two = asyncio.create_task(follow(second, WORK, Ask(text="shared"), request_id))
    await asyncio.sleep(0)
    work.gate.set()
    assert (await one)[1] == (await two)[1] == "shared"
    assert await follow(second, WORK, Ask(text="shared"), request_id) == ([], "shared")
    assert work.asked == ["shared"]


async def test_operation_id_with_another_body_is_a_conflict(peers: Peers) -> None:
    """An id stands for one work: another body, or another verb, under it is refused while it runs and afterwards."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    one = asyncio.create_task(follow(caller, WORK, Ask(text="one"), "id"))
    await until(lambda: work.asked, what="it is begun")
    with pytest.raises(Conflict, match="another body"):
        await follow(caller, WORK, Ask(text="two"), "id")
    with pytest.raises(Conflict, match="another body"):
        await follow(caller, WATCH, Ask(text="one"), "id")
    work.gate.set()
    await one
    with pytest.raises(Conflict, match="another body"):
        await follow(caller, WORK, Ask(text="two"), "id")


async def test_failed_operation_raises_its_error_and_may_be_tried_again(peers: Peers) -> None:
    """The error arrives after the progress; a second try is a new one; `operation.get` tells of the failure."""
    work = Work()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    for _ in range(2):
        seen: list[int] = []
        with pytest.raises(FailedPrecondition, match="not now"):
            async with caller.operate(WORK, Ask(text="x", fail="known"), Step, Told, request_id="id") as operation:
                async for step in operation:
                    seen.append(step.number)
        assert seen == [0, 1, 2]
    assert work.asked == ["x", "x"]
    state = await caller.call(GET, OperationGet(id="id"), OperationState)
    assert state.state == "done"
    assert "not now" in state.problem


async def test_fault_in_an_operation_becomes_internal_without_traceback(
    peers: Peers, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets the cause in a word and an unknown outcome; the traceback is in the log."""
    await peers.service("metadata", Work().register)
    caller = await peers.bus("runtime")
    with pytest.raises(Internal, match="a fault of hythe-metadata") as fault:
        await follow(caller, WORK, Ask(fail="unknown"))
    assert (fault.value.cause, fault.value.outcome) == ("RuntimeError: a secret of the code", "unknown")
    assert any(record.exc_info for record in caplog.records)


async def test_operation_without_service_is_not_started(peers: Peers) -> None:
    """No responders ends it at once."""
    with pytest.raises(Unavailable, match="metadata is not running") as missing:
        await follow(await peers.bus("runtime"), WORK, Ask())
    assert missing.value.outcome == "not started"


async def test_operation_that_is_not_accepted_fails_after_the_timeout_of_a_call(peers: Peers) -> None:
    """A service that hangs is named within 2 s; what it will do is not known."""
    hanging = await peers.bus("metadata")
    await hanging.subscribe("hythe.v1.rpc.*.*.metadata.>", lambda message: None)
    await hanging.flush()
    started = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded, match="metadata did not answer") as silent:
        await follow(await peers.bus("runtime"), WORK, Ask())
    assert asyncio.get_running_loop().time() - started < 2.0
    assert silent.value.outcome == "unknown"


async def test_lost_result_is_asked_for_after_the_silence(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the last message is lost, the result is found by the operation's id, though nothing more is heard."""
    monkeypatch.setattr(deadline, "SILENCE_S", 0.3)
    service = await peers.bus("metadata")
    asked: list[str] = []

    def answer(message: Message) -> None:
        if message.subject == WORK:
            reply, state, body = message.reply, "accepted", b"{}"
        else:
            asked.append(OperationGet.model_validate_json(message.data).id)
            running = OperationState(id="id", state="running" if len(asked) == 1 else "done", result='{"text":"late"}')
            reply, state, body = message.reply, "done", running.model_dump_json().encode()
        answers.append(asyncio.ensure_future(service.publish(reply, body, {"hythe-state": state})))

    answers: list[asyncio.Future[None]] = []
    await service.subscribe("hythe.v1.rpc.*.*.metadata.>", answer)
    await service.flush()
    assert await follow(await peers.bus("runtime"), WORK, Ask(), "id") == ([], "late")
    assert asked == ["id", "id"]


async def test_service_that_dies_in_mid_operation_leaves_the_outcome_unknown(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown stays unknown, though the question afterwards meets no responder."""
    monkeypatch.setattr(deadline, "SILENCE_S", 0.3)
    service = await peers.bus("metadata")
    accepted = asyncio.Event()

    def answer(message: Message) -> None:
        answers.append(asyncio.ensure_future(service.publish(message.reply, b"{}", {"hythe-state": "accepted"})))
        accepted.set()

    answers: list[asyncio.Future[None]] = []
    await service.subscribe("hythe.v1.rpc.*.*.metadata.>", answer)
    await service.flush()
    following = asyncio.create_task(follow(await peers.bus("runtime"), WORK, Ask()))
    await accepted.wait()
    await asyncio.gather(*answers)
    await service.close()
    with pytest.raises(Unavailable, match="metadata is not running") as dead:
        await following
    assert dead.value.outcome == "unknown"


async def test_service_started_anew_in_mid_operation_leaves_the_outcome_unknown(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new process that knows nothing of the work is no proof that nothing was done."""
    monkeypatch.setattr(deadline, "SILENCE_S", 0.3)
    old = await peers.bus("metadata")

    def answer(message: Message) -> None:
        answers.append(asyncio.ensure_future(old.publish(message.reply, b"{}", {"hythe-state": "accepted"})))

    answers: list[asyncio.Future[None]] = []
    subscription = await old.subscribe("hythe.v1.rpc.*.*.metadata.>", answer)
    await old.flush()
    following = asyncio.create_task(follow(await peers.bus("runtime"), WORK, Ask()))
    await until(lambda: answers, what="it is accepted")
    await asyncio.gather(*answers)
    await subscription.unsubscribe()
    await peers.service("metadata", Work().register)
    with pytest.raises(Unavailable, match="started anew and does not know the outcome") as unknown:
        await following
    assert unknown.value.outcome == "unknown"


async def test_abandoned_operation_is_cancelled_where_nobody_else_wants_it(peers: Peers) -> None:
    """Work that is only done for whoever watches ends when nobody does any more."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    caller, ear = await peers.bus("runtime"), Ear(await peers.bus("runtime"))
    one = asyncio.create_task(follow(caller, WATCH, Ask(text="watched"), "id"))
    await until(lambda: work.asked, what="it is begun")
    await ear.follow(WATCH, Ask(text="watched"), "id")
    one.cancel()
    await asyncio.wait([one])
    await ear.two_signs_of_life()
    assert work.cancelled == []
    await ear.leave()
    await until(lambda: work.cancelled == ["watched"], what="the work is cancelled")


async def test_abandoned_operation_goes_on_where_it_must(peers: Peers) -> None:
    """Work that changes something is finished though nobody waits for it; its result can be asked for."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    following = asyncio.create_task(follow(caller, WORK, Ask(text="kept"), "id"))
    await until(lambda: work.asked, what="it is begun")
    following.cancel()
    await asyncio.wait([following])
    ear = Ear(caller)
    await ear.follow(WORK, Ask(text="another work"), "other")
    await ear.two_signs_of_life()
    assert (await caller.call(GET, OperationGet(id="id"), OperationState)).state == "running"
    work.gate.set()

    async def result() -> str:
        return (await caller.call(GET, OperationGet(id="id"), OperationState)).result

    assert Told.model_validate_json(await eventually_async(result, what="the result")).text == "kept"
    assert work.cancelled == []


async def test_follower_whose_connection_ended_counts_as_gone(peers: Peers) -> None:
    """A killed command abandons its operation as surely as one that says so."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    following = asyncio.create_task(follow(caller, WATCH, Ask(text="left")))
    await until(lambda: work.asked, what="it is begun")
    await caller.close()
    await until(lambda: work.cancelled == ["left"], what="the work is cancelled")
    following.cancel()


async def test_progress_too_large_for_a_message_is_left_out_and_the_result_still_comes(
    peers: Peers, caplog: pytest.LogCaptureFixture
) -> None:
    """One progress message that cannot be sent neither stops the others nor the operation."""
    await peers.service("metadata", Work().register)
    with caplog.at_level(logging.ERROR):
        caller = await peers.bus("runtime")
        assert await follow(caller, WORK, Ask(text="ok", fail="large progress")) == ([0, 1, 2], "ok")
    assert any("progress" in record.message for record in caplog.records)


async def test_result_too_large_for_a_message_says_that_the_work_is_done(peers: Peers) -> None:
    """The caller is told the size and that it was done, at once, not after a silence."""
    await peers.service("metadata", Work().register)
    with pytest.raises(ResourceExhausted, match="more than the limit") as large:
        await follow(await peers.bus("runtime"), WORK, Ask(size_bytes=5 << 20))
    assert large.value.outcome == "done"


@pytest.mark.parametrize("subject", [WORK, WATCH])
async def test_bus_that_restarts_in_mid_operation_costs_nothing_but_time(peers: Peers, subject: str) -> None:
    """kill -9 of nats-server ends no work, nor what ends when nobody follows; whoever follows it gets its result."""
    work = Work()
    work.gate.clear()
    process = await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    following = asyncio.create_task(follow(caller, subject, Ask(text="survived")))
    await until(lambda: work.asked, what="it is begun")
    peers.secured.server.kill()
    await until(lambda: not (caller.connected or process.bus.connected), what="the connections are lost")
    await asyncio.to_thread(peers.secured.server.start)
    await until(lambda: process.bus.connected, what="the service is back")
    ear = Ear(await peers.bus("admin"))
    await ear.follow(do("admin", verb="work"), Ask(text="clock"), "clock")
    await ear.two_signs_of_life()
    work.gate.set()
    assert (await following)[1] == "survived"
    assert work.asked == ["survived", "clock"]
    assert work.cancelled == []


async def test_bus_that_stays_away_ends_the_following_with_unknown_outcome(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever for a server that does not come back."""
    monkeypatch.setattr(deadline, "SILENCE_S", 0.5)
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    following = asyncio.create_task(follow(await peers.bus("runtime"), WORK, Ask(text="begun")))
    await until(lambda: work.asked, what="it is begun")
    peers.secured.server.kill()
    with pytest.raises(Unavailable, match="connection broke") as lost:
        await asyncio.wait_for(following, 3)
    assert lost.value.outcome == "unknown"
    work.gate.set()


async def test_more_operations_than_the_bound_are_refused(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those in progress count: done ones take no place."""
    monkeypatch.setattr(operations, "MAX_OPERATIONS", 3)
    work = Work()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    for number in range(5):
        await follow(caller, WORK, Ask(text=str(number)))
    work.gate.clear()
    running = [asyncio.create_task(follow(caller, WORK, Ask(text="running"))) for _ in range(3)]
    await until(lambda: work.asked.count("running") == 3, what="three are in progress")
    with pytest.raises(ResourceExhausted, match="3 operations are in progress") as refused:
        await follow(caller, WORK, Ask(text="one more"))
    assert refused.value.outcome == "not started"
    work.gate.set()
    await asyncio.gather(*running)


async def test_stopping_service_tells_followers_that_the_outcome_is_unknown(peers: Peers) -> None:
    """Who follows work that a stopping process gives up hears so at once."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    following = asyncio.create_task(follow(await peers.bus("runtime"), WORK, Ask(text="cut")))
    await until(lambda: work.asked, what="it is begun")
    await peers.stop_services()
    with pytest.raises(HytheError, match="stopped the work") as stopped:
        await following
    assert (stopped.value.code, stopped.value.outcome) == ("Unavailable", "unknown")
    assert work.cancelled == ["cut"]


async def test_unknown_operation_is_not_found(peers: Peers) -> None:
    """Asking for an id that the process never saw, or another namespace's, tells nothing about anybody's work."""
    work = Work()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    await follow(caller, WORK, Ask(text="mine"), "id")
    for subject, request_id in ((GET, "other"), (GET.replace(".default.", ".another."), "id")):
        with pytest.raises(HytheError, match="not known here") as unknown:
            await caller.call(subject, OperationGet(id=request_id), OperationState)
        assert (unknown.value.code, unknown.value.outcome) == ("NotFound", "unknown")
