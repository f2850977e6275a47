"""Logins in Docker's configuration file and in its helper programs."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hythe.errors import FailedPrecondition
from hythe_distribution.adapters.docker_config import DockerConfig
from hythe_distribution.credentials import Credentials

HUB = "https://index.docker.io/v1/"

HELPER = """#!/bin/sh
# keeps each login in a file named by the server, as the protocol says
dir=$(dirname "$0")/kept; mkdir -p "$dir"
input=$(cat)
server=$input
[ "$1" = store ] && server=$(printf %s "$input" | sed 's/.*"ServerURL": "\\([^"]*\\)".*/\\1/')
file="$dir/$(printf %s "$server" | tr '/:' '__')"
case $1 in
get) [ -e "$file" ] || { echo "credentials not found in native keychain"; exit 1; }; cat "$file";;
store) printf %s "$input" > "$file";;
erase) rm "$file";;
esac
"""


def auth(text: str) -> dict[str, str]:
    """Return the entry of a user and password as Docker keeps it."""
    return {"auth": base64.b64encode(text.encode()).decode()}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, Any]], DockerConfig]:
    """A function that writes the file and opens it."""

    def made(config: dict[str, Any]) -> DockerConfig:
        (tmp_path / "config.json").write_text(json.dumps(config))
        return DockerConfig(tmp_path)

    return made


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """A function that puts a helper program into the search path."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def made(name: str, script: str) -> Path:
        path = programs / f"docker-credential-{name}"
        path.write_text(script)
        path.chmod(0o755)
        return programs

    return made


def read(directory: Path) -> Any:
    """Return what the file has."""
    return json.loads((directory / "config.json").read_text())


def shown(login: Credentials | None) -> tuple[str, str, str] | None:
    """Return all of a login."""
    return (login.username, login.password, login.identity_token) if login else None


def test_no_file_is_no_login(tmp_path: Path) -> None:
    """A host on which nobody ever logged in pulls anonymously."""
    assert DockerConfig(tmp_path / "nowhere").find("registry.example") is None
    (tmp_path / "config.json").write_text("")
    assert DockerConfig(tmp_path).find("registry.example") is None


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("registry.example", "registry.example"),
        ("https://registry.example", "registry.example"),
        ("http://registry.example/v1/", "registry.example"),
        ("registry.example/v2/", "registry.example"),
        ("Registry.Example:5000", "registry.example:5000"),
        (HUB, "docker.io"),
        ("docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
    ],
)
def test_login_is_found_however_its_key_is_spelt(
    write: Callable[[dict[str, Any]], DockerConfig], key: str, host: str
) -> None:
    """Docker's spellings of a registry are all understood."""
    assert shown(write({"auths": {key: auth("ann:pass:word")}}).find(host)) == ("ann", "pass:word", "")


@pytest.mark.parametrize("key", ["registry.example:5000", "other.example", "registry.example.net", "https://", ""])
def test_login_for_another_registry_is_not_found(write: Callable[[dict[str, Any]], DockerConfig], key: str) -> None:
    """A login belongs to one registry, port included."""
    assert write({"auths": {key: auth("a:b")}}).find("registry.example") is None


def test_exact_key_counts_before_a_similar_one(write: Callable[[dict[str, Any]], DockerConfig]) -> None:
    """Of two keys for one registry the one that Docker writes itself counts."""
    config = write({"auths": {"docker.io": auth("old:x"), HUB: auth("new:y")}})
    assert shown(config.find("docker.io")) == ("new", "y", "")


def test_every_form_of_a_login_is_read(write: Callable[[dict[str, Any]], DockerConfig]) -> None:
    """User and password may stand apart, and an identity token beside them; an empty entry is none."""
    config = write(
        {
            "auths": {
                "apart": {"username": "ann", "password": "secret"},
                "token": {**auth("ann:"), "identitytoken": "refresh"},
                "empty": {},
                "nameless": auth("ann:"),
            }
        }
    )
    assert shown(config.find("apart")) == ("ann", "secret", "")
    assert shown(config.find("token")) == ("ann", "", "refresh")
    assert config.find("empty") is None
    assert config.find("nameless") is None


def test_kept_login_leaves_all_else_in_the_file(
    write: Callable[[dict[str, Any]], DockerConfig], tmp_path: Path
) -> None:
    """Logging in changes one entry; what Docker and others keep in the file stays, in order, for the user's eyes only."""
    others = {"HttpHeaders": {"X": "1"}, "auths": {"other.example": auth("o:p")}, "psFormat": "é", "n": 1.5}
    config = write(others)
    (tmp_path / "config.json").chmod(0o644)
    where = config.keep("registry.example", Credentials("ann", "secret"))
    assert where == str(tmp_path / "config.json")
    expected = {**others, "auths": {"other.example": auth("o:p"), "registry.example": auth("ann:secret")}}
    assert read(tmp_path) == expected
    assert list(read(tmp_path)) == list(others)
    assert (tmp_path / "config.json").stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["config.json"]


