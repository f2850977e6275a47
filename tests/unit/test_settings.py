"""Which value a setting has, and where it came from."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hythe import setting_list, settings
from hythe.errors import FailedPrecondition, InvalidArgument


def file_with(tmp_path: Path, text: str) -> dict[str, str]:
    """Return an environment that names a settings file with `text`."""
    path = tmp_path / "hythe.toml"
    path.write_text(text)
    return {"HYTHE_CONFIG": str(path)}


def nothing(tmp_path: Path) -> dict[str, str]:
    """Return an environment without any setting, where no file of this machine is read."""
    return file_with(tmp_path, "")


def test_defaults_hold_without_anything_else(tmp_path: Path) -> None:
    """A plain machine uses the documented places and its own name."""
    loaded = settings.load({}, nothing(tmp_path))
    assert (str(loaded.root), str(loaded.state)) == ("/var/lib/hythe", "/run/hythe")
    assert loaded.host == socket.gethostname()
    assert loaded.key == Path("/var/lib/hythe/keys/admin.nk")
    assert (loaded.nats_port, loaded.namespace, loaded.disk_reserve_bytes) == (0, "default", 32 << 20)
    assert set(loaded.origin.values()) == {"default"}


def test_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    """The nearest word counts, and `origin` says whose it was."""
    environment = file_with(tmp_path, 'root = "/file"\nstate = "/file"\nhost = "file"\nnats_port = 4222\n')
    environment |= {"HYTHE_ROOT": "/environment", "HYTHE_STATE": "/environment"}
    loaded = settings.load({"root": "/flag", "state": None}, environment)
    assert (str(loaded.root), str(loaded.state), loaded.host, loaded.nats_port) == (
        "/flag",
        "/environment",
        "file",
        4222,
    )
    assert [loaded.origin[key] for key in ("root", "state", "host", "nats_port", "log_level")] == [
        "flag",
        "environment",
        "file",
        "file",
        "default",
    ]


def test_empty_variable_is_not_set(tmp_path: Path) -> None:
    """A variable that is there but empty does not take the default away."""
    assert settings.load({}, nothing(tmp_path) | {"HYTHE_ROOT": ""}).origin["root"] == "default"


def test_places_follow_the_root(tmp_path: Path) -> None:
    """Another root moves keys and logs with it, another state the bus file."""
    loaded = settings.load({"root": "/r", "state": "/s"}, nothing(tmp_path))
    assert (str(loaded.key), str(loaded.keys_dir)) == ("/r/keys/admin.nk", "/r/keys")
    assert (str(loaded.log_dir), str(loaded.bus_file)) == ("/r/log", "/s/bus.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("root", "relative"),
        ("state", "./x"),
        ("key", "x.nk"),
        ("nats_port", "65536"),
        ("nats_port", "-1"),
        ("nats_port", "1e3"),
        ("nats_port", "٣"),
        ("disk_reserve", "lots"),
        ("namespace", "a b"),
        ("log_level", "loud"),
        ("cgroup_parent", "../up"),
        ("cgroup_parent", "a//b"),
        ("cgroup_parent", "/"),
        ("host", "."),
        ("host", ".."),
        ("host", "../.."),
        ("host", "a/b"),
        ("host", "a\nb"),
        ("host", "h" * 256),
        ("snapshotter", "zfs"),
        ("sync_layers", "yes"),
        ("gc_mutations", "many"),
        ("gc_interval", "10m"),
        ("gc_pause", "0.51"),
        ("gc_pause", "-0.1"),
        ("gc_pause", "1e-2"),
        ("gc_pause", "0.0.1"),
        ("gc_pause", "."),
    ],
)
def test_bad_value_is_refused_by_name(tmp_path: Path, key: str, value: str) -> None:
    """A value that breaks its rule is refused, and the message shows it."""
    with pytest.raises(InvalidArgument) as caught:
        settings.load({key: value}, nothing(tmp_path))
    assert repr(value) in caught.value.message


def test_cgroup_parent_is_taken_with_or_without_slashes(tmp_path: Path) -> None:
    """Both spellings mean the same cgroup."""
    assert settings.load({"cgroup_parent": "/a/b/"}, nothing(tmp_path)).cgroup_parent == "a/b"


def test_stacks_of_other_roots_have_cgroups_of_their_own(tmp_path: Path) -> None:
    """Two stacks on one host never share a cgroup by default."""
    parents = {
        settings.load({"root": root}, nothing(tmp_path)).cgroup_parent for root in ("/a", "/b", "/var/lib/hythe")
    }
    assert len(parents) == 3
    assert "hythe" in parents


def test_unknown_key_in_the_file_is_refused(tmp_path: Path) -> None:
    """A misspelt key never passes in silence."""
    with pytest.raises(InvalidArgument, match="unknown key 'rot'") as caught:
        settings.load({}, file_with(tmp_path, 'rot = "/x"'))
    assert "hythe config" in caught.value.next_step


@pytest.mark.parametrize("text", ["root = ", "root = ['/a']", "nats_port = true", "root = 1.5"])
def test_file_that_cannot_be_understood_is_refused(tmp_path: Path, text: str) -> None:
    """A broken file is named, and no default is used in its place."""
    with pytest.raises(InvalidArgument, match=r"hythe\.toml"):
        settings.load({}, file_with(tmp_path, text))


def test_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    """A file that isn't UTF-8 is refused as such."""
    environment = nothing(tmp_path)
    (tmp_path / "hythe.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgument):
        settings.load({}, environment)


def test_named_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Whoever names a settings file means it."""
    with pytest.raises(FailedPrecondition, match="no such file"):
        settings.load({}, {"HYTHE_CONFIG": str(tmp_path / "none.toml")})


def test_child_process_gets_the_same_settings(tmp_path: Path) -> None:
    """What is passed on in the environment loads to the same values, without the key."""
    given = {"root": "/r", "state": "/s", "host": "h1.lab", "nats_port": "4222", "key": "/k/x.nk", "log_level": "debug"}
    loaded = settings.load(given, nothing(tmp_path))
    environment = loaded.environment()
    assert "HYTHE_KEY" not in environment
    again = settings.load({}, nothing(tmp_path) | environment)
    assert again.as_text() == loaded.as_text() | {"key": "/r/keys/admin.nk"}


def test_every_setting_is_shown_and_explained(tmp_path: Path) -> None:
    """`hythe config` can print each setting's value, origin and meaning; no variable stands for two."""
    loaded = settings.load({}, nothing(tmp_path))
    keys = [setting.key for setting in setting_list.ALL]
    assert list(loaded.as_text()) == keys == list(loaded.origin)
    assert len({setting.variable for setting in setting_list.ALL}) == len(keys)
    assert all(setting.meaning for setting in setting_list.ALL)
