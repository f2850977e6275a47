"""The command line itself: flags, help, exit codes, and what it must not import."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hythe import __version__, errors
from hythe.cli import exits, images, main
from hythe.cli.exits import code_of, code_of_run
from hythe.cli.failure import render

HEAVY = (
    *("asyncio", "pydantic", "nats", "opentelemetry", "dataclasses", "inspect", "pathlib", "typing", "logging"),
    *("subprocess", "threading", "tempfile", "ssl", "http", "urllib.request", "hythe.wire", "hythe.stack", "shutil"),
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> object:
    """A function that runs a command with settings of its own and returns (code, stdout, stderr)."""
    for name in [name for name in os.environ if name.startswith(("HYTHE_", "NATS_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "hythe.toml").write_text('log_level = "debug"\n')
    monkeypatch.setenv("HYTHE_CONFIG", str(tmp_path / "hythe.toml"))
    monkeypatch.setenv("HYTHE_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("HYTHE_STATE", str(tmp_path / "state"))

    def run_command(*arguments: str) -> tuple[int, str, str]:
        code = main.main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


def test_version_is_shown_as_text_and_as_json(run) -> None:  # type: ignore[no-untyped-def]
    """For people and for programs."""
    assert run("version") == (0, f"hythe {__version__}\n", "")
    assert run("--version") == (0, f"hythe {__version__}\n", "")
    code, out, _ = run("version", "--format", "json")
    assert (code, json.loads(out)) == (0, {"version": __version__})


@pytest.mark.parametrize("arguments", [["--json", "config"], ["config", "-o", "json"], ["--format", "json", "config"]])
def test_global_flags_stand_before_or_after_the_command(run, arguments: list[str], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Each setting says its value and where it came from."""
    code, out, _ = run("--host", "h9", *arguments)
    rows = {row["key"]: row for row in map(json.loads, out.splitlines())}
    assert code == 0
    assert (rows["host"]["value"], rows["host"]["origin"]) == ("h9", "flag")
    assert (rows["root"]["value"], rows["root"]["origin"]) == (str(tmp_path / "root"), "environment")
    assert (rows["log_level"]["value"], rows["log_level"]["origin"]) == ("debug", "file")
    assert rows["namespace"]["origin"] == "default"


def test_flag_after_the_command_wins_over_one_before_it(run) -> None:  # type: ignore[no-untyped-def]
    """The last word counts."""
    _, out, _ = run("-n", "one", "config", "-n", "two", "--json")
    assert next(row for row in map(json.loads, out.splitlines()) if row["key"] == "namespace")["value"] == "two"


def test_help_lists_every_command_and_every_exit_code(run) -> None:  # type: ignore[no-untyped-def]
    """`hythe --help` is complete."""
    code, out, _ = run("--help")
    assert code == 0
    for name in main.COMMANDS:
        assert re.search(rf"^  {name} ", out, re.MULTILINE), name
    for number in exits.MEANINGS:
        assert re.search(rf"^ +{number}  ", out, re.MULTILINE), number


EVERY = sorted(main.COMMANDS) + [f"images {name}" for name in sorted(images.SUBCOMMANDS)]


@pytest.mark.parametrize("name", EVERY)
def test_every_command_has_a_help_of_its_own(run, name: str) -> None:  # type: ignore[no-untyped-def]
    """`hythe COMMAND --help` works for each."""
    code, out, _ = run(*name.split(), "--help")
    assert code == 0
    assert f"hythe {name}" in out
    assert "--namespace" in out


def test_help_of_a_group_lists_its_commands(run) -> None:  # type: ignore[no-untyped-def]
    """`hythe images --help` is the way to all that can be done with images."""
    code, out, _ = run("images", "--help")
    assert code == 0
    for name in images.SUBCOMMANDS:
        assert re.search(rf"^  (?:\w+, )?{name}\b", out, re.MULTILINE), name


def test_unknown_command_and_no_command_are_usage_errors(run) -> None:  # type: ignore[no-untyped-def]
    """Exit code 2 and a hint."""
    code, _, err = run("pss")
    assert (code, "there is no command 'pss'" in err) == (2, True)
    code, out, err = run()
    assert (code, out) == (2, "")
    assert "commands:" in err


@pytest.mark.parametrize(
    ("given", "missing"), [(["run"], "IMAGE"), (["bundle", "create"], "IMAGE, DIR"), (["bundle", "create", "x"], "DIR")]
)
def test_command_of_the_image_is_never_called_missing(run, given: list[str], missing: str) -> None:  # type: ignore[no-untyped-def]
    """What is said to be required is what must be given."""
    _, _, err = run(*given)
    assert err.endswith(f"the following arguments are required: {missing}\n")


@pytest.mark.parametrize(
    "flags", [["-it"], ["-t"], ["-p", "80:80"], ["--publish=80:80"], ["-P"], ["--restart", "always"]]
)
def test_docker_flag_that_is_not_here_yet_is_refused_by_a_sentence(run, flags: list[str]) -> None:  # type: ignore[no-untyped-def]
    """Who is used to it learns that it is no typing error, and what there is instead."""
    code, _, err = run("run", *flags, "image", "sh", "-t")
    assert code == 125 and " yet; " in err and "unrecognized" not in err