def test_kept_login_replaces_every_spelling(write: Callable[[dict[str, Any]], DockerConfig], tmp_path: Path) -> None:
    """After a login the old one is gone, however it was spelt."""
    config = write({"auths": {"docker.io": auth("old:x"), "https://docker.io": auth("old:x")}})
    config.keep("docker.io", Credentials("ann", "gone", "refresh"))
    assert read(tmp_path)["auths"] == {HUB: {**auth("ann:"), "identitytoken": "refresh"}}
    assert shown(config.find("docker.io")) == ("ann", "", "refresh")


def test_first_login_makes_directory_and_file(tmp_path: Path) -> None:
    """Logging in works on a host that has no configuration yet; directory and file are the user's alone."""
    config = DockerConfig(tmp_path / "a" / ".docker")
    config.keep("r.example", Credentials("ann", "secret"))
    assert shown(config.find("r.example")) == ("ann", "secret", "")
    assert (tmp_path / "a" / ".docker").stat().st_mode & 0o777 == 0o700


def test_linked_file_stays_a_link(tmp_path: Path) -> None:
    """A configuration that is kept elsewhere is changed there."""
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "config.json").symlink_to("real.json")
    DockerConfig(tmp_path).keep("r.example", Credentials("ann", "secret"))
    assert (tmp_path / "config.json").is_symlink()
    assert "r.example" in (tmp_path / "real.json").read_text()


def test_forgotten_login_is_gone(write: Callable[[dict[str, Any]], DockerConfig], tmp_path: Path) -> None:
    """Logging out removes every spelling, tells whether there was a login, and leaves the others."""
    config = write({"auths": {"https://r.example/v1/": auth("a:b"), "other": auth("c:d")}, "x": 1})
    assert config.forget("r.example") is True
    assert read(tmp_path) == {"auths": {"other": auth("c:d")}, "x": 1}
    assert config.forget("r.example") is False


def test_logins_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    """Two logins at once don't overwrite each other."""
    config = DockerConfig(tmp_path)
    threads = [
        threading.Thread(target=config.keep, args=(f"r{i}.example", Credentials("ann", f"secret-{i}")))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(tmp_path)["auths"]) == 8


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "[" * 100_000,
        '{"auths": 5}',
        '{"auths": {"r.example": 5}}',
        '{"auths": {"r.example": {"auth": 5}}}',
        '{"auths": {"r.example": {"auth": "hunter2!"}}}',
        '{"auths": {"r.example": {"auth": "aHVudGVyMg=="}}}',
        '{"auths": {"r.example": {"auth": "/w=="}}}',
        '{"credHelpers": 5}',
        '{"credHelpers": {"r.example": 5}}',
        '{"credsStore": ["x"]}',
        '{"credsStore": "../evil"}',
    ],
)
def test_broken_file_is_told_without_what_it_has(tmp_path: Path, text: str) -> None:
    """A file that cannot be understood is named, and none of its secrets are shown."""
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(FailedPrecondition) as raised:
        DockerConfig(tmp_path).find("r.example")
    assert str(tmp_path / "config.json") in raised.value.message
    assert "hunter2" not in raised.value.whole
    assert raised.value.next_step


