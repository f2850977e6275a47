"""NATS micro's discovery: what tools such as `nats micro ls` ask is answered in their own terms."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields
from typing import Any

import pytest
from nats.micro.service import EndpointInfo, EndpointStats, ServiceInfo, ServicePing, ServiceStats

from hythe.bus.connection import Message
from hythe.errors import FailedPrecondition
from tests.fakes.endpoints import Ask, Told, Work, do
from tests.fixtures.peers import Peers
from tests.fixtures.secured_bus import HOST


async def asked(peers: Peers, subject: str, answers: int = 1) -> list[dict[str, Any]]:
    """Ask as a tool does and return the first `answers` answers."""
    admin = await peers.bus("admin")
    got: asyncio.Queue[Message] = asyncio.Queue()
    inbox = admin.new_inbox() + ".tool"
    await admin.subscribe(inbox, got.put_nowait)
    await admin.publish(subject, b"", reply=inbox)
    return [json.loads((await asyncio.wait_for(got.get(), 5)).data) for _ in range(answers)]


def as_dataclass(kind: type[Any], body: dict[str, Any]) -> Any:
    """Return nats-py's own form of an answer; a missing or an additional field is an error."""
    assert set(body) <= {field.name for field in fields(kind)} | {"type"}, body
    return kind(**body)


async def test_ping_finds_every_instance_of_every_service(peers: Peers) -> None:
    """One question finds all services, each with its own instance id."""
    one = await peers.service("metadata", Work().register)
    other = await peers.service("bundle", Work().on_host)
    found = [as_dataclass(ServicePing, body) for body in await asked(peers, "$SRV.PING", 2)]
    assert {(ping.name, ping.id) for ping in found} == {
        ("hythe-metadata", one.instance),
        ("hythe-bundle", other.instance),
    }
    assert {ping.type for ping in found} == {"io.nats.micro.v1.ping_response"}
    assert {ping.metadata["host"] for ping in found} == {HOST}


@pytest.mark.parametrize("tail", ["", ".hythe-metadata", ".hythe-metadata.{instance}"])
async def test_info_lists_the_endpoints_that_are_really_served(peers: Peers, tail: str) -> None:
    """Subjects and queue groups are those of the subscription, and nothing is listed that nobody answers."""
    process = await peers.service("metadata", Work().register)
    (body,) = await asked(peers, "$SRV.INFO" + tail.format(instance=process.instance))
    endpoints = [as_dataclass(EndpointInfo, endpoint) for endpoint in body.pop("endpoints")]
    info = as_dataclass(ServiceInfo, {**body, "endpoints": endpoints})
    assert info.type == "io.nats.micro.v1.info_response"
    assert {(e.name, e.subject, e.queue_group) for e in endpoints} == {
        (f"{noun}-{verb}-any", f"hythe.v1.rpc.*.*.metadata.{noun}.{verb}", "metadata")
        for noun, verb in (("thing", "do"), ("thing", "work"), ("thing", "watch"), ("operation", "get"))
    }


async def test_info_of_a_host_service_names_its_host(peers: Peers) -> None:
    """What only one host answers has that host in its subject and no queue group."""
    await peers.service("bundle", Work().on_host)
    (body,) = await asked(peers, "$SRV.INFO.hythe-bundle")
    subjects = {endpoint["name"]: (endpoint["subject"], endpoint["queue_group"]) for endpoint in body["endpoints"]}
    assert subjects["thing-do-host"] == ("hythe.v1.host.*.h1=2Elab.bundle.thing.do", "")
    assert "operation-get-any" not in subjects


async def test_stats_count_requests_errors_and_time(peers: Peers) -> None:
    """The figures of each endpoint are the requests that were really answered."""
    await peers.service("metadata", Work().register)
    caller = await peers.bus("runtime")
    await caller.call(do(), Ask(), Told)
    with pytest.raises(FailedPrecondition):
        await caller.call(do(), Ask(fail="known"), Told)
    (body,) = await asked(peers, "$SRV.STATS.hythe-metadata")
    endpoints = {raw["name"]: as_dataclass(EndpointStats, raw) for raw in body["endpoints"]}
    as_dataclass(ServiceStats, {**body, "endpoints": list(endpoints.values())})
    stats = endpoints["thing-do-any"]
    assert (stats.num_requests, stats.num_errors, stats.last_error) == (2, 1, "FailedPrecondition")
    assert stats.processing_time > 0
    assert stats.average_processing_time == stats.processing_time // 2
    assert endpoints["thing-work-any"].num_requests == 0
    assert body["started"].endswith("Z")


async def test_discovery_answers_only_to_inboxes(peers: Peers) -> None:
    """Nor can a question about services make one publish somewhere else."""
    process = await peers.service("metadata", Work().register)
    admin = await peers.bus("admin")
    heard: list[Message] = []
    await admin.subscribe("hythe.v1.event.>", heard.append)
    await admin.publish("$SRV.PING", b"", reply="hythe.v1.event._._.x.y.z")
    (ping,) = await asked(peers, "$SRV.PING")
    assert ping["id"] == process.instance
    assert heard == []
