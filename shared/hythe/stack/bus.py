"""The bus of a stack alone, in the foreground: for a host where Compose keeps the processes running, not `hythe up`."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from hythe import settings as hythe_settings
from hythe.bus import nkey
from hythe.bus.permissions import STREAMS
from hythe.client.sync_bus import SyncBus, read_bus_file
from hythe.errors import HytheError, Unavailable
from hythe.settings import Settings
from hythe.stack.keys import ensure_keys
from hythe.stack.nats_server import NatsServer
from hythe.stack.programs import SYSTEM_PATH
from hythe.stack.streams import ensure_streams, limits_of

READY_TIMEOUT_S = 30.0


def run(settings: Settings) -> int:
    """Make keys, configuration and streams, run the server until it ends; return its exit code, 0 after SIGINT or SIGTERM.

    Raises:
        FailedPrecondition: nats-server is missing or too old, or its port is taken.
        Unavailable: it did not answer within 30 s.
    """
    server = NatsServer(settings, ensure_keys(settings.keys_dir))
    settings.state.mkdir(parents=True, exist_ok=True)
    server.prepare(keep_port=False)
    child = subprocess.Popen([str(server.program), "-c", str(server.config)], env={"PATH": SYSTEM_PATH})
    stopping: list[int] = []

    def stop(number: int, frame: object) -> None:
        stopping.append(number)
        child.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        bus = _connect(settings, child)
        for warning in (*server.warnings, *ensure_streams(bus, limits_of(settings))):
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        bus.close()
        code = child.wait()
        return 0 if stopping else code
    finally:
        child.kill()
        child.wait()


def _connect(settings: Settings, child: subprocess.Popen[bytes]) -> SyncBus:
    key = nkey.load(str(settings.keys_dir / f"{STREAMS}.nk"))
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            bus = SyncBus(read_bus_file(str(settings.bus_file)), key, STREAMS)
            bus.flush()
            return bus
        except Unavailable:
            if child.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def main() -> int:
    """Run the bus of this host's settings; the exit code is 1 when it cannot be started."""
    try:
        return run(hythe_settings.load())
    except HytheError as error:
        print(f"error: {error.message}: {error.cause or error.next_step}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
