"""``python -m bench.metadata``: what the metadata service does through the bus, on SQLite and on Redis.

Durable small writes with many clients at once, reads, a filtered list and a mark over many records, and the memory at the end.
A write is durable when it is answered: SQLite's log is synchronous=FULL, Redis has appendfsync always.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from bench.bus_load import Clients, Load, as_json
from bench.memory import pss_bytes
from bench.report import Verdict, save
from bench.stack import connect
from hythe.bus import nkey
from hythe.client.sync_bus import SyncBus
from hythe.identifiers import new_id
from hythe.subjects import rpc
from scripts.lab.stack import Stack

OUT = Path(__file__).parent / "out" / "metadata.json"
KEY = "runtime"
CLIENTS = 32
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONTAINERS = 10_000
BLOBS = 100_000
BLOBS_A_MANIFEST = 10
REDIS_FACTOR = 2.0


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """Run a redis-server that makes every write durable before it answers; yield its URL."""
    directory.mkdir()
    socket = directory / "redis.sock"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *("redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(directory)),
                *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        while not socket.exists():
            if process.poll() is not None:
                raise RuntimeError((directory / "log").read_text())
            time.sleep(0.01)
        yield f"unix://{socket}"
    finally:
        process.terminate()
        process.wait()


def digest(number: int) -> str:
    """Return the digest of a blob that nobody has."""
    return f"sha256:{number:064x}"


def fill(bus: SyncBus) -> None:
    """Make containers and records of content: manifests of ten layers each, kept by one lease."""
    for first in range(0, BLOBS, 4000):
        content = []
        for number in range(first, first + 4000):
            labels = {}
            if number % BLOBS_A_MANIFEST == 0:
                labels = {f"containerd.io/gc.ref.content.l.{n}": digest(number + n) for n in range(1, BLOBS_A_MANIFEST)}
            content.append({"digest": digest(number), "labels": labels})
        body = {"lease": f"bench-{first // 4000}", "duration_s": 86400, "content": content}
        bus.call(rpc("default", bus.key_name, "metadata", "content", "refer"), body, timeout_s=30)


def begin(number: int) -> bytes:
    """Return a request for a container with labels to filter by."""
    image = {"reference": "localhost/bench:1", "digest": digest(number * BLOBS_A_MANIFEST)}
    labels = {"app": f"a{number % 100}", "tier": "web" if number % 2 else "db"}
    spec = {"args": ["sleep", "1"], "labels": labels}
    return as_json(id=new_id(), name=f"c{number}", image=image, host="h1", spec=spec, lease_s=86400)


class Subject:
    """One stack with its metadata service."""

    def __init__(self, name: str, stack: Stack) -> None:
        self.name = name
        self.stack = stack
        ready = (stack.state / "services" / "metadata.json").read_text()
        self.pid = int(ready.partition('"pid": ')[2].partition(",")[0])
        self.bus = connect(stack)
        self._key = nkey.load(str(stack.root / "keys" / f"{KEY}.nk"))

    def clients(self, count: int) -> Clients:
        """Connect `count` clients."""
        return Clients(self.bus.url, self._key, KEY, count)

    def load(self, count: int, seconds: float, noun: str, verb: str, bodies: Sequence[bytes] = ()) -> Load:
        """Ask again and again, `count` at once."""

        def ask(number: int) -> tuple[str, str, bytes]:
            return noun, verb, bodies[number % len(bodies)]

        with closing(self.clients(count)) as clients:
            return clients.load(ask, seconds)


def quantiles(load: Load) -> tuple[float, float]:
    """Return median and 99th percentile in milliseconds."""
    cuts = statistics.quantiles(load.taken_s, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


def measure(subject: Subject, seconds: float) -> tuple[list[Verdict], dict[str, object]]:
    """Measure one store."""
    name, factor = subject.name, 1.0 if subject.name == "sqlite" else REDIS_FACTOR
    bus = subject.bus
    leases = [f"small-{number}" for number in range(CLIENTS * 4)]
    for lease in leases:
        bus.call(rpc("default", bus.key_name, "metadata", "lease", "create"), {"id": lease, "duration_s": 86400})
    small = [as_json(id=lease) for lease in leases]
    images = [
        as_json(reference=f"localhost/i:{n}", digest=digest(n), media_type=MANIFEST, size_bytes=1)
        for n in range(200_000)
    ]
    subject.load(CLIENTS, 1.0, "lease", "renew", small)
    writes = subject.load(CLIENTS, seconds, "lease", "renew", small)
    named = subject.load(CLIENTS, seconds, "image", "put", images)
    reads = subject.load(1, seconds, "image", "get", [as_json(reference="localhost/i:1")])
    many_reads = subject.load(CLIENTS, seconds, "image", "get", [as_json(reference="localhost/i:1")])
    for load in (writes, named, reads, many_reads):
        if load.refused:
            raise RuntimeError(f"{len(load.refused)} refusals, such as {load.refused[0]}")
    fill(bus)
    containers = [begin(number) for number in range(CONTAINERS)]
    with closing(subject.clients(CLIENTS)) as clients:
        filled = clients.load(lambda n: ("container", "begin", containers[n]), 1e9, most=CONTAINERS)
    listed_ms = min(filtered_list(bus) for _ in range(3))
    report, blocked_ms = mark(subject, small)
    w50, w99 = quantiles(writes)
    n50, n99 = quantiles(named)
    verdicts = [
        Verdict(f"{name}: lease.renew, {CLIENTS} clients", writes.per_second, "/s", 4000 / factor, at_least=True),
        Verdict(f"{name}:   p50", w50, "ms"),
        Verdict(f"{name}:   p99", w99, "ms", 25 * factor),
        Verdict(f"{name}: image.put with its event, {CLIENTS} clients", named.per_second, "/s"),
        Verdict(f"{name}:   p99", n99, "ms"),
        Verdict(f"{name}: image.get, one client, p50", quantiles(reads)[0], "ms", 1.0 * factor),
        Verdict(f"{name}: image.get, {CLIENTS} clients", many_reads.per_second, "/s"),
        Verdict(f"{name}: container.begin, {CLIENTS} clients", filled.per_second, "/s"),
        Verdict(f"{name}: filtered list of {CONTAINERS} containers", listed_ms, "ms", 300 * factor),
        Verdict(f"{name}: mark of {report['nodes']} nodes", report["mark_ms"], "ms", 1000 * factor),
        Verdict(f"{name}:   longest write meanwhile", blocked_ms, "ms", 50 * factor),
        Verdict(f"{name}: memory of the service (PSS)", pss_bytes(subject.pid) / 1e6, "MB", 200),
    ]
    return verdicts, {"writes_p50_ms": w50, "named_p50_ms": n50, "report": report}


def filtered_list(bus: SyncBus) -> float:
    """Return the milliseconds of asking for the hundredth part of all containers by a label."""
    begun, after, found = time.perf_counter(), "", 0
    while True:
        body = {"after": after, "limit": 500, "filters": ["labels.app==a7,labels.tier==web"]}
        page = bus.call(rpc("default", bus.key_name, "metadata", "container", "list"), body, timeout_s=30)
        found += len(page["records"])
        after = page["next"]
        if not after:
            break
    if found != CONTAINERS // 100:
        raise RuntimeError(f"the filtered list has {found} containers")
    return 1000 * (time.perf_counter() - begun)


def mark(subject: Subject, small: Sequence[bytes]) -> tuple[dict[str, float], float]:
    """Mark everything in a dry run; return the report, and the longest that a write took meanwhile in milliseconds."""
    subject_name = rpc("", subject.bus.key_name, "metadata", "gc", "run")
    request = new_id()
    slowest: list[float] = []
    ended = threading.Event()

    def write() -> None:
        with closing(subject.clients(1)) as clients:
            while not ended.is_set():
                slowest.extend(clients.load(lambda n: ("lease", "renew", small[n % len(small)]), 0.2).taken_s)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        last = list(subject.bus.operate(subject_name, {"dry_run": True}, request_id=request))[-1]
    finally:
        ended.set()
        writer.join()
    return last[1], 1000 * max(slowest)


def main() -> int:
    """Measure in a fresh directory; the exit code says only whether everything could be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.metadata", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each rate is measured (5)")
    parser.add_argument("--store", choices=("sqlite", "redis", "both"), default="both")
    parser.add_argument("--directory", type=Path, help="where to work; its disk is what is measured")
    arguments = parser.parse_args()
    stores = ("sqlite", "redis") if arguments.store == "both" else (arguments.store,)
    verdicts: list[Verdict] = []
    details: dict[str, object] = {}
    with tempfile.TemporaryDirectory(
        prefix=f"hythe-bench-{secrets.token_hex(2)}-", dir=arguments.directory
    ) as directory:
        for store in stores:
            with ExitStack() as open_things:
                variables = {}
                if store == "redis":
                    variables["HYTHE_METADATA_URL"] = open_things.enter_context(redis_server(Path(directory) / "redis"))
                stack = Stack("bench", variables=variables)
                open_things.callback(stack.close)
                stack.up()
                subject = Subject(store, stack)
                open_things.callback(subject.bus.close)
                found, detail = measure(subject, arguments.seconds)
                verdicts += found
                details[store] = detail
    for verdict in verdicts:
        print(verdict.line())
    save(OUT, [], verdicts, details, [])
    return 0


if __name__ == "__main__":
    sys.exit(main())
