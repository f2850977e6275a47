"""`hythe doctor`: looks at this machine and the stack, and says for each thing that is wrong what repairs it."""

from __future__ import annotations

import os
from pathlib import Path

from hythe.cli import exits, output
from hythe.errors import HytheError
from hythe.stack import leftovers, programs
from hythe.stack.nats_config import SYNC_ALWAYS_SINCE
from hythe.stack.streams import parse_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterator

    from hythe.cli.context import Context
    from hythe.settings import Settings

OK, NOTE, WARNING, ERROR = "ok", "note", "warning", "error"
KERNEL_NEEDED = (5, 11)
PLENTY_BYTES = 1 << 30
RUNC_FIXED = {(1, 2): 8, (1, 3): 6, (1, 4): 3}


class Finding:
    """One thing that was looked at: what it is, how it is (`OK`, `NOTE`, `WARNING`, `ERROR`), and what repairs it."""

    __slots__ = ("fix", "grade", "subject", "text")

    def __init__(self, grade: str, subject: str, text: str, fix: str = "") -> None:
        self.grade = grade
        self.subject = subject
        self.text = text
        self.fix = fix


def doctor_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe doctor`."""


def doctor(context: Context) -> int:
    """Look at everything; the exit code is 12 if anything is an error, else 0."""
    findings = list(look(context.settings))
    if context.as_json:
        for finding in findings:
            row = {"subject": finding.subject, "grade": finding.grade, "text": finding.text, "fix": finding.fix}
            output.json_line(row)
    else:
        output.table(
            ("CHECK", "RESULT", "FINDING", "WHAT TO DO"), [(f.subject, f.grade, f.text, f.fix) for f in findings]
        )
    return exits.UNHEALTHY if any(finding.grade == ERROR for finding in findings) else exits.OK


def look(settings: Settings) -> Iterator[Finding]:
    """Yield what there is to say about this machine and the stack that `settings` name."""
    yield _user()
    yield from _programs(settings)
    yield _kernel()
    yield _overlay()
    yield _cgroups()
    yield from _space(settings)
    yield from _permissions(settings)
    yield from _stack(settings)


def _user() -> Finding:
    if os.geteuid() != 0:
        return Finding(ERROR, "user", f"user id {os.geteuid()}", "run hythe as root")
    return Finding(OK, "user", "root")


def _programs(settings: Settings) -> Iterator[Finding]:
    for name in ("runc", "conmon"):
        path = programs.find(name)
        if path is None:
            yield Finding(ERROR, name, "not in PATH", programs.missing(name).next_step)
            continue
        version = parse_version(programs.version_of(path).rpartition(" ")[2].partition("+")[0])
        shown = f"{path} {'.'.join(map(str, version)) or 'of unknown version'}"
        if name == "runc" and not runc_is_fixed(version):
            yield Finding(
                WARNING,
                name,
                f"{shown} lacks fixes for breakouts from hostile images (CVE-2025-31133, -52565, -52881 and later)",
                "run trusted images only, or install runc 1.2.8, 1.3.6, 1.4.3 or later",
            )
        else:
            yield Finding(OK, name, shown)
    try:
        path, of_system = programs.find_nats_server(settings.nats_server)
    except HytheError as error:
        yield Finding(ERROR, "nats-server", error.message, error.next_step)
        return
    version = parse_version(programs.version_of(path).rpartition(" ")[2])
    shown = f"{path} {'.'.join(map(str, version)) or 'of unknown version'}"
    if of_system or version < SYNC_ALWAYS_SINCE:
        text = f"{shown}: fit for loopback on one host only; events are synced to disk once a minute"
        yield Finding(WARNING, "nats-server", text, "run `make setup`, which brings the pinned one")
    else:
        yield Finding(OK, "nats-server", f"{shown}; events are synced to disk one by one")


def runc_is_fixed(version: tuple[int, ...]) -> bool:
    """Tell whether this runc has the fixes of 2025 and 2026 against breakouts; distributions may have patched older ones."""
    series, patch = version[:2], version[2] if len(version) > 2 else 0
    if series in RUNC_FIXED:
        return patch >= RUNC_FIXED[series]
    return series > max(RUNC_FIXED)


def _kernel() -> Finding:
    release = os.uname().release
    if parse_version(release) < KERNEL_NEEDED:
        wanted = ".".join(map(str, KERNEL_NEEDED))
        return Finding(WARNING, "kernel", release, f"use {wanted} or later: older ones are not tested")
    return Finding(OK, "kernel", release)


def _overlay() -> Finding:
    known = Path("/proc/filesystems").read_text().split()
    if "overlay" not in known:
        return Finding(ERROR, "overlayfs", "the kernel does not offer it", "modprobe overlay")
    return Finding(OK, "overlayfs", "there")


def _cgroups() -> Finding:
    hierarchies = leftovers.cgroup_hierarchies()
    if not hierarchies:
        return Finding(ERROR, "cgroups", "none are mounted", "mount /sys/fs/cgroup")
    if not any(os.access(top, os.W_OK) for top in hierarchies) or _read_only(hierarchies):
        return Finding(ERROR, "cgroups", f"{hierarchies[0]} cannot be written", "mount them read-write")
    unified = [top for top in hierarchies if (top / "cgroup.controllers").exists()]
    if len(hierarchies) == 1 and unified:
        return Finding(OK, "cgroups", "version 2")
    names = ", ".join(sorted(top.name for top in hierarchies if top not in unified))
    return Finding(OK, "cgroups", f"version 1{' (hybrid)' if unified else ''}: {names}")


def _read_only(paths: list[Path]) -> bool:
    return all(os.statvfs(path).f_flag & os.ST_RDONLY for path in paths)


def _space(settings: Settings) -> Iterator[Finding]:
    for name, path in (("root", settings.root), ("state", settings.state)):
        place = path
        while not place.exists():
            place = place.parent
        usage = os.statvfs(place)
        free = usage.f_bavail * usage.f_frsize
        text = f"{output.size(free)} free for {path}"
        if name == "root" and free < settings.disk_reserve_bytes:
            reserve = output.size(settings.disk_reserve_bytes)
            yield Finding(ERROR, name, f"{text}, less than the reserve of {reserve}", "make room, or use another root")
        elif name == "root" and free < PLENTY_BYTES:
            yield Finding(WARNING, name, text, "make room: images need some")
        elif usage.f_files and usage.f_favail < 1000:
            yield Finding(WARNING, name, f"{text}, but only {usage.f_favail} inodes", "make room for more files")
        else:
            yield Finding(OK, name, text)


def _permissions(settings: Settings) -> Iterator[Finding]:
    if os.geteuid() != 0:
        return
    for path, most in ((settings.root, 0o711), (settings.keys_dir, 0o700), (settings.key, 0o600)):
        if not path.exists():
            continue
        mode = path.stat().st_mode & 0o777
        if mode & ~most:
            text = f"{path} has mode {mode:04o}: others may look in"
            yield Finding(ERROR, "permissions", text, f"chmod {most:04o} {path}")


def _stack(settings: Settings) -> Iterator[Finding]:
    from hythe.stack.status import HEALTHY, collect

    rows = collect(settings)
    ill = [row for row in rows if row["health"] != HEALTHY]
    if not ill:
        yield Finding(OK, "stack", "all processes are healthy")
    elif len(ill) == len(rows):
        yield Finding(NOTE, "stack", "not running", "start it with `hythe up --detach`")
    else:
        for row in ill:
            fix = "`hythe up --detach`" if row["health"] == "dead" else f"`hythe logs --service {row['name']}`"
            yield Finding(ERROR, "stack", f"{row['name']} is {row['health']}", fix)
