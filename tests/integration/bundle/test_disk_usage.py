"""Measuring trees that somebody changes meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hythe_bundle.adapters.disk_usage import measure

SWAP = """
import os, sys
os.chdir(sys.argv[1])
while True:
    for name in map(str, range(50)):
        os.rename(name, "away")
        os.symlink("../elsewhere", name)
        os.unlink(name)
        os.rename("away", name)
"""


def test_link_in_the_place_of_a_directory_is_neither_followed_nor_a_failure(tmp_path: Path) -> None:
    """A container that swaps directories for links while it is measured changes the sum at most by what it has itself."""
    tree, elsewhere = tmp_path / "tree", tmp_path / "elsewhere"
    (elsewhere / "inner").mkdir(parents=True)
    (elsewhere / "inner/big").write_bytes(bytes(4 << 20))
    for number in range(50):
        (tree / str(number) / "inner").mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", SWAP, str(tree)]) as swapping:
        try:
            assert all(measure(tree).size_bytes < 4 << 20 for _ in range(1000))
        finally:
            swapping.kill()
