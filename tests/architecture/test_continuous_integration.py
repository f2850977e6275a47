"""What a change must pass, and what the Makefile offers."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGETS = {
    "help",
    "setup",
    "demo",
    "test",
    "check",
    "bench",
    "bench-fetch",
    "bench-metadata",
    "bench-pull",
    "up",
    "down",
    "fresh-test",
    "clean",
    "lock",
    "docs",
}


def test_ci_runs_the_checks_and_then_the_tests() -> None:
    """`.ci/run` is `make check`, then `make test`, and stops at the first that fails."""
    script = ROOT / ".ci/run"
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert commands == ["set -eu", 'cd "$(dirname "$0")/.."', "make check", "make test"]
    assert os.access(script, os.X_OK)


def test_make_help_lists_every_target() -> None:
    """`make help`, which is also plain `make`, has a line for each target."""
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r"^  ([a-z-]+) ", done.stdout, re.MULTILINE)) == TARGETS


def test_every_entry_script_can_be_run() -> None:
    """Each script that the Makefile names exists and is executable."""
    named = set(re.findall(r"scripts/[a-z-]+", (ROOT / "Makefile").read_text()))
    assert named == {"scripts/setup", "scripts/demo", "scripts/fresh-test", "scripts/generate-docs"}
    assert all(os.access(ROOT / name, os.X_OK) for name in named)
