"""The benches count what happened: bytes that a registry sent, memory that a process had."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from bench.memory import memory_during, pss_bytes
from bench.report import Series, Verdict
from bench.sent import Sent, sent, sent_since
from bench.stack import median_by_step
from scripts.lab.images import ImageBuilder
from scripts.lab.registry import Registry

MIB = 1 << 20

# Allocates so many MiB for each line that it reads, touches and frees them, and says so.
GREEDY = """
import sys
for line in sys.stdin:
    block = bytearray(b"x") * (int(line) << 20)
    del block
    print(flush=True)
"""


@pytest.fixture
def greedy() -> Iterator[subprocess.Popen[str]]:
    """A process that allocates and frees as many MiB as a line says."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", GREEDY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def have(process: subprocess.Popen[str], mib: int, times: int = 1) -> None:
    """Have a greedy process allocate and free `mib`, as often as told."""
    assert process.stdin is not None and process.stdout is not None
    for _ in range(times):
        process.stdin.write(f"{mib}\n")
        process.stdin.flush()
        process.stdout.readline()


def test_bytes_that_a_registry_sent_are_counted_for_each_blob(registry: Registry) -> None:
    """A blob that was sent once whole and once in part counts two requests and the bytes of both; one that wasn't, none."""
    layers = [b"a" * 5000, b"b" * 7000, b"c" * 9000]
    image = ImageBuilder().layer(layers[0], "none").layer(layers[1], "none").layer(layers[2], "none").build()
    log = registry.directory / "log"
    registry.push(image, "bench/sent:1")
    first, second, third = (blob.digest for blob in image.layers)
    already = log.stat().st_size
    with closing(http.client.HTTPConnection(registry.address)) as connection:
        for method, digest, headers in (
            ("GET", first, {}),
            ("GET", first, {"Range": "bytes=4000-"}),
            ("HEAD", second, {}),
            ("GET", third, {}),
        ):
            connection.request(method, f"/v2/bench/sent/blobs/{digest}", headers=headers)
            connection.getresponse().read()
    found = sent_since(log, already, {first: 5000, third: 9000})
    assert found == {first: Sent(2, 6000), third: Sent(1, 9000)}
    assert second not in sent(log.read_text()[already:])


def test_only_blobs_that_were_got_are_counted() -> None:
    """Failed requests, uploads, manifests and the log's other form of each line count nothing."""
    digest = f"sha256:{'0' * 64}"
    log = "\n".join(
        f'127.0.0.1 - - [25/Nov/2026:13:51:41 +0000] "{request} HTTP/1.1" {status} 7 "" "agent"'
        for request, status in (
            (f"GET /v2/a/blobs/{digest}", 404),
            (f"GET /v2/a/blobs/{digest}", 200),
            (f"GET /v2/a/b/blobs/{digest}", 206),
            (f"HEAD /v2/a/blobs/{digest}", 200),
            (f"GET /v2/a/manifests/{digest}", 200),
        )
    )
    log += (
        f'\ntime="" level=info http.request.uri="/v2/a/blobs/{digest}" http.response.status=200 http.response.written=7'
    )
    assert sent(log) == {digest: Sent(2, 14)}


def test_memory_that_was_freed_again_is_in_the_peak_but_not_in_the_rest(greedy: subprocess.Popen[str]) -> None:
    """What a process had for a moment during the work is told; what it had before the work is not."""
    have(greedy, 128)
    memory = memory_during(greedy.pid, lambda: have(greedy, 64, times=6))
    assert memory.rest_bytes < 32 * MIB
    assert 64 * MIB < memory.peak_resident_bytes < 112 * MIB
    assert memory.rest_bytes < memory.peak_bytes < 112 * MIB
    assert pss_bytes(greedy.pid) < 32 * MIB


def test_memory_of_a_process_that_is_gone_is_an_error(greedy: subprocess.Popen[str]) -> None:
    """A service that ends while it is watched is no service with little memory."""
    assert greedy.stdin is not None
    greedy.stdin.close()
    greedy.wait()
    with pytest.raises(OSError):
        memory_during(greedy.pid, lambda: None)


def test_figure_at_its_target_meets_it_and_one_above_misses() -> None:
    """A target is the most that is allowed; a figure without one is told without a judgement."""
    assert Verdict("ratio", 0.5, "x", 0.5).line().endswith("target ≤ 0.5: met")
    assert Verdict("ratio", 0.51, "x", 0.5).line().endswith("target ≤ 0.5: MISSED")
    assert "target" not in Verdict("ratio", 0.51, "x").line()


def test_series_tells_best_and_median_in_milliseconds() -> None:
    """The least of all runs is the best, the middle one the median."""
    series = Series("runs", (0.003, 0.001, 0.002))
    assert [series.quantile(share) for share in (0, 0.5)] == [1.0, 2.0]


def test_steps_of_several_traces_are_told_by_their_median_longest_first() -> None:
    """One slow pull does not make a step look slow, and a step that only some have is told as well."""
    runs = [
        {"fetch": 0.2, "resolve": 0.01},
        {"fetch": 9.0, "resolve": 0.02},
        {"fetch": 0.3, "resolve": 0.03, "wait": 1.0},
    ]
    assert list(median_by_step(runs).items()) == [("wait", 1.0), ("fetch", 0.3), ("resolve", 0.02)]
