"""Paths in a container: what of /proc and /sys is hidden or read-only, and where something may be mounted."""

from __future__ import annotations

import posixpath

from hythe.errors import InvalidArgument
from hythe_bundle.wishes import SecurityWishes

MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
MAX_BYTES = 4095


def masked(wishes: SecurityWishes) -> list[str]:
    """Return what shows nothing: what tells of the host, or of other containers on it."""
    return [] if _open(wishes) else list(MASKED)


def read_only(wishes: SecurityWishes) -> list[str]:
    """Return what can't be written: the kernel's switches."""
    return [] if _open(wishes) else list(READ_ONLY)


def _open(wishes: SecurityWishes) -> bool:
    return wishes.privileged or wishes.unmask


def target(step: str, text: str) -> str:
    """Return `text`, a path to mount at or to put a device at, without detours.

    Symbolic links of the image on the way there are the runtime's to follow: runc resolves them within the root file system, and
    looks again, after that, whether the place is in /proc.

    Args:
        step: start of the message, e.g. ``mount at``.

    Raises:
        InvalidArgument: it is not absolute, leads upwards, is too long, is the root, or lies in /proc, where a mount would
            deceive the runtime about the process that it confines (CVE-2019-16884), or over a part of /sys that is masked.
    """
    name = repr(text[:200])
    if not text.startswith("/"):
        raise InvalidArgument(f"{step} {name}: it is not an absolute path")
    if "\0" in text:
        raise InvalidArgument(f"{step} {name}: it has a NUL character")
    if len(text.encode(errors="surrogateescape")) > MAX_BYTES:
        raise InvalidArgument(f"{step} {name}: it is longer than {MAX_BYTES} bytes")
    if ".." in text.split("/"):
        raise InvalidArgument(f"{step} {name}: it has '..' in it")
    path = "/" + posixpath.normpath(text).lstrip("/")
    if path == "/":
        raise InvalidArgument(f"{step} {name}: that is the root", next_step="choose a directory below it")
    if is_below(path, "/proc"):
        raise InvalidArgument(f"{step} {name}: nothing may lie over /proc")
    if any(is_below(path, hidden) for hidden in MASKED):
        raise InvalidArgument(f"{step} {name}: that part of /sys is masked")
    return path


def is_below(path: str, directory: str) -> bool:
    """Tell whether `path` is `directory` or lies in it; both are normal forms."""
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")
