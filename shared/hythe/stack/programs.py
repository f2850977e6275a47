"""The programs that a stack needs beside Python: where they are, which Debian package brings them, their versions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from hythe.errors import FailedPrecondition, PermissionDenied

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = {"runc": "runc", "conmon": "conmon", "nats-server": "nats-server"}
_VERSION_TIMEOUT_S = 5.0


def require_root(action: str) -> None:
    """Refuse to go on without root.

    Raises:
        PermissionDenied: the effective user is not root.
    """
    if os.geteuid() != 0:
        raise PermissionDenied(
            f"{action}: needs root",
            cause=f"the effective user id is {os.geteuid()}; mounts, cgroups and runc need 0",
            next_step="run it as root, e.g. with sudo",
        )


def search_path() -> str:
    """Return where programs are looked for, here and in the services: the caller's PATH, or the system's usual one."""
    return os.environ.get("PATH") or SYSTEM_PATH


def find(name: str) -> Path | None:
    """Return the program `name` in PATH, or None."""
    found = shutil.which(name, path=search_path())
    return Path(found) if found else None


def require(name: str) -> Path:
    """Return the program `name`.

    Raises:
        FailedPrecondition: it is not in PATH; the next step names Debian's package.
    """
    found = find(name)
    if found is None:
        raise missing(name)
    return found


def missing(name: str) -> FailedPrecondition:
    """Return the error for a program that is not in PATH."""
    next_step = f"install Debian's package: apt-get install {PACKAGES.get(name, name)}"
    elsewhere = shutil.which(name, path=SYSTEM_PATH)
    if elsewhere:
        next_step += f"; or add {Path(elsewhere).parent} to PATH: it is there"
    return FailedPrecondition(f"find {name}: not installed", cause=f"not in PATH={search_path()}", next_step=next_step)


def find_nats_server(configured: str) -> tuple[Path, bool]:
    """Return the nats-server to use, and whether it is the system's own rather than the pinned one.

    Looked for where the setting says, then beside this Python, then in PATH and /usr/sbin.

    Raises:
        FailedPrecondition: there is none, or not where the setting says.
    """
    if configured:
        path = Path(configured)
        if not os.access(path, os.X_OK):
            raise FailedPrecondition(
                f"find nats-server: {configured} is no program",
                next_step="correct HYTHE_NATS_SERVER, or unset it to take the one beside python",
            )
        return path, False
    beside = Path(sys.executable).parent / "nats-server"
    if os.access(beside, os.X_OK):
        return beside, False
    found = shutil.which("nats-server", path=f"{search_path()}:{SYSTEM_PATH}")
    if found is None:
        error = missing("nats-server")
        error.next_step = "run `make setup`, which brings the pinned one, or apt-get install nats-server"
        raise error
    return Path(found), True


def version_of(program: Path) -> str:
    """Return the first line that ``<program> --version`` prints, or an empty string when it says nothing in 5 s."""
    try:
        done = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0].strip() if lines else ""
