"""Processes get a clean environment, bounded logs, and programs from where the user keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hythe import settings
from hythe.errors import FailedPrecondition, PermissionDenied
from hythe.stack import processes, programs
from hythe.stack.processes import clean_environment, last_lines, rotate


def test_environment_holds_the_settings_and_nothing_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings, paths, proxies and telemetry pass; keys, sockets and whatever else the caller has do not."""
    for name in ("AWS_SECRET_ACCESS_KEY", "NOTIFY_SOCKET", "TRACEPARENT", "PYTHONPATH", "HYTHE_KEY", "NATS_URL"):
        monkeypatch.setenv(name, "/caller")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("PATH", "/here")
    loaded = settings.load({"root": "/r", "state": "/s", "nats_url": "", "otlp_endpoint": "http://c:4318"}, {})
    found = clean_environment(loaded)
    assert found["HYTHE_ROOT"] == "/r"
    assert found["HYTHE_CGROUP_PARENT"] == loaded.cgroup_parent
    assert (found["HTTPS_PROXY"], found["OTEL_SDK_DISABLED"], found["PATH"]) == ("http://proxy", "true", "/here")
    assert found["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://c:4318"
    assert "/caller" not in found.values()


def test_log_that_has_grown_is_moved_aside_at_the_start(tmp_path: Path) -> None:
    """One old log is kept; a small one goes on."""
    log = tmp_path / "log" / "runtime.log"
    rotate(log)
    log.write_text("small")
    rotate(log)
    assert log.read_text() == "small"
    log.write_bytes(b"x" * (processes.MAX_LOG_BYTES + 1))
    rotate(log)
    assert not log.exists()
    assert (tmp_path / "log" / "runtime.log.1").stat().st_size == processes.MAX_LOG_BYTES + 1


def test_last_lines_are_those_of_this_start(tmp_path: Path) -> None:
    """What an earlier process wrote is not shown as the reason why this one failed."""
    log = tmp_path / "x.log"
    log.write_text("old\n")
    begin = log.stat().st_size
    assert last_lines(log, 5, begin) == []
    with log.open("a") as file:
        file.write("".join(f"line {n}\n" for n in range(10)))
    assert last_lines(log, 2, begin) == ["line 8", "line 9"]
    assert len(last_lines(log, 99, begin)) == 10
    assert last_lines(tmp_path / "none", 2, 0) == []


def test_missing_program_names_debians_package_and_where_it_was_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user learns what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FailedPrecondition, match="find conmon: not installed") as caught:
        programs.require("conmon")
    assert "apt-get install conmon" in caught.value.next_step
    assert str(tmp_path) in caught.value.cause


def test_other_user_than_root_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried without root."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(PermissionDenied, match="needs root") as caught:
        programs.require_root("start the stack")
    assert "1000" in caught.value.cause


def test_program_that_says_nothing_has_no_version(tmp_path: Path) -> None:
    """A program that cannot even tell its version breaks nothing."""
    program = tmp_path / "p"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    assert programs.version_of(program) == ""
    assert programs.version_of(tmp_path / "none") == ""