def test_helper_keeps_finds_and_forgets_a_login(
    write: Callable[[dict[str, Any]], DockerConfig], helper: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """With a helper the file has no secret, and everything else works the same."""
    helper("file", HELPER)
    config = write({"credsStore": "file"})
    assert config.find("docker.io") is None
    assert config.keep("docker.io", Credentials("ann", "secret")) == "docker-credential-file"
    assert read(tmp_path) == {"credsStore": "file", "auths": {HUB: {}}}
    assert (tmp_path / "programs" / "kept" / "https___index.docker.io_v1_").exists()
    assert shown(config.find("docker.io")) == ("ann", "secret", "")
    assert config.forget("docker.io") is True
    assert config.find("docker.io") is None
    assert config.forget("docker.io") is False


def test_identity_token_is_kept_by_a_helper_as_docker_does(
    write: Callable[[dict[str, Any]], DockerConfig], helper: Callable[[str, str], Path]
) -> None:
    """The user ``<token>`` marks a refresh token."""
    programs = helper("file", HELPER)
    config = write({"credHelpers": {"r.example": "file"}})
    config.keep("r.example", Credentials("ann", "gone", "refresh"))
    kept = json.loads((programs / "kept" / "r.example").read_text())
    assert (kept["Username"], kept["Secret"]) == ("<token>", "refresh")
    assert shown(config.find("r.example")) == ("", "", "refresh")


def test_helper_for_one_registry_comes_before_the_one_for_all_and_both_before_the_file(
    write: Callable[[dict[str, Any]], DockerConfig], helper: Callable[[str, str], Path]
) -> None:
    """credHelpers, then credsStore, then auths."""
    for name in ("one", "all"):
        helper(name, f'#!/bin/sh\necho \'{{"Username": "{name}", "Secret": "x"}}\'\n')
    helper("none", "#!/bin/sh\necho credentials not found in native keychain; exit 1\n")
    entries = {"r.example": auth("file:x"), "s.example": auth("file:x")}
    config = write({"credHelpers": {"r.example": "one"}, "credsStore": "all", "auths": entries})
    assert (config.find("r.example") or Credentials("")).username == "one"
    assert (config.find("s.example") or Credentials("")).username == "all"
    assert (write({"credsStore": "none", "auths": entries}).find("s.example") or Credentials("")).username == "file"


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("#!/bin/sh\necho 'the keychain is locked'; exit 1\n", "the keychain is locked"),
        ("#!/bin/sh\necho nonsense\n", "no login"),
        ('#!/bin/sh\necho \'{"Username": 5, "Secret": "hunter2"}\'\n', "no login"),
        ('#!/bin/sh\necho \'{"Username": "a", "Secret": "hunter2"}\'; exit 3\n', "exit code 3"),
        ("#!/bin/sh\nhead -c 2000000 /dev/zero\n", "more than 1048576 bytes"),
        ("#!/bin/sh\nexec cat /dev/zero\n", "more than 1048576 bytes"),
        ("#!/bin/sh\nexec cat /dev/zero >&2\n", "more than 1048576 bytes"),
        ("#!/nowhere/sh\n", "No such file"),
    ],
)
def test_helper_that_fails_is_told_without_a_secret(
    write: Callable[[dict[str, Any]], DockerConfig], helper: Callable[[str, str], Path], script: str, cause: str
) -> None:
    """A helper that fails is named with what it says, but never with a login that it lets slip."""
    helper("bad", script)
    with pytest.raises(FailedPrecondition) as raised:
        write({"credsStore": "bad"}).find("r.example")
    assert cause in raised.value.cause
    assert "docker-credential-bad" in raised.value.message
    assert "hunter2" not in raised.value.whole


def test_helper_that_repeats_the_login_does_not_get_it_shown(
    write: Callable[[dict[str, Any]], DockerConfig], helper: Callable[[str, str], Path]
) -> None:
    """What a helper complains about while it should keep a login is shown without the login."""
    helper("parrot", "#!/bin/sh\ncat >&2; exit 1\n")
    with pytest.raises(FailedPrecondition) as raised:
        write({"credsStore": "parrot"}).keep("r.example", Credentials("ann", "hunter2"))
    assert "ServerURL" in raised.value.cause
    assert "hunter2" not in raised.value.whole


def test_helper_gets_no_secret_of_ours(
    write: Callable[[dict[str, Any]], DockerConfig],
    helper: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A helper finds its keychain by the environment, but not the keys of the S3 store."""
    monkeypatch.setenv("HYTHE_S3_SECRET_KEY", "sesame")
    monkeypatch.setenv("PASSWORD_STORE_DIR", "/kept")
    helper(
        "nosy",
        '#!/bin/sh\necho "{\\"Username\\": \\"${HYTHE_S3_SECRET_KEY:-none}\\", \\"Secret\\": \\"$PASSWORD_STORE_DIR\\"}"\n',
    )
    found = write({"credsStore": "nosy"}).find("r.example")
    assert found == Credentials("none", "/kept")


def test_helper_that_closes_its_output_and_goes_on_is_stopped(
    tmp_path: Path, helper: Callable[[str, str], Path]
) -> None:
    """A helper has ended when its process has."""
    helper("deaf", "#!/bin/sh\nexec >&- 2>&-; sleep 60\n")
    (tmp_path / "config.json").write_text('{"credsStore": "deaf"}')
    with pytest.raises(FailedPrecondition) as raised:
        DockerConfig(tmp_path, helper_timeout_s=0.2).find("r.example")
    assert "no end within 0.2 s" in raised.value.cause


def test_helper_that_hangs_is_stopped_with_its_children(tmp_path: Path, helper: Callable[[str, str], Path]) -> None:
    """A helper that waits for somebody at a screen does not hold a pull for ever."""
    helper("slow", "#!/bin/sh\nsleep 60 & sleep 60\n")
    (tmp_path / "config.json").write_text('{"credsStore": "slow"}')
    with pytest.raises(FailedPrecondition) as raised:
        DockerConfig(tmp_path, helper_timeout_s=0.2).find("r.example")
    assert "no answer within 0.2 s" in raised.value.cause
