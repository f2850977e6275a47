"""What survives a kill of the process that writes the metadata store, and what a commit costs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from hythe.ports.metadata import ContainerRecord
from hythe_metadata.adapters.sqlite_store import SqliteStore
from tests.fakes.intent import Intent
from tests.integration.metadata import store_process

ROOT = Path(__file__).parents[3]
PROCESS = (sys.executable, "-m", "tests.integration.metadata.store_process")
LINES_BEFORE_KILL = 1500


def run_until_killed(directory: Path, lines: int) -> list[list[str]]:
    """Return what the process said until it was killed after so many lines."""
    with subprocess.Popen([*PROCESS, str(directory), "16", "0"], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
    return [line.decode().split() for line in said if line.endswith(b"\n")]


async def test_killed_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """After kill -9 every acknowledged change is there, whole, and compare-and-set has told the truth."""
    begun: dict[str, int] = {}
    asked: set[str] = set()
    replaced: dict[int, tuple[int, str]] = {}
    for _ in range(3):
        said = run_until_killed(tmp_path, LINES_BEFORE_KILL)
        asked |= {words[1] for words in said if words[0] == "asked"}
        begun |= {words[1]: int(words[2]) for words in said if words[0] == "begun"}
        for words in (words for words in said if words[0] == "replaced"):
            predecessor, revision = int(words[1]), int(words[2])
            assert predecessor not in replaced, "two replaced the same revision"
            replaced[predecessor] = (revision, words[3])
    assert len(begun) > 100
    assert len(replaced) > 10

    store = Intent(SqliteStore(tmp_path / "metadata.db"))
    found: dict[str, ContainerRecord] = {}
    after = ""
    while True:
        page = await store.containers("crash", after, 500)
        found |= {record.id: record for record in page.records}
        after = page.next
        if not after:
            break
    assert set(begun) <= set(found) <= asked
    assert all(found[container_id].revision == revision for container_id, revision in begun.items())
    for container_id, record in found.items():
        assert record.spec == store_process.spec_of(container_id)
        assert record.name == f"c-{container_id}"
    newest = max(replaced)
    present = await store.image("crash", store_process.REFERENCE)
    assert present.revision >= replaced[newest][0]
    if present.revision == replaced[newest][0]:
        assert present.digest == replaced[newest][1]
    events = await store.outgoing(0, 1_000_000)
    told = [event.object_id for event in events if event.noun == "container"]
    assert sorted(told) == sorted(found), "each record has its one event"
    await store.close()


def test_change_costs_at_most_one_fsync(tmp_path: Path) -> None:
    """No change makes its caller wait for more than one fsync, the first after a start included."""
    changes = 10
    trace = tmp_path / "strace"
    subprocess.run(
        [
            *("strace", "-f", "-o", str(trace), "-e", "trace=write,fsync,fdatasync"),
            *(*PROCESS, str(tmp_path), "2", str(changes)),
        ],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    calls = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]
    said = [index for index, call in enumerate(calls) if call.startswith("write(1,")]
    ready = next(index for index in said if '"ready' in calls[index])
    done = next(index for index in said if '"done' in calls[index])
    syncs = sum(call.startswith(("fsync(", "fdatasync(")) for call in calls[ready:done])
    acknowledged = sum('"begun' in calls[index] or '"replaced' in calls[index] for index in said)
    assert acknowledged == 2 * changes
    assert syncs <= acknowledged
