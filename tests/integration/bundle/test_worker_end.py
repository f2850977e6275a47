"""The worker's last moments: a root directory that is a stranger's must have no part in them."""

from __future__ import annotations

import os
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from hythe_bundle.adapters.worker import WorkerApplier
from hythe_bundle.worker import apply
from scripts.lab.images import Layer, compress


def run_worker(target: Path, blob: bytes, command: tuple[str, ...] = ()) -> subprocess.CompletedProcess[bytes]:
    """Let a worker apply `blob` to `target` and come to its own end, which its parent does not wait for otherwise."""
    target.mkdir()
    command = command or WorkerApplier(target).command
    numbers = (str(number) for number in (os.getpid(), 1 << 40, 1 << 20, 400, 0, 0))
    source = target.with_name("blob")
    source.write_bytes(blob)
    with source.open("rb") as stdin:
        return subprocess.run(
            [*command, *numbers], stdin=stdin, cwd=target, env={}, capture_output=True, timeout=30, check=False
        )


@pytest.mark.parametrize("attempt", range(3))
def test_worker_that_fails_while_it_still_inflates_loads_nothing(tmp_path: Path, attempt: int) -> None:
    """A thread that outlives Python makes the C library load another one, which would come out of the layer and run as root."""
    layer = Layer().symlink("bad", "").file("much", os.urandom(1 << 20) * 24)
    done = run_worker(tmp_path / f"fs{attempt}", compress(layer.tar(), "gzip"))
    assert (done.returncode, done.stderr) == (1, b"")
    assert done.stdout.startswith(b"failed archive ")


def test_endless_links_are_refused_without_a_traceback(tmp_path: Path) -> None:
    """What follows links gives up on a long chain of them, and says so as of any hostile archive."""
    layer = Layer()
    for number in range(2000):
        layer.symlink(f"l{number}", f"l{number + 1}")
    done = run_worker(tmp_path / "fs", compress(layer.opaque("l0").tar(), "gzip"))
    assert (done.returncode, done.stderr) == (1, b"")
    assert b"too many symbolic links".hex().encode() in done.stdout


@pytest.mark.parametrize("step", ["import wave", "1 / 0"])
def test_fault_in_the_chroot_reads_no_file_of_the_layer(tmp_path: Path, step: str) -> None:
    """Neither an import nor the report of a fault takes a file from the layer, where each would run or wait for a pipe."""
    hostile = Path(apply.__file__), Path(wave.__file__)
    layer = Layer()
    for path in hostile:
        layer.fifo(str(path))
    start = (
        "import sys; from hythe_bundle.worker import apply, main\n"
        f"def fault(self, entry):\n    {step}\n"
        "apply.Applier._set_xattrs = lambda self, target, entry: fault(self, entry)\n"
        "main.run(sys.argv[1:])"
    )
    layer.file("f", xattrs={"user.a": "1"})
    done = run_worker(tmp_path / "fs", compress(layer.tar(), "gzip"), (sys.executable, "-c", start))
    assert done.returncode == 2 and b"Error in " in done.stderr and b"File" not in done.stderr
