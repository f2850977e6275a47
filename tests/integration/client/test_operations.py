"""Operations over the command line's client: progress, silence, loss of the bus, many at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest
from nats.aio.msg import Msg

from hythe import subjects
from hythe.client import operation as operation_module
from hythe.client.operation import follow_all
from hythe.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from tests.fixtures.secured_bus import Responder, SecuredBus

PULL = subjects.rpc("default", "admin", "runtime", "image", "pull")


async def _serve(bus: SecuredBus, answer: Callable[[Msg, Responder], Awaitable[None]]) -> Responder:
    runtime = Responder(await bus.client("runtime"), answer)
    await runtime.listen(subjects.rpc_of_service("runtime"))
    return runtime


async def test_progress_comes_in_order_and_then_the_result(bus: SecuredBus) -> None:
    """Accepted and alive are not shown; each progress is, then the result ends it."""

    async def answer(message: Msg, service: Responder) -> None:
        await service.say(message.reply, "accepted", {})
        for number in range(3):
            await service.say(message.reply, "progress", {"n": number})
            await service.say(message.reply, "alive", {})
        await service.say(message.reply, "done", {"ok": True})

    runtime = await _serve(bus, answer)
    found = await asyncio.to_thread(lambda: list(bus.sync().operate(PULL, {"reference": "x"}, request_id="op")))
    assert found == [("progress", {"n": 0}), ("progress", {"n": 1}), ("progress", {"n": 2}), ("done", {"ok": True})]
    assert runtime.requests[0][2]["hythe-request-id"] == "op"
    await runtime.client.close()


async def test_operation_that_fails_raises_its_error_after_its_progress(bus: SecuredBus) -> None:
    """What was shown stays shown; the end is the service's own error."""

    async def answer(message: Msg, service: Responder) -> None:
        await service.say(message.reply, "accepted", {})
        await service.say(message.reply, "progress", {"n": 1})
        await service.refuse(message.reply, code="FailedPrecondition", message="no room")

    runtime = await _serve(bus, answer)
    seen: list[object] = []

    def follow() -> None:
        seen.extend(bus.sync().operate(PULL, {}))

    with pytest.raises(FailedPrecondition, match="no room"):
        await asyncio.to_thread(follow)
    assert seen == [("progress", {"n": 1})]
    await runtime.client.close()


def test_operation_without_service_is_not_started(bus: SecuredBus) -> None:
    """No responders ends it at once."""
    with pytest.raises(Unavailable, match="runtime is not running") as caught:
        list(bus.sync().operate(PULL, {}))
    assert caught.value.outcome == "not started"


async def test_operation_that_is_not_accepted_names_the_service_within_two_seconds(bus: SecuredBus) -> None:
    """A service that hangs is named; whether it will act is unknown."""

    async def nothing(message: Msg, service: Responder) -> None:
        pass

    runtime = await _serve(bus, nothing)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="runtime did not answer") as caught:
        await asyncio.to_thread(lambda: list(bus.sync().operate(PULL, {})))
    assert time.monotonic() - started < 2.0
    assert caught.value.outcome == "unknown"
    await runtime.client.close()


async def test_lost_result_is_fetched_by_asking_after_the_silence(
    bus: SecuredBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply that got lost costs time, not the result."""
    monkeypatch.setattr(operation_module, "SILENCE_S", 0.3)

    async def answer(message: Msg, service: Responder) -> None:
        if message.subject.endswith("operation.get"):
            running = len(service.requests) == 2
            state = {"id": "op", "state": "running" if running else "done", "result": '{"late":1}'}
            await service.say(message.reply, "done", state)
        else:
            await service.say(message.reply, "accepted", {})

    runtime = await _serve(bus, answer)
    found = await asyncio.to_thread(lambda: list(bus.sync().operate(PULL, {}, request_id="op")))
    assert found == [("done", {"late": 1})]
    assert [body for subject, body, _ in runtime.requests if subject.endswith("get")] == [{"id": "op"}] * 2
    await runtime.client.close()


async def test_service_that_dies_in_mid_operation_leaves_the_outcome_unknown(
    bus: SecuredBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown stays unknown, even when the question after it meets no responder."""
    monkeypatch.setattr(operation_module, "SILENCE_S", 0.3)

    async def answer(message: Msg, service: Responder) -> None:
        await service.say(message.reply, "accepted", {})
        await service.client.flush()
        await service.client.close()

    await _serve(bus, answer)
    with pytest.raises(Unavailable, match="runtime is not running") as caught:
        await asyncio.to_thread(lambda: list(bus.sync().operate(PULL, {})))
    assert caught.value.outcome == "unknown"


async def test_service_started_anew_in_mid_operation_is_named_and_the_outcome_is_unknown(
    bus: SecuredBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its successor knows nothing of the operation; nobody says that something is missing which the user named."""
    monkeypatch.setattr(operation_module, "SILENCE_S", 0.2)

    async def answer(message: Msg, service: Responder) -> None:
        if message.subject.endswith(".operation.get"):
            await service.refuse(message.reply, code="NotFound", message="find operation op: not known here")
        else:
            await service.say(message.reply, "accepted", {})

    runtime = await _serve(bus, answer)
    with pytest.raises(Unavailable, match="runtime was started anew") as caught:
        await asyncio.to_thread(lambda: list(bus.sync().operate(PULL, {})))
    assert caught.value.outcome == "unknown" and "try again" in caught.value.next_step
    await runtime.client.close()


async def test_bus_that_restarts_in_mid_operation_costs_nothing_but_time(bus: SecuredBus) -> None:
    """The command connects again and learns the result."""
    accepted = threading.Event()

    async def answer(message: Msg, service: Responder) -> None:
        if message.subject.endswith("operation.get"):
            await service.say(message.reply, "done", {"id": "op", "state": "done", "result": '{"ok":1}'})
        else:
            await service.say(message.reply, "accepted", {})
            await service.client.flush()
            accepted.set()

    runtime = await _serve(bus, answer)
    asked = asyncio.create_task(asyncio.to_thread(lambda: list(bus.sync().operate(PULL, {}, request_id="op"))))
    await asyncio.to_thread(accepted.wait, 5)
    await runtime.client.close()
    bus.server.kill()
    await asyncio.to_thread(bus.server.start)
    runtime = await _serve(bus, answer)
    try:
        found = await asked
    except Unavailable as error:
        assert error.outcome == "unknown"  # asked before the service was back
    else:
        assert found == [("done", {"ok": 1})]
    await runtime.client.close()


async def test_many_operations_are_followed_on_one_connection(bus: SecuredBus) -> None:
    """Each ends with its own result or error, together in the time of the slowest."""

    async def answer(message: Msg, service: Responder) -> None:
        number = service.requests[-1][1]["n"]
        await service.say(message.reply, "accepted", {})
        if number % 2:
            await service.refuse(message.reply, code="NotFound", message=f"no {number}")
        else:
            await service.say(message.reply, "done", {"n": number})

    runtime = await _serve(bus, answer)

    def follow() -> list[object]:
        client = bus.sync()
        operations = [client.begin(PULL, {"n": number}) for number in range(20)]
        follow_all(operations)
        return [operation.result or str(operation.error) for operation in operations]

    found = await asyncio.to_thread(follow)
    assert found == [f"no {n}" if n % 2 else {"n": n} for n in range(20)]
    await runtime.client.close()
