"""The streams of a stack on the pinned server and on Debian's old one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hythe import subjects
from hythe.bus import nkey
from hythe.client.jetstream import Consumer, api, last_message, messages_of
from hythe.client.sync_bus import SyncBus
from hythe.errors import HytheError, NotFound
from hythe.stack.keys import ensure_keys
from hythe.stack.nats_config import render
from hythe.stack.streams import ensure_streams, parse_version
from tests.fixtures.secured_bus import other_nats_server
from tests.fixtures.servers import nats_server_program
from tests.fixtures.waiting import eventually

HOST = "h1"


class Server:
    """A server with a stack's own configuration."""

    def __init__(self, directory: Path, program: Path) -> None:
        self._directory = directory
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        config = directory / "nats.conf"
        config.write_text(
            render(
                port=self._port,
                store=directory / "store",
                host=HOST,
                public_keys=ensure_keys(directory / "keys"),
                version=parse_version(said.rpartition(" ")[2]),
            )
        )
        with (directory / "log").open("ab") as log:
            self.process = subprocess.Popen([program, "-c", config], stderr=log, env={"PATH": os.defpath})
        eventually(self._listens, what=f"{program} listens")

    def _listens(self) -> bool:
        try:
            self.sync().close()
        except HytheError:
            assert self.process.poll() is None, (self._directory / "log").read_text()
            return False
        return True

    def sync(self, key: str = "admin") -> SyncBus:
        """Connect."""
        return SyncBus(f"nats://127.0.0.1:{self._port}", nkey.load(str(self._directory / "keys" / f"{key}.nk")), key)


@pytest.fixture(params=["pinned", "Debian's"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of either version."""
    program: Path | None = nats_server_program()
    if request.param != "pinned":
        program = other_nats_server(tmp_path / "package")
    assert program is not None, "the package archive has no nats-server"
    made = Server(tmp_path, program)
    yield made
    made.process.send_signal(signal.SIGKILL)
    made.process.wait()


def _publish(server: Server, subject: str, data: bytes) -> None:
    """Store one message as an agent does, and wait until it is stored."""
    agent = server.sync("agent")
    assert b'"seq"' in agent.request(subject, data).data
    agent.close()


def test_streams_are_made_once_and_kept_at_the_next_start(server: Server) -> None:
    """A second start changes nothing and loses nothing; what the server took is what was asked for."""
    bus = server.sync()
    assert ensure_streams(server.sync("streams")) == []
    subject = subjects.event("default", HOST, "container", "x", "started")
    _publish(server, subject, b"1")
    assert ensure_streams(server.sync("streams")) == []
    stored = last_message(bus, subjects.EVENT_STREAM, subjects.ALL_EVENTS)
    assert stored is not None
    assert (stored.subject, stored.data) == (subject, b"1")
    config = api(bus, f"STREAM.INFO.{subjects.SPAN_STREAM}", {})["config"]
    assert (config["max_bytes"], config["max_age"]) == (256 << 20, 24 * 3600 * 10**9)


def test_messages_are_found_by_subject_among_many(server: Server) -> None:
    """Reading one object's messages needs no look at the others."""
    bus = server.sync()
    ensure_streams(server.sync("streams"))
    for number in range(20):
        _publish(server, subjects.event("default", HOST, "container", f"c{number % 4}", "started"), b"%d" % number)
    wanted = subjects.events_of_object("default", HOST, "container", "c1")
    assert [m.data for m in messages_of(bus, subjects.EVENT_STREAM, wanted)] == [b"1", b"5", b"9", b"13", b"17"]
    later = [m.sequence for m in messages_of(bus, subjects.EVENT_STREAM, wanted, after=6)]
    assert later == [10, 14, 18]
    assert last_message(bus, subjects.EVENT_STREAM, subjects.events_of_object("default", HOST, "x", "y")) is None


def test_consumer_reads_everything_in_order_and_leaves_nothing_behind(server: Server) -> None:
    """A stretch longer than one batch comes whole; the consumer is gone afterwards."""
    bus = server.sync()
    ensure_streams(server.sync("streams"))
    agent = server.sync("agent")
    for number in range(600):
        agent.publish(subjects.event("default", HOST, "container", "c", "started"), b"%d" % number)
    agent.flush()
    eventually(lambda: (last := last_message(bus, subjects.EVENT_STREAM, subjects.ALL_EVENTS)) and last.data == b"599")
    with Consumer(bus, subjects.EVENT_STREAM, subjects.events_of_namespace("default")) as consumer:
        assert [int(m.data) for m in consumer.read(consumer.pending)] == list(range(600))
        assert list(consumer.read(1)) == []
    with Consumer(bus, subjects.EVENT_STREAM, subjects.ALL_EVENTS, since_rfc3339="2200-01-01T00:00:00Z") as consumer:
        assert consumer.pending == 0
    assert api(bus, f"STREAM.INFO.{subjects.EVENT_STREAM}", {})["state"]["consumer_count"] == 0


def test_missing_stream_is_not_found(server: Server) -> None:
    """Before the streams are made, asking for one is a clear error."""
    with pytest.raises(NotFound):
        api(server.sync(), f"STREAM.INFO.{subjects.EVENT_STREAM}", {})
