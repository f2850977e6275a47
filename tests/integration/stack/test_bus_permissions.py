"""The server itself holds each key to what its process is there for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hythe import subjects
from hythe.bus import nkey
from hythe.bus.permissions import ROLES, SERVICES, permissions_of
from hythe.client.protocol import Frame
from hythe.client.sync_bus import SyncBus
from hythe.errors import HytheError, InvalidArgument, PermissionDenied, Unavailable
from tests.fixtures.secured_bus import HOST, SecuredBus
from tests.fixtures.servers import NatsServer

ADMIN_LIST = subjects.rpc("default", "admin", "runtime", "container", "list")
AGENT_RUN = subjects.host_rpc("default", HOST, "agent", "container", "run")


@pytest.fixture
def bus(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> SecuredBus:
    """A bus with the keys of a stack."""
    return SecuredBus(tmp_path, start_nats)


def _may_publish(client: SyncBus, subject: str) -> bool:
    try:
        client.request(subject, b"{}")
    except PermissionDenied:
        return False
    except Unavailable:
        return True
    return True


@pytest.mark.parametrize(
    ("key", "subject", "allowed"),
    [
        ("admin", ADMIN_LIST, True),
        ("admin", AGENT_RUN, False),
        ("admin", subjects.rpc("default", "runtime", "metadata", "container", "begin"), False),
        ("admin", subjects.event("default", HOST, "container", "x", "started"), False),
        ("runtime", AGENT_RUN, True),
        ("runtime", subjects.rpc("default", "runtime", "metadata", "container", "begin"), True),
        ("runtime", subjects.rpc("default", "admin", "metadata", "container", "begin"), False),
        ("runtime", subjects.beat(HOST), False),
        ("agent", subjects.host_rpc("default", HOST, "bundle", "bundle", "prepare"), True),
        ("agent", subjects.host_rpc("default", "h2", "bundle", "bundle", "prepare"), False),
        ("agent", AGENT_RUN, False),
        ("agent", subjects.event("default", "h2", "container", "x", "started"), False),
        ("agent", subjects.io("default", "h2", "c", "stdout"), False),
        ("bundle", subjects.host_rpc("default", HOST, "distribution", "content", "ensure"), True),
        ("bundle", subjects.rpc("default", "bundle", "metadata", "content", "refer"), True),
        ("bundle", subjects.rpc("default", "bundle", "metadata", "lease", "remove"), True),
        ("bundle", subjects.rpc("default", "bundle", "metadata", "lease", "list"), False),
        ("bundle", subjects.rpc("default", "bundle", "metadata", "lease", "create"), False),
        ("bundle", AGENT_RUN, False),
        ("distribution", subjects.rpc("default", "distribution", "metadata", "image", "put"), True),
        ("distribution", subjects.rpc("default", "distribution", "metadata", "lease", "renew"), True),
        ("distribution", subjects.rpc("default", "distribution", "metadata", "lease", "list"), False),
        ("distribution", subjects.rpc("default", "distribution", "metadata", "container", "finish"), False),
        ("distribution", subjects.rpc("", "distribution", "metadata", "gc", "run"), False),
        ("distribution", AGENT_RUN, False),
        ("metadata", subjects.event("default", "", "container", "x", "created"), True),
        ("metadata", AGENT_RUN, False),
        *(
            (role, f"$JS.API.STREAM.{verb}.HYTHE_EVENTS", False)
            for role in (*SERVICES, "admin")
            for verb in ("CREATE", "UPDATE")
        ),
        ("streams", "$JS.API.STREAM.UPDATE.HYTHE_EVENTS", True),
        ("streams", ADMIN_LIST, False),
        ("streams", AGENT_RUN, False),
        *((role, "$JS.API.STREAM.DELETE.HYTHE_EVENTS", False) for role in ROLES),
        *((role, "$JS.API.STREAM.PURGE.HYTHE_SPANS", False) for role in ROLES),
    ],
)
def test_key_may_ask_only_what_its_process_needs(bus: SecuredBus, key: str, subject: str, allowed: bool) -> None:
    """A command to an agent is root on its host: only runtime may send one."""
    assert _may_publish(bus.sync(key), subject) is allowed


@pytest.mark.parametrize("key", ROLES)
def test_nobody_reads_the_answers_or_commands_of_others(bus: SecuredBus, key: str) -> None:
    """Another key's inbox, another service's requests and everything at once are refused to every key."""
    reader = bus.sync(key)
    other = "runtime" if key != "runtime" else "agent"
    for subject in (f"{subjects.inbox_prefix(other)}.>", "_INBOX.>", ">", subjects.rpc_of_service("secret")):
        seen: list[Frame] = []
        reader.subscribe(subject, seen.append)
        writer = bus.sync(other)
        writer.publish(f"{subjects.inbox_prefix(other)}.x.1", b"private")
        writer.flush()
        reader.flush()
        assert seen == []


def test_service_answers_in_any_inbox_and_a_caller_is_who_it_says(bus: SecuredBus) -> None:
    """The answer of a service reaches the caller whose key fixes its name in the subject."""
    runtime, admin = bus.sync("runtime"), bus.sync("admin")
    seen: list[Frame] = []
    runtime.subscribe(subjects.rpc_of_service("runtime"), seen.append)
    runtime.flush()
    inbox, _ = admin.listen(seen.append)
    admin.publish(ADMIN_LIST, b"{}", None, inbox)
    admin.flush()
    runtime.pump(2)
    runtime.publish(seen[0].reply, b"answer")
    admin.pump(2)
    assert [frame.data for frame in seen] == [b"{}", b"answer"]
    assert subjects.parse_rpc(seen[0].subject) == subjects.RpcSubject(
        "default", "admin", "runtime", "container", "list"
    )


def test_connection_without_a_key_gets_nothing(bus: SecuredBus) -> None:
    """There is no anonymous user, and a stranger's key is no better."""
    with pytest.raises(HytheError, match="does not know this key"):
        SyncBus(bus.url, nkey.generate(), "admin").flush()


@pytest.mark.parametrize("role", ROLES)
def test_lists_name_subjects_and_never_everything(role: str) -> None:
    """No list allows the whole bus, all of Hythe or the system account."""
    allowed = permissions_of(role, role, HOST)
    for subject in (*allowed.publish, *allowed.subscribe):
        assert subject.split(".")[0] in ("hythe", "_INBOX", "$SRV", "$JS")
        assert subject not in (">", "hythe.>", "hythe.v1.>", "$JS.>", "$JS.API.>")


def test_unknown_role_has_no_permissions() -> None:
    """A role that nobody described is an error, not a default."""
    with pytest.raises(InvalidArgument):
        permissions_of("guest", "guest", HOST)
