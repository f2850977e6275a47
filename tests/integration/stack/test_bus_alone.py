"""The bus can be run by itself, as Compose does, and is then as closed as the one of `hythe up`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import nats.errors
import pytest
from nats.aio.client import Client

from hythe import subjects
from hythe.bus import nkey
from hythe.client.sync_bus import SyncBus
from tests.fixtures.waiting import eventually


def test_bus_alone_makes_keys_and_streams_and_lets_nobody_else_in(tmp_path: Path) -> None:
    """It makes the keys and both streams, refuses a client without a key, and ends cleanly on SIGTERM."""
    root, state = tmp_path / "root", tmp_path / "state"
    environment = {
        "HYTHE_ROOT": str(root),
        "HYTHE_STATE": str(state),
        "HYTHE_HOST": "alone",
        "HYTHE_CONFIG": "/dev/null",
    }
    process = subprocess.Popen([sys.executable, "-m", "hythe.stack.bus"], env=environment, stderr=subprocess.DEVNULL)
    try:
        bus_file = state / "bus.json"
        eventually(bus_file.exists, what="the bus says where it listens")
        url = json.loads(bus_file.read_text())["url"]
        assert urlsplit(url).hostname == "127.0.0.1"
        streams = eventually(lambda: _streams(root), what="both streams")
        assert streams == {subjects.EVENT_STREAM, subjects.SPAN_STREAM}
        bus = SyncBus(url, nkey.load(str(root / "keys/admin.nk")), "admin")
        bus.flush()
        bus.close()
        with pytest.raises((nats.errors.Error, ConnectionError)):
            asyncio.run(Client().connect(url, max_reconnect_attempts=1, allow_reconnect=False))
    finally:
        process.terminate()
        assert process.wait(20) == 0


def _streams(root: Path) -> set[str] | None:
    names = {path.name for path in (root / "nats/store").rglob("streams/*")}
    return names if len(names) == 2 else None
