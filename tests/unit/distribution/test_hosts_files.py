"""Where ``hosts.toml`` files are looked for, and that they are read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from hythe.errors import FailedPrecondition
from hythe_distribution.adapters.hosts_files import MAX_FILE_BYTES, HostsDirectories


def put(directory: Path, name: str, host: str) -> Path:
    """Write a file that names one mirror, and return it."""
    path = directory / name / "hosts.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[host."https://{host}"]\n')
    return path


def mirror(directories: HostsDirectories, host: str) -> str:
    """Return the host of the one mirror, or an empty string."""
    entries = directories.entries(host)
    endpoint = entries[0].endpoint if entries else None
    return endpoint.host if endpoint else ""


def test_nothing_is_said_where_there_is_no_file(tmp_path: Path) -> None:
    """Without files, and without directories, each registry is asked itself."""
    (tmp_path / "r.example").mkdir()
    (tmp_path / "plain").write_text("")
    assert HostsDirectories([tmp_path, tmp_path / "nowhere", tmp_path / "plain"]).entries("r.example") is None


def test_first_directory_that_has_something_counts(tmp_path: Path) -> None:
    """Hythe's own directory goes before containerd's."""
    put(tmp_path / "two", "r.example", "second")
    directories = HostsDirectories([tmp_path / "one", tmp_path / "two"])
    assert mirror(directories, "r.example") == "second"
    put(tmp_path / "one", "_default", "default")
    assert mirror(directories, "r.example") == "default"
    put(tmp_path / "one", "r.example", "first")
    assert mirror(directories, "r.example") == "first"


def test_host_with_a_port_has_containerds_spelling_too(tmp_path: Path) -> None:
    """``host_port_`` is there for file systems that take no colon; it comes first."""
    directories = HostsDirectories([tmp_path])
    put(tmp_path, "_default", "default")
    put(tmp_path, "r.example", "other-port")
    assert mirror(directories, "r.example:5000") == "default"
    put(tmp_path, "r.example:5000", "colon")
    assert mirror(directories, "r.example:5000") == "colon"
    put(tmp_path, "r.example_5000_", "underscore")
    assert mirror(directories, "r.example:5000") == "underscore"
    put(tmp_path, "[::1]_5000_", "v6")
    assert mirror(directories, "[::1]:5000") == "v6"


def test_changed_file_counts_without_a_restart(tmp_path: Path) -> None:
    """Who edits or removes a file sees it with the next pull."""
    path = put(tmp_path, "r.example", "before")
    directories = HostsDirectories([tmp_path])
    assert mirror(directories, "r.example") == "before"
    put(tmp_path, "r.example", "afterwards")
    assert mirror(directories, "r.example") == "afterwards"
    path.unlink()
    assert directories.entries("r.example") is None


def test_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A directory in place of the file, too large a file and a wrong key are told with the file's name."""
    path = tmp_path / "r.example" / "hosts.toml"
    path.mkdir(parents=True)
    directories = HostsDirectories([tmp_path])
    with pytest.raises(FailedPrecondition) as raised:
        directories.entries("r.example")
    assert str(path) in raised.value.message
    path.rmdir()
    path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(FailedPrecondition):
        directories.entries("r.example")
    path.write_text("server = 5")
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match="server"):
            directories.entries("r.example")


@pytest.mark.parametrize("host", ["..", ".", "", "../r.example", "a/b", "a\0b"])
def test_host_that_is_no_name_leads_nowhere_else(tmp_path: Path, host: str) -> None:
    """No host's name makes a file outside the directories count."""
    put(tmp_path, "r.example", "wrong")
    put(tmp_path, ".", "wrong")
    (tmp_path / "inner").mkdir()
    assert HostsDirectories([tmp_path / "inner"]).entries(host) is None
