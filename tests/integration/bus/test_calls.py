"""Requests and their answers: at the same time, in bounds, at most once, and honest about what is known."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from hythe import clock, deadline, subjects
from hythe.asking import Asker
from hythe.bus.connection import Bus, Message
from hythe.bus.endpoint import Context
from hythe.bus.service import MAX_REQUESTS, Service
from hythe.errors import (
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    HytheError,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from hythe.identifiers import new_id
from hythe.wire.base import Reply
from hythe.wire.operation import OperationGet, OperationState
from hythe.wire.problem import Problem
from tests.fakes.endpoints import Ask, Told, Work, do, do_on_host
from tests.fixtures.peers import Peers, figure
from tests.fixtures.secured_bus import HOST
from tests.fixtures.waiting import eventually_async, until


async def raw(bus: Bus, subject: str, data: bytes = b"{}", headers: dict[str, str] | None = None) -> Message:
    """Ask with exactly these headers and return the first message that comes back."""
    return await bus.calls.request(subject, data, headers or {}, 5.0)


async def test_slow_requests_run_at_the_same_time(peers: Peers) -> None:
    """Four requests that each wait are in progress together: none waits for another."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    asked = [asyncio.create_task(caller.call(do(), Ask(text=str(n)), Told)) for n in range(4)]
    await until(lambda: work.most_at_once == 4, what="four at once")
    work.gate.set()
    assert [answer.text for answer in await asyncio.gather(*asked)] == ["0", "1", "2", "3"]


async def test_more_requests_than_the_bound_are_refused_and_the_others_answered(peers: Peers) -> None:
    """A service that is full says so at once, and none of the requests it had taken is lost."""
    work = Work()
    work.gate.clear()
    process = await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    asked = [asyncio.create_task(caller.call(do(), Ask(text=str(n)), Told, timeout_s=20)) for n in range(MAX_REQUESTS)]
    await until(lambda: len(work.asked) == MAX_REQUESTS, what="the service is full")
    with pytest.raises(ResourceExhausted, match="256 requests are in progress") as refused:
        await caller.call(do(), Ask(text="one more"), Told)
    assert refused.value.outcome == "not started"
    assert figure(process.metrics, "hythe_bus_refused_total", reason="too-many") == 1
    work.gate.set()
    assert {answer.text for answer in await asyncio.gather(*asked)} == {str(n) for n in range(MAX_REQUESTS)}
    assert "one more" not in work.asked
    assert (await caller.call(do(), Ask(text="afterwards"), Told)).text == "afterwards"


