"""What `hythe up` writes down is read back the same; damage is no information, never a crash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hythe.process import ProcessIdentity
from hythe.stack import up_file
from hythe.stack.up_file import Started, UpFile


def test_written_file_is_read_back_the_same(tmp_path: Path) -> None:
    """Supervisor and processes with their identities, order and restarts survive."""
    path = up_file.path_in(tmp_path)
    before = UpFile(
        ProcessIdentity(1, 2, "boot"),
        {"nats-server": Started(ProcessIdentity(3, 4, "boot"), "2026-01-01T00:00:00Z", 7)},
    )
    before.write(path)
    assert up_file.read(path) == before
    assert json.loads(path.read_text())["pid"] == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": 1}', '{"processes": {"x": {}}, "version": "1"}'])
def test_damaged_file_says_nothing(tmp_path: Path, text: str) -> None:
    """Whatever stands in the file, `hythe up` starts."""
    path = up_file.path_in(tmp_path)
    path.write_text(text)
    assert up_file.read(path) == UpFile()
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "runtime.json").write_text(text)
    assert up_file.read_ready(tmp_path, "runtime") is None


def test_missing_file_says_nothing(tmp_path: Path) -> None:
    """Before the first start there is nothing to adopt."""
    assert up_file.read(up_file.path_in(tmp_path / "gone")) == UpFile()
    assert up_file.read_ready(tmp_path / "gone", "runtime") is None
