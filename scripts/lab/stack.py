"""A whole Hythe stack with directory, state, ports and cgroups of its own; one that is already up is never touched."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.lab.leaks import Places

STOP_TIMEOUT_S = "2"
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TERM", "COLUMNS", "NO_COLOR")


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float


class StackFailed(Exception):
    """The stack did not start or stop as it should; the message has what its commands and services said."""


class Stack:
    """A stack in a fresh directory; `up` starts it, `close` stops it and says what it left behind.

    Attributes:
        base: directory of everything that the stack makes; its name is random, and short because sockets live in it.
        config: its HYTHE_CONFIG, an empty file.
        root: its HYTHE_ROOT.
        state: its HYTHE_STATE.
        host: its HYTHE_HOST.
        cgroup_parent: its HYTHE_CGROUP_PARENT.
        variables: environment variables for every command, over what the settings need.
    """

    def __init__(self, purpose: str, *, variables: Mapping[str, str] | None = None, root: Path | None = None) -> None:
        """Make the directory; `purpose` becomes a part of its name, `root` a HYTHE_ROOT that lies elsewhere."""
        token = secrets.token_hex(4)
        self.base = Path(tempfile.mkdtemp(prefix=f"hythe-{purpose}-{token}-"))
        self.config = self.base / "hythe.toml"
        self.config.write_text("")  # so that the machine's own settings have no say
        self.root = root or self.base / "root"
        self.state = self.base / "state"
        self.host = f"{purpose}-{token}"
        self.cgroup_parent = f"hythe-{purpose}-{token}"
        self.variables = dict(variables or {})
        self.places = Places((self.base, self.root), self.cgroup_parent)

    @property
    def program(self) -> Path:
        """The `hythe` command beside the Python that runs this."""
        return Path(sys.executable).parent / "hythe"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the whole environment of a command in this stack; of the caller's own only what is harmless."""
        return {
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            "HOME": str(self.base),
            "HYTHE_CONFIG": str(self.config),
            "HYTHE_ROOT": str(self.root),
            "HYTHE_STATE": str(self.state),
            "HYTHE_HOST": self.host,
            "HYTHE_CGROUP_PARENT": self.cgroup_parent,
            **self.variables,
            **(extra or {}),
        }

    def popen(
        self, *arguments: str, variables: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[str]:
        """Start a `hythe` command with its output in pipes; the caller ends it."""
        return subprocess.Popen(
            [str(self.program), *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=self.environment(variables),
        )

    def hythe(
        self,
        *arguments: str,
        variables: Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout_s: float = 60.0,
    ) -> Completed:
        """Run a `hythe` command to its end and return what it said.

        Raises:
            subprocess.TimeoutExpired: it was killed after `timeout_s`.
        """
        start = time.monotonic()
        done = subprocess.run(
            [str(self.program), *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            env=self.environment(variables),
            timeout=timeout_s,
            check=False,
        )
        return Completed(done.returncode, done.stdout, done.stderr, time.monotonic() - start)

    def up(self, *, timeout_s: float = 60.0) -> Completed:
        """Start the stack in the background.

        Raises:
            StackFailed: `hythe up` failed.
        """
        done = self.hythe("up", "--detach", timeout_s=timeout_s)
        if done.code != 0:
            raise StackFailed(f"hythe up --detach: exit code {done.code}\n{done.stdout}{done.stderr}{self.logs()}")
        return done

    def down(self, *, timeout_s: float = 60.0) -> Completed:
        """Stop the stack and its containers; `close` checks what is left."""
        return self.hythe("down", "--stop-timeout", STOP_TIMEOUT_S, timeout_s=timeout_s)

    def logs(self, *, lines: int = 40) -> str:
        """Return the last `lines` of each service's log."""
        parts = []
        for path in sorted((self.root / "log").glob("*.log")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            parts.append("\n".join([f"--- {path.name}", *tail]))
        return "\n".join(parts) + "\n" if parts else ""

    def close(self) -> list[str]:
        """Stop the stack, remove all that it made, and return what `hythe down` did not clear away: nothing, when all is well."""
        left: list[str] = []
        try:
            if self.places.left_behind():
                try:
                    done = self.down()
                    if done.code != 0:
                        left.append(f"hythe down: exit code {done.code}: {done.stderr.strip()}")
                except subprocess.TimeoutExpired:
                    left.append("hythe down: did not end")
                left += self.places.settled()
                left += self._state_files()
        finally:
            self.places.sweep()
        return left

    def _state_files(self) -> list[str]:
        run = self.state / "run"
        files = [path for path in run.rglob("*") if not path.is_dir()] if run.is_dir() else []
        services = self.state / "services"
        return [f"file {path}" for path in (*files, *(services.glob("*.json") if services.is_dir() else ()))]
