"""Keys of a stack are made once, kept, and closed to others."""

from __future__ import annotations

from pathlib import Path

import pytest

from hythe.bus.permissions import ROLES
from hythe.errors import InvalidArgument
from hythe.stack.keys import ensure_keys


def test_each_process_gets_a_key_of_its_own_that_stays(tmp_path: Path) -> None:
    """Six names, six different keys, the same at the next start."""
    public = ensure_keys(tmp_path / "keys")
    assert set(public) == set(ROLES)
    assert len(set(public.values())) == len(ROLES)
    assert ensure_keys(tmp_path / "keys") == public


def test_keys_are_closed_to_others_even_after_somebody_opened_them(tmp_path: Path) -> None:
    """The directory is 0700 and each seed 0600 after every start."""
    directory = tmp_path / "keys"
    ensure_keys(directory)
    directory.chmod(0o777)
    (directory / "admin.nk").chmod(0o666)
    ensure_keys(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_damaged_key_is_never_replaced_in_silence(tmp_path: Path) -> None:
    """A file that holds no seed is an error: a new key would lock others out."""
    ensure_keys(tmp_path)
    (tmp_path / "runtime.nk").write_text("SUAM")
    with pytest.raises(InvalidArgument, match=r"runtime\.nk"):
        ensure_keys(tmp_path)