async def test_reply_subject_that_is_a_command_is_dropped_counted_and_logged(
    peers: Peers, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever asks runtime cannot have its answer arrive at an agent as a command, though runtime may command agents."""
    work = Work()
    process = await peers.service("runtime", work.register)
    admin, agent = await peers.bus("admin"), await peers.bus("agent")
    arrived: list[Message] = []
    await agent.subscribe(subjects.host_rpc_of_service(HOST, "agent"), arrived.append)
    await agent.flush()
    command = subjects.host_rpc("default", HOST, "agent", "container", "kill")
    hostile = peers.secured.sync("admin")
    with caplog.at_level(logging.ERROR):
        for reply in (command, "", "hythe.v1.event.default._.container.x.start"):
            hostile.publish(do("admin", "runtime"), b"{}", {}, reply)
        hostile.close()
        await until(
            lambda: figure(process.metrics, "hythe_bus_refused_total", reason="reply-not-inbox") == 3,
            what="the requests are counted",
        )
    answer = await admin.call(do("admin", "runtime"), Ask(text="in good order"), Told)
    assert answer.text == "in good order"
    assert work.asked == ["in good order"]
    assert arrived == []
    assert any("no inbox" in record.message for record in caplog.records)


async def test_reply_to_the_inbox_of_another_key_is_dropped(peers: Peers) -> None:
    """A caller cannot have an answer delivered to what another key waits for."""
    work = Work()
    process = await peers.service("metadata", work.register)
    runtime, admin = await peers.bus("runtime"), await peers.bus("admin")
    await admin.publish(do("admin"), b'{"text":"forged"}', {}, reply=runtime.new_inbox())
    await until(
        lambda: figure(process.metrics, "hythe_bus_refused_total", reason="reply-not-inbox") == 1,
        what="it is counted",
    )
    assert work.asked == []
    assert (await admin.call(do("admin"), Ask(text="own"), Told)).text == "own"


async def test_request_while_disconnected_fails_at_once_and_never_runs(peers: Peers) -> None:
    """What its caller was told is not sent is not sent, not even after the connection is back."""
    work = Work()
    service, caller = await peers.service("metadata", work.register), await peers.bus("runtime")
    peers.secured.server.kill()
    await until(lambda: not caller.connected, what="the connection is lost")
    started = time.monotonic()
    with pytest.raises(Unavailable, match="not connected") as refused:
        await caller.call(do(), Ask(text="lost"), Told)
    assert time.monotonic() - started < 0.5
    assert refused.value.outcome == "not started"
    with pytest.raises(Unavailable):
        await caller.publish("hythe.v1.span._.x", b"")
    await asyncio.to_thread(peers.secured.server.start)
    await until(lambda: caller.connected and service.bus.connected, what="both are back")

    async def answered() -> bool:
        try:
            return (await caller.call(do(), Ask(text="later"), Told)).text == "later"
        except Unavailable:
            return False

    await eventually_async(answered, what="the service answers again")
    assert "lost" not in work.asked


async def test_connection_that_breaks_in_mid_flight_leaves_the_outcome_unknown(peers: Peers) -> None:
    """The caller hears of it at once, and nobody pretends to know whether the request took effect."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    asked = asyncio.create_task(caller.call(do(), Ask(text="begun"), Told, timeout_s=30))
    await until(lambda: work.asked, what="the request is begun")
    started = time.monotonic()
    peers.secured.server.kill()
    with pytest.raises(Unavailable, match="connection broke") as broken:
        await asked
    assert time.monotonic() - started < 1.0
    assert broken.value.outcome == "unknown"
    work.gate.set()


async def test_request_without_service_names_it_at_once(peers: Peers) -> None:
    """No responders: not executed, and the user learns which process is missing, on which host."""
    caller = await peers.bus("agent")
    started = time.monotonic()
    with pytest.raises(Unavailable, match="bundle is not running") as missing:
        await caller.call(do_on_host(HOST), Ask(), Told)
    assert time.monotonic() - started < 0.5
    assert (missing.value.service, missing.value.host, missing.value.outcome) == ("bundle", HOST, "not started")
    assert "hythe up" in missing.value.next_step


async def test_silent_service_is_named_after_the_timeout_with_unknown_outcome(peers: Peers) -> None:
    """A service that hangs costs 1.5 s, and what it did is not known."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="metadata did not answer within") as silent:
        await caller.call(do(), Ask(), Told)
    assert 1.4 < time.monotonic() - started < 1.9
    assert (silent.value.service, silent.value.outcome) == ("metadata", "unknown")
    assert figure(caller.metrics, "hythe_bus_call_seconds_count", kind="metadata.thing.do", code="DeadlineExceeded")
    work.gate.set()


async def test_forbidden_subject_fails_the_request_at_once(peers: Peers) -> None:
    """What the key may not publish is refused by the server, and the caller need not wait for the timeout."""
    await peers.service("metadata", Work().register)
    caller = await peers.bus("runtime")
    started = time.monotonic()
    with pytest.raises(PermissionDenied, match="runtime") as refused:
        await caller.call(do(caller="admin"), Ask(), Told, timeout_s=10)
    assert time.monotonic() - started < 0.5
    assert refused.value.outcome == "not started"


@pytest.mark.parametrize(
    "moment",
    [
        lambda: str(int(time.time() * 1000) - 1),
        lambda: f"{clock.boot_id()}/{clock.boottime_ms() - 1}",
        lambda: f"00000000-0000-0000-0000-000000000000/{clock.boottime_ms() + 60_000}",
        lambda: f"/{clock.boottime_ms() + 60_000}",
    ],
)
async def test_request_that_comes_too_late_is_not_begun(peers: Peers, moment: object) -> None:
    """A request whose latest begin has passed, or was counted in another boot, is refused: nothing is executed."""
    work = Work()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    assert callable(moment)
    with pytest.raises(DeadlineExceeded, match="had to begin") as late:
        await caller.call(do(), Ask(), Told, begin_before=moment())
    assert late.value.outcome == "not started"
    assert work.asked == []


async def test_request_in_time_is_begun_by_either_clock(peers: Peers) -> None:
    """Wall clock and boot clock both count; without the header there is no limit."""
    await peers.service("metadata", Work().register)
    caller = await peers.bus("runtime")
    soon = int(time.time() * 1000) + 5000
    for moment in (str(soon), f"{clock.boot_id()}/{clock.boottime_ms() + 5000}"):
        assert (await caller.call(do(), Ask(text="in time"), Told, begin_before=moment)).text == "in time"
    assert b"in time" in (await raw(caller, do(), b'{"text":"in time"}')).data


@pytest.mark.parametrize(
    "headers",
    [
        {"hythe-begin-before": "tomorrow"},
        {"hythe-begin-before": "²"},
        {"hythe-begin-before": "9" * 5000},
        {"hythe-begin-before": "boot/"},
        {"hythe-timeout-ms": "²"},
        {"hythe-timeout-ms": "9" * 5000},
        {"hythe-timeout-ms": "-1"},
        {"hythe-request-id": "x" * 129},
        {"hythe-request-id": "a b"},
        {"hythe-request-id": "é"},
    ],
)
async def test_header_that_cannot_be_read_is_answered_as_invalid(peers: Peers, headers: dict[str, str]) -> None:
    """Whatever a caller puts into the headers, it gets an answer, and nothing is executed."""
    work = Work()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    message = await raw(caller, do(), headers=headers)
    assert Problem.model_validate_json(message.data).code == "InvalidArgument"
    assert work.asked == []


async def test_repeated_request_is_executed_once(peers: Peers) -> None:
    """The same id with the same body is one request, however often and however close together it comes."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    request_id = new_id()
    together = [asyncio.create_task(caller.call(do(), Ask(text="once"), Told, request_id=request_id)) for _ in range(5)]
    await until(lambda: work.asked, what="it is begun")
    work.gate.set()
    assert {answer.text for answer in await asyncio.gather(*together)} == {"once"}
    assert (await caller.call(do(), Ask(text="once"), Told, request_id=request_id)).text == "once"
    assert work.asked == ["once"]


async def test_request_id_with_another_body_is_a_conflict(peers: Peers) -> None:
    """An id stands for one request: another body under it is refused, before and after the first has ended."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    first = asyncio.create_task(caller.call(do(), Ask(text="one"), Told, request_id="id"))
    await until(lambda: work.asked, what="it is begun")
    with pytest.raises(Conflict, match="another body"):
        await caller.call(do(), Ask(text="two"), Told, request_id="id")
    work.gate.set()
    await first
    with pytest.raises(Conflict, match="another body"):
        await caller.call(do(), Ask(text="two"), Told, request_id="id")
    assert work.asked == ["one"]


async def test_callers_do_not_share_request_ids(peers: Peers) -> None:
    """Another caller's request of the same id is another request: nobody gets what was meant for somebody else."""
    work = Work()
    await peers.service("metadata", work.register)
    runtime, admin = await peers.bus("runtime"), await peers.bus("admin")
    assert (await runtime.call(do(), Ask(text="mine"), Told, request_id="id")).text == "mine"
    yours = await admin.call(do("admin"), Ask(text="yours"), Told, request_id="id")
    assert yours.text == "yours"


async def test_failure_is_not_remembered(peers: Peers) -> None:
    """After a failure the same request may be tried again and is executed again."""
    work = Work()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match="not now"):
            await caller.call(do(), Ask(text="again", fail="known"), Told, request_id="id")
    assert work.asked == ["again", "again"]


