"""How runc and conmon are run: found once, given an environment made from nothing, never in the agent's session."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from hythe.errors import DeadlineExceeded, FailedPrecondition

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
UMASK = 0o022
TIMEOUT_S = 60.0

_inherited_limit = resource.getrlimit(resource.RLIMIT_NOFILE)


def find(name: str) -> str:
    """Return the full path of program `name` in this process's PATH.

    Raises:
        FailedPrecondition: it is not installed.
    """
    found = shutil.which(name, path=os.environ.get("PATH") or ENVIRONMENT["PATH"])
    if found is None:
        raise FailedPrecondition(
            f"find {name}: it is not installed",
            phase=f"find {name}",
            next_step=f"apt-get install {name}",
            details={"exit_code": "125"},
        )
    return found


def run(argv: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end and return its exit code and output. Blocks up to 60 s.

    Raises:
        FailedPrecondition: the program is gone.
        DeadlineExceeded: it did not end in time and was killed.
    """
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=ENVIRONMENT,
            umask=UMASK,
            start_new_session=True,
            timeout=TIMEOUT_S,
        )
    except FileNotFoundError as error:
        raise FailedPrecondition(f"run {argv[0]}: it is not installed", cause=str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(f"run {' '.join(argv[:4])}: not done within {TIMEOUT_S:.0f} s") from error


def spawn(
    argv: Sequence[str], variables: Mapping[str, str], descriptors: Sequence[int], stderr: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a program that gets `descriptors` under their own numbers and nothing else of this process.

    Raises:
        FailedPrecondition: the program is gone.
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**ENVIRONMENT, **variables},
            pass_fds=descriptors,
            umask=UMASK,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise FailedPrecondition(f"run {argv[0]}: it is not installed", cause=str(error)) from error
    try:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, _inherited_limit)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended already, which its waiter will see
    return process


def raise_descriptor_limit() -> None:
    """Let this process have as many descriptors as it may: each container takes one. What it starts keeps the old limit."""
    hard = _inherited_limit[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def last_line(data: bytes, fallback: str) -> str:
    """Return what a program said last on its standard error."""
    lines = data.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else fallback


def read_small(path: Path) -> bytes:
    """Return what a small file has, empty if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
