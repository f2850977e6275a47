"""Installs Debian packages so that no daemon of theirs is started now or enabled for the next boot.

A service that was installed before, and whatever state it is in, is left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

_POLICY = Path("usr/sbin/policy-rc.d")
_KEPT = Path("usr/sbin/policy-rc.d.before-hythe")
_MARK = "# Written by Hythe's scripts/setup while it installs packages, and removed afterwards."
_POLICY_TEXT = f"#!/bin/sh\n{_MARK}\nexit 101\n"


class InstallFailed(Exception):
    """Packages could not be installed; the message says which and what to do."""


def missing(packages: Sequence[str]) -> list[str]:
    """Return those of `packages` that are not installed."""
    if not packages:
        return []
    if shutil.which("dpkg-query") is None:
        raise InstallFailed(f"this is no Debian system; install the like of: {' '.join(packages)}")
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\\n", *packages]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    present = {line.partition(" ")[2] for line in shown.splitlines() if line.startswith("installed ")}
    return [package for package in packages if package not in present]


def install(packages: Sequence[str]) -> None:
    """Install `packages` without what they recommend; start and enable nothing.

    Raises:
        InstallFailed: not root, or apt failed.
    """
    if os.geteuid() != 0:
        raise InstallFailed(f"run this as root, or install yourself: {' '.join(packages)}")
    root = Path("/")
    with _alone(), denied_daemons(root):
        before = boot_links(root)
        try:
            updated = _apt("update")
            installed = _apt("install", "--yes", "--no-install-recommends", *packages)
        finally:
            disable(root, boot_links(root) - before)
    if installed.returncode != 0:
        report = "".join(part for done in (updated, installed) for part in (done.stdout, done.stderr))
        raise InstallFailed(f"install {' '.join(packages)}: apt-get failed\n{report}")


@contextlib.contextmanager
def denied_daemons(root: Path) -> Iterator[None]:
    """Forbid packages to start services for the duration of a block, and then restore the policy that was there.

    A policy that a killed run has left behind is recognised and cleared away.

    Spec: Debian's invoke-rc.d(8), "policy-rc.d".
    """
    policy, kept = root / _POLICY, root / _KEPT
    _restore(policy, kept)
    if policy.exists() or policy.is_symlink():
        policy.rename(kept)
    try:
        policy.write_text(_POLICY_TEXT)
        policy.chmod(0o755)
        yield
    finally:
        _restore(policy, kept)


def _restore(policy: Path, kept: Path) -> None:
    if policy.is_file() and _MARK in policy.read_text(errors="replace"):
        policy.unlink()
    if (kept.exists() or kept.is_symlink()) and not policy.exists():
        kept.rename(policy)


def boot_links(root: Path) -> set[Path]:
    """Return the links that make services start at boot: systemd's ``.wants`` and ``.requires``, and System V's ``S…``."""
    systemd = root / "etc/systemd/system"
    found = {path for pattern in ("*.wants/*", "*.requires/*") for path in systemd.glob(pattern)}
    return {path for path in (*found, *root.glob("etc/rc[0-6S].d/S*")) if path.is_symlink()}


def disable(root: Path, links: set[Path]) -> None:
    """Remove `links` through the tools that keep account of them, so that an upgrade does not bring them back."""
    for name in sorted({link.name for link in links if link.parent.suffix in (".wants", ".requires")}):
        _run_in(root, "deb-systemd-helper", "disable", name)
    for name in sorted({link.name[3:] for link in links if link.parent.suffix not in (".wants", ".requires")}):
        _run_in(root, "update-rc.d", name, "disable")
    for link in links:
        link.unlink(missing_ok=True)


def _run_in(root: Path, *command: str) -> None:
    if root == Path("/") and shutil.which(command[0]):
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait for another set-up that installs packages."""
    fd = os.open("/var/lib/dpkg", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _apt(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _signals_deferred():
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )


@contextlib.contextmanager
def _signals_deferred() -> Iterator[None]:
    """Let an interruption wait for the end of a block: a killed apt leaves half-configured packages."""
    pending: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, frame: pending.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if pending:
        signal.raise_signal(pending[0])