async def test_error_of_a_handler_arrives_whole(peers: Peers) -> None:
    """Code, message, cause and host travel; headers say the same to tools that only know NATS micro."""
    await peers.service("metadata", Work().register)
    caller = await peers.bus("runtime")
    with pytest.raises(FailedPrecondition, match="do it: not now") as failed:
        await caller.call(do(), Ask(fail="known"), Told)
    assert (failed.value.cause, failed.value.host, failed.value.outcome) == ("the reason", HOST, "not started")
    message = await raw(caller, do(), b'{"fail":"known"}')
    assert message.headers["nats-service-error"] == "do it: not now"
    assert message.headers["nats-service-error-code"] == "412"
    assert message.headers["hythe-state"] == "done"


async def test_fault_of_a_handler_becomes_internal_without_traceback(
    peers: Peers, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller learns what happened in a word and that the outcome is unknown; the traceback stays in the log."""
    work = Work()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    with pytest.raises(Internal, match="a fault of hythe-metadata") as fault:
        await caller.call(do(), Ask(fail="unknown"), Told)
    assert fault.value.cause == "RuntimeError: a secret of the code"
    assert fault.value.outcome == "unknown"
    assert any(record.exc_info for record in caplog.records)
    message = await raw(caller, do(), b'{"fail":"unknown"}')
    assert b"Traceback" not in message.data
    assert b".py" not in message.data


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"text":"a","colour":"red"}', "colour"),
        (b'{"text":7}', "text"),
        (b"[]", "body"),
        (b"", "body"),
        (b"\xff\xfe", "body"),
        (b"[" * 100_000, "body"),
    ],
)
async def test_body_that_is_not_the_request_is_refused_and_named(peers: Peers, body: bytes, named: str) -> None:
    """Unknown and wrong fields are refused by name, and what is no JSON at all is refused too."""
    work = Work()
    await peers.service("metadata", work.register)
    problem = Problem.model_validate_json((await raw(await peers.bus("runtime"), do(), body)).data)
    assert problem.code == "InvalidArgument"
    assert f": {named}: " in problem.message
    assert work.asked == []


async def test_unknown_verb_is_unimplemented(peers: Peers) -> None:
    """A service says which of its requests it does not have, so an old and a new process understand each other."""
    await peers.service("metadata", Work().register)
    with pytest.raises(Unimplemented, match=r"metadata has no thing\.undo"):
        await (await peers.bus("runtime")).call(do(verb="undo"), Ask(), Told)


async def test_unknown_fields_of_an_answer_are_ignored(peers: Peers) -> None:
    """An older caller understands a newer service."""

    class Newer(Reply):
        text: str
        colour: str

    async def answer(context: Context, request: Ask) -> Newer:
        return Newer(text="x", colour="red")

    await peers.service("metadata", lambda service: service.unary("thing", "do", Ask, answer, scope="any"))
    assert (await (await peers.bus("runtime")).call(do(), Ask(), Told)).text == "x"


async def test_handler_sees_who_asks(peers: Peers) -> None:
    """Namespace, caller and request id come from the subject and headers, never from the body."""
    seen: list[Context] = []

    async def answer(context: Context, request: Ask) -> Told:
        seen.append(context)
        return Told()

    def register(service: Service) -> None:
        service.unary("thing", "do", Ask, answer, scope="any")

    await peers.service("metadata", register)
    caller = await peers.bus("runtime")
    subject = subjects.rpc("team.a", "runtime", "metadata", "thing", "do")
    await caller.call(subject, Ask(), Told, request_id="r-1")
    assert seen == [Context("team.a", "runtime", "r-1", subject, Asker("runtime", "r-1"))]


async def test_nested_calls_have_less_time_than_their_caller(peers: Peers) -> None:
    """Each call inside a handler gives up before the caller of the handler does."""

    async def inner(context: Context, request: Ask) -> Told:
        limit = deadline.current.get()
        assert limit is not None
        return Told(remaining_s=limit.remaining_s())

    await peers.service("metadata", lambda service: service.unary("thing", "do", Ask, inner, scope="any"))

    async def outer(context: Context, request: Ask) -> Told:
        return await process.bus.call(do("runtime"), Ask(), Told)

    process = await peers.service("runtime", lambda service: service.unary("thing", "do", Ask, outer, scope="any"))
    admin = await peers.bus("admin")
    inner_s = (await admin.call(do("admin", "runtime"), Ask(), Told, timeout_s=1.0)).remaining_s
    assert inner_s is not None
    assert inner_s < 1.0 - deadline.NESTED_MARGIN_S + 0.01


async def test_nested_call_that_hangs_is_named_before_the_outer_caller_gives_up(peers: Peers) -> None:
    """The user learns which inner service hangs, not only that the outer one was slow."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)

    async def outer(context: Context, request: Ask) -> Told:
        return await process.bus.call(do("runtime"), Ask(), Told)

    process = await peers.service("runtime", lambda service: service.unary("thing", "do", Ask, outer, scope="any"))
    admin = await peers.bus("admin")
    with pytest.raises(DeadlineExceeded, match="metadata did not answer") as silent:
        await admin.call(do("admin", "runtime"), Ask(), Told)
    assert silent.value.service == "metadata"
    work.gate.set()


async def test_messages_up_to_four_mebibytes_pass_and_larger_ones_are_refused(peers: Peers) -> None:
    """The limit is the same on both ways, and an error names the size; the connection survives."""
    work = Work()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    nearly = (4 << 20) - 100
    assert len((await caller.call(do(), Ask(text="y" * nearly), Told, timeout_s=10)).text) == nearly
    with pytest.raises(InvalidArgument, match="4194305 bytes are more than the limit"):
        await caller.publish(do(), b"x" * ((4 << 20) + 1))
    with pytest.raises(InvalidArgument, match="more than the limit"):
        await caller.call(do(), Ask(text="y" * (4 << 20)), Told)
    with pytest.raises(ResourceExhausted, match="more than the limit") as large:
        await caller.call(do(), Ask(size_bytes=5 << 20), Told, timeout_s=10)
    assert large.value.outcome == "done"
    assert (await caller.call(do(), Ask(text="small"), Told)).text == "small"


async def test_subject_that_is_none_is_refused(peers: Peers) -> None:
    """A subject with blanks or line ends never reaches the server."""
    caller = await peers.bus("runtime")
    for subject in ("", "a b", "a\r\nPUB x 0\r\n"):
        with pytest.raises(InvalidArgument):
            await caller.publish(subject, b"")


async def test_stopping_service_answers_what_it_was_sent_before(peers: Peers) -> None:
    """A service that stops in good order loses no request that had reached its process."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    asked = [asyncio.create_task(caller.call(do(), Ask(text=str(n)), Told, timeout_s=10)) for n in range(50)]
    await until(lambda: work.asked, what="the first is begun")
    stopping = asyncio.create_task(peers.stop_services())
    asyncio.get_running_loop().call_later(0.2, work.gate.set)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    await stopping
    done = [answer for answer in answers if isinstance(answer, Told)]
    refused = [answer for answer in answers if isinstance(answer, HytheError)]
    assert len(done) == len(work.asked)
    assert all(isinstance(error, Unavailable) and error.outcome == "not started" for error in refused)


async def test_request_that_outlives_the_stop_is_told_so(peers: Peers) -> None:
    """Whoever waits for a service that stops hears that the outcome is unknown, rather than nothing."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    asked = asyncio.create_task(caller.call(do(), Ask(text="long"), Told, timeout_s=20))
    await until(lambda: work.asked, what="it is begun")
    await peers.stop_services()
    with pytest.raises(Unavailable, match="metadata is stopping") as stopped:
        await asked
    assert stopped.value.outcome == "unknown"
    assert work.cancelled == ["long"]


async def test_cancelled_call_is_counted_as_such(peers: Peers) -> None:
    """A call that its caller gave up is no success in the figures."""
    work = Work()
    work.gate.clear()
    await peers.service("metadata", work.register)
    caller = await peers.bus("runtime")
    asked = asyncio.create_task(caller.call(do(), Ask(), Told))
    await until(lambda: work.asked, what="it is begun")
    asked.cancel()
    await asyncio.wait([asked])
    assert figure(caller.metrics, "hythe_bus_call_seconds_count", kind="metadata.thing.do", code="Cancelled") == 1
    assert figure(caller.metrics, "hythe_bus_call_seconds_count", kind="metadata.thing.do", code="ok") == 0
    work.gate.set()


async def test_answers_are_counted_by_kind_and_code(peers: Peers) -> None:
    """``/metrics`` tells requests by service.noun.verb and result."""
    process = await peers.service("metadata", Work().register)
    caller = await peers.bus("runtime")
    await caller.call(do(), Ask(), Told)
    with pytest.raises(FailedPrecondition):
        await caller.call(do(), Ask(fail="known"), Told)
    with pytest.raises(NotFound):
        await caller.call(do().replace("thing.do", "operation.get"), OperationGet(id="none"), OperationState)
    for kind, code in (
        ("metadata.thing.do", "ok"),
        ("metadata.thing.do", "FailedPrecondition"),
        ("metadata.operation.get", "NotFound"),
    ):
        assert figure(process.metrics, "hythe_bus_request_seconds_count", kind=kind, code=code) == 1
    assert figure(process.metrics, "hythe_bus_requests_in_flight") == 0
