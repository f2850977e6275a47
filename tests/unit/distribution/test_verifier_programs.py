"""Image verification by real programs: what they are told, what each of their ends means, and what refuses by itself."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from hythe.digest import digest_of
from hythe.errors import FailedPrecondition, HytheError, PermissionDenied
from hythe.oci import Descriptor
from hythe_distribution.adapters.verifier_programs import VerifierPrograms
from tests.fixtures.waiting import until

NAME = "registry.example/app:1"
ROOT = Descriptor("application/vnd.oci.image.index.v1+json", digest_of(b"root"), 4)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """An empty directory of verifiers."""
    directory = tmp_path / "verifiers"
    directory.mkdir()
    return directory


def program(directory: Path, name: str, script: str) -> Path:
    """Put a shell script there."""
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


async def refusal(directory: Path, timeout_s: float = 10.0) -> HytheError:
    """Return why an image is refused."""
    with pytest.raises(HytheError) as raised:
        await VerifierPrograms(directory, timeout_s).judge(NAME, ROOT)
    return raised.value


async def test_image_that_all_programs_allow_is_allowed(programs: Path) -> None:
    """Exit code 0 of every program allows an image; so does a directory with none."""
    await VerifierPrograms(programs).judge(NAME, ROOT)
    program(programs, "a", "exit 0")
    program(programs, "b", "echo fine; exit 0")
    await VerifierPrograms(programs).judge(NAME, ROOT)


async def test_programs_are_told_what_containerd_tells_them(programs: Path, tmp_path: Path) -> None:
    """Name, digest and media type are arguments, the descriptor is on stdin, and the environment has no secrets."""
    os.environ["HYTHE_TEST_SECRET"] = "secret"
    try:
        program(
            programs, "a", f'echo "$@" > {tmp_path}/arguments; cat /dev/stdin > {tmp_path}/stdin; env > {tmp_path}/env'
        )
        await VerifierPrograms(programs).judge(NAME, ROOT)
    finally:
        del os.environ["HYTHE_TEST_SECRET"]
    arguments = (tmp_path / "arguments").read_text().strip()
    assert arguments == (f"-name {NAME} -digest {ROOT.digest} -stdin-media-type application/vnd.oci.descriptor.v1+json")
    assert json.loads((tmp_path / "stdin").read_text()) == {
        "mediaType": ROOT.media_type,
        "digest": str(ROOT.digest),
        "size": 4,
    }
    assert "secret" not in (tmp_path / "env").read_text()


async def test_program_that_does_not_read_its_stdin_is_heard(programs: Path) -> None:
    """A verifier need not look at the descriptor."""
    program(programs, "a", "exec <&-; exit 0")
    await VerifierPrograms(programs).judge(NAME, ROOT)


@pytest.mark.parametrize(
    ("script", "text"), [("echo not signed; exit 3", "exit code 3"), ("echo not signed; kill -9 $$", "signal 9")]
)
async def test_any_other_end_refuses(programs: Path, script: str, text: str) -> None:
    """Another exit code or a signal refuses the image, with the program's name and its own words."""
    program(programs, "a-allows", "exit 0")
    program(programs, "b-refuses", script)
    error = await refusal(programs)
    assert isinstance(error, PermissionDenied)
    assert "b-refuses" in error.message and text in error.message and NAME in error.message
    assert error.cause == "not signed"


async def test_first_refusal_by_name_is_told(programs: Path) -> None:
    """When several refuse, the answer doesn't depend on which was faster."""
    program(programs, "a", "sleep 0.05; exit 1")
    program(programs, "b", "exit 2")
    assert ": a refuses" in (await refusal(programs)).message


async def test_program_that_does_not_end_refuses_and_is_killed(programs: Path, tmp_path: Path) -> None:
    """A verifier that hangs refuses the image after its time, and nothing that it started lives on."""
    program(programs, "a", f"sleep 60 & echo $! > {tmp_path}/child; wait")
    error = await refusal(programs, 0.3)
    assert isinstance(error, PermissionDenied)
    assert "0.3 s" in error.message
    child = int((tmp_path / "child").read_text())
    await until(lambda: _is_gone(child), what="the child of the verifier is killed")


async def test_cancelled_question_kills_its_programs(programs: Path, tmp_path: Path) -> None:
    """A pull that is given up leaves no verifier behind."""
    program(programs, "a", f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 60")
    asking = asyncio.create_task(VerifierPrograms(programs).judge(NAME, ROOT))
    await until(lambda: (tmp_path / "pid").exists())
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: _is_gone(int((tmp_path / "pid").read_text())))


async def test_programs_run_at_once(programs: Path) -> None:
    """Ten verifiers take as long as one."""
    for i in range(10):
        program(programs, f"v{i}", "sleep 0.3")
    begun = time.monotonic()
    await VerifierPrograms(programs).judge(NAME, ROOT)
    assert time.monotonic() - begun < 2


async def test_long_and_strange_output_is_cut_and_made_printable(programs: Path) -> None:
    """What a verifier says is at most 16 KiB of text, whatever it writes, and it is never blocked by that."""
    program(programs, "a", r"printf '\033[31mred\n'; head -c 1000000 /dev/zero | tr '\0' x; exit 1")
    error = await refusal(programs)
    assert error.cause.startswith("?[31mred x")
    assert len(error.cause) <= 16 * 1024


async def test_missing_directory_refuses(programs: Path) -> None:
    """A directory that is configured but not there allows nothing."""
    error = await refusal(programs / "none")
    assert isinstance(error, FailedPrecondition)
    assert "verifier_dir" in error.next_step


async def test_check_that_could_not_be_made_refuses(programs: Path) -> None:
    """A file that isn't executable or can't be run, or more programs than are asked, would be checks silently left out."""
    path = program(programs, "a", "exit 0")
    path.chmod(0o644)
    assert "no executable file" in (await refusal(programs)).message
    path.write_bytes(b"\x7fELF no program")
    path.chmod(0o755)
    assert "cannot be run" in (await refusal(programs)).message
    path.unlink()
    for i in range(11):
        program(programs, f"v{i:02}", "exit 0")
    assert "more than 10" in (await refusal(programs)).message


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
