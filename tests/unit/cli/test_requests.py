"""What the command line sends is what the services' models accept, field by field."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from hythe.cli import doctor, main, run
from hythe.cli.service_logs import show
from hythe.errors import NotFound
from hythe.wire.io import IoOpen
from hythe.wire.runtime import Run

ID = "0123456789abcdef" * 2


def _request(*arguments: str) -> Run:
    parser = argparse.ArgumentParser()
    run.run_arguments(parser)
    main.add_global_flags(parser)
    body = run.request_body(ID, parser.parse_args(arguments))
    return Run.model_validate({**body, "io": IoOpen(channel=ID).model_dump()})


def test_plain_run_leaves_everything_to_the_image() -> None:
    """Without flags nothing overrides the image's own words."""
    request = _request("busybox")
    assert request.host == ""
    assert (request.image, request.name, request.wait, request.pull) == ("busybox", "", True, "missing")
    spec = request.spec
    assert (spec.args, spec.entrypoint, spec.env, spec.cwd, spec.user) == ([], None, [], "", "")
    assert (spec.network, spec.auto_remove, spec.stdin, spec.stop_timeout_s) == ("none", False, False, 10.0)


def test_every_flag_reaches_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each flag of `run` sets exactly what it says."""
    monkeypatch.setenv("FROM_HERE", "1")
    monkeypatch.delenv("NOT_HERE", raising=False)
    request = _request(
        *("--rm", "--name", "web", "-i", "-e", "A=b=c", "-e", "FROM_HERE", "-e", "NOT_HERE", "--entrypoint", "sh"),
        *("-w", "/srv", "-u", "1:2", "--network", "host", "--hostname", "hut", "--read-only", "-l", "k=v", "-l", "x"),
        *("--stop-signal", "SIGQUIT", "--stop-timeout", "2.5", "--pull", "always", "--plain-http", "img"),
        *("-c", "echo --rm"),
    )
    spec = request.spec
    assert (request.name, request.pull, request.plain_http) == ("web", "always", True)
    assert (spec.env, spec.entrypoint, spec.args) == (["A=b=c", "FROM_HERE=1"], ["sh"], ["-c", "echo --rm"])
    assert (spec.cwd, spec.user, spec.network, spec.hostname) == ("/srv", "1:2", "host", "hut")
    assert (spec.read_only, spec.stdin, spec.auto_remove) == (True, True, True)
    assert (spec.labels, spec.stop_signal, spec.stop_timeout_s) == ({"k": "v", "x": ""}, "SIGQUIT", 2.5)


def test_flags_behind_the_image_belong_to_the_command() -> None:
    """Everything after the image is the container's, also what looks like a flag or a separator."""
    assert _request("img", "--rm", "-n", "x").spec.args == ["--rm", "-n", "x"]
    assert _request("--rm", "img", "sh", "--", "-e", "A").spec.args == ["sh", "--", "-e", "A"]


def test_empty_entrypoint_means_none() -> None:
    """`--entrypoint ""` takes the image's entry point away."""
    assert _request("--entrypoint", "", "img", "x").spec.entrypoint == []


def test_detached_run_does_not_wait() -> None:
    """`-d` is answered at the start."""
    assert _request("-d", "img").wait is False


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ((1, 1, 5), False),
        ((1, 2, 7), False),
        ((1, 2, 8), True),
        ((1, 3, 5), False),
        ((1, 3, 6), True),
        ((1, 4, 3), True),
        ((1, 5, 0), True),
        ((2,), True),
        ((), False),
    ],
)
def test_runc_without_the_security_fixes_is_told_from_one_with_them(version: tuple[int, ...], fixed: bool) -> None:
    """`hythe doctor` warns of each series below its fix."""
    assert doctor.runc_is_fixed(version) is fixed


def test_service_log_is_shown_whole_or_by_its_last_lines(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Lines are counted from the end, an unfinished one as well, however long they are."""
    lines = [b"%d " % n + b"x" * (n * 1000) for n in range(200)]
    (tmp_path / "agent.log").write_bytes(b"\n".join(lines))
    for tail, expected in ((None, lines), (3, lines[-3:]), (500, lines), (0, [])):
        assert show(tmp_path, "agent", follow=False, tail_lines=tail) == 0
        assert capfdbinary.readouterr().out == b"\n".join(expected)
    (tmp_path / "agent.log").write_bytes(b"a\nb\nc\n")
    show(tmp_path, "agent", follow=False, tail_lines=2)
    assert capfdbinary.readouterr().out == b"b\nc\n"


@pytest.mark.parametrize("name", ["nothing", "../secret", "/etc/passwd"])
def test_unknown_service_log_names_those_that_there_are(tmp_path: Path, name: str) -> None:
    """A wrong name, or a path, is not found; the right ones are listed."""
    (tmp_path / "log").mkdir()
    (tmp_path / "secret.log").touch()
    (tmp_path / "log" / "agent.log").touch()
    with pytest.raises(NotFound, match=re.escape(name)) as caught:
        show(tmp_path / "log", name, follow=False, tail_lines=None)
    assert "agent" in caught.value.next_step