def test_unknown_flag_is_a_usage_error_and_for_run_125(run) -> None:  # type: ignore[no-untyped-def]
    """`run` keeps 2 for the container's own code."""
    assert run("ps", "--no-such")[0] == 2
    code, _, err = run("run", "--no-such", "image")
    assert (code, "--no-such" in err) == (125, True)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["ps", "-n", "a b"], 2),
        (["ps", "--timeout", "0"], 2),
        (["ps", "--timeout", "x"], 2),
        (["ps", "--nats-url", "http://x"], 6),
        (["logs"], 2),
        (["logs", "--service", "x", "c"], 2),
        (["logs", "--tail", "-1", "c"], 2),
        (["logs", "--service", "x"], 3),
        (["ps"], 11),
        (["status"], 11),
        (["run", "-d", "-i", "image"], 125),
        (["run", "image"], 125),
        (["images"], 11),
        (["images", "rm"], 2),
        (["images", "--format", "yaml"], 2),
        (["ps", "--format", "{{.ID}}"], 2),
        (["images", "export", "x"], 2),
    ],
)
def test_wrong_use_or_missing_stack_ends_with_its_code(run, arguments: list[str], code: int) -> None:  # type: ignore[no-untyped-def]
    """Each kind of failure has its own documented code and no traceback."""
    found, _, err = run(*arguments)
    assert found == code, err
    assert "Traceback" not in err


def test_each_error_has_a_documented_exit_code() -> None:
    """No error of the closed set maps to a code that the help does not explain; `run` keeps to 125 to 127."""
    for kind in errors.ALL:
        for outcome in ("not started", "unknown"):
            assert code_of(kind("x", outcome=outcome)) in exits.MEANINGS
        assert code_of_run(kind("x")) == 125


def test_kinds_of_absence_are_told_apart() -> None:
    """A stopped service, a stopped bus and silence have different codes."""
    assert code_of(errors.Unavailable("x", service="runtime")) == exits.SERVICE_AWAY
    assert code_of(errors.Unavailable("x", service="nats-server")) == exits.BUS_AWAY
    assert code_of(errors.Unavailable("x", service="runtime", outcome="unknown")) == exits.UNKNOWN
    assert code_of(errors.DeadlineExceeded("x")) == exits.UNKNOWN


@pytest.mark.parametrize(("said", "code"), [("127", 127), ("126", 126), ("1", 125), ("", 125), ("x", 125)])
def test_run_ends_with_126_or_127_where_the_command_itself_is_the_trouble(said: str, code: int) -> None:
    """The agent says it in the error's details; nothing else may choose the code."""
    assert code_of_run(errors.FailedPrecondition("x", details={"exit_code": said})) == code


def test_error_shows_step_place_cause_outcome_next_step_and_trace() -> None:
    """The shape that people and scripts rely on."""
    error = errors.FailedPrecondition(
        "start web",
        phase="runc create",
        host="h2",
        cause="mount /data:\nno such file",
        next_step="create /data on h2",
        outcome="not started",
    )
    assert render(error, 0.314, "4bf92f3577b34da6a3ce929d0e0e4736") == (
        'error: start web (on h2, in phase "runc create", after 0.31 s)\n'
        "  cause: mount /data:\n"
        "         no such file\n"
        "  tried: once; outcome known: not started\n"
        "  next:  create /data on h2     trace: 4bf92f3577b3  (hythe trace show 4bf92f3577b3)"
    )


def test_error_cannot_steer_the_terminal() -> None:
    """What a registry put into an error is shown as it is spelt, and moves no cursor, colour or title."""
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\r"
    error = errors.NotFound(f"a{evil}", phase=evil, host=evil, cause=f"b{evil}\n  c{evil}", next_step=evil)
    text = render(error, 0.1, "")
    assert [line.isprintable() for line in text.splitlines()] == [True] * 5
    assert "\\x1b[2J" in text


def test_error_without_advice_still_says_what_to_do() -> None:
    """There is always a next step, and unknown is called unknown."""
    text = render(errors.DeadlineExceeded("ask runtime"), 1.8, "")
    assert "outcome unknown" in text
    assert "  next:  `hythe doctor`" in text


@pytest.mark.parametrize(
    "arguments",
    [
        *(["version"], ["ps"], ["run", "image", "true"], ["pull", "image"], ["push", "image"], ["tag", "a", "b"]),
        *(["images"], ["images", "ls", "-q"], ["images", "rm", "x"], ["images", "check"], ["images", "history", "x"]),
        ["images", "--format", "{{.ID}}"],
    ],
)
def test_short_commands_import_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    """The start-up of a command is part of the product: what costs milliseconds is not imported."""
    script = (
        "import sys; from hythe.cli.main import main; main(sys.argv[1:]); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    (tmp_path / "bus.json").write_text('{"url": "nats://127.0.0.1:1"}')
    (tmp_path / "hythe.toml").touch()
    environment = {
        "HYTHE_STATE": str(tmp_path),
        "HYTHE_ROOT": str(tmp_path),
        "HYTHE_CONFIG": str(tmp_path / "hythe.toml"),
    }
    done = subprocess.run(
        [sys.executable, "-S", "-c", script, *arguments],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "[]", done.stderr
