"""The host that this process runs on, as specs depend on it: facts from /proc and /sys, devices and sources by stat.

What can't change while the process lives is read once, so that a spec of the usual kind costs a handful of system calls.
The agent, which starts the containers, is taken to have the same limits and capabilities as this process.
"""

from __future__ import annotations

import os
import re
import resource
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from hythe.errors import InvalidArgument
from hythe.linux import mountinfo
from hythe.oci import Platform
from hythe_bundle import capabilities, rlimits
from hythe_bundle.host_facts import Device, HostFacts, Source

_NETWORK_FILES = ("/etc/hosts", "/etc/resolv.conf")
_IPC_PLACES = ("/dev/shm", "/dev/mqueue")
_APPARMOR = Path("/sys/kernel/security/apparmor/profiles")
_CGROUPS = "/sys/fs/cgroup"
_LOCKS = 10
"""RLIMIT_LOCKS, which Python's module doesn't name."""


class LocalHost:
    """Keeps the promises of `hythe_bundle.host_facts.Host`."""

    def __init__(self, platform: Platform) -> None:
        """Read what is fixed; `platform` is this host's."""
        status = Path("/proc/self/status").read_text()
        version = _cgroup_version()
        self._fixed = HostFacts(
            name=os.uname().nodename,
            architecture=platform.architecture,
            cgroup_version=version,
            kernel=_kernel(os.uname().release),
            capabilities=_capabilities(status, "CapBnd"),
            limits=_limits(),
            may_raise_limits="CAP_SYS_RESOURCE" in _capabilities(status, "CapEff"),
            most_open_files=int(Path("/proc/sys/fs/nr_open").read_text()),
            oom_score_adj=int(Path("/proc/self/oom_score_adj").read_text()),
            cpus=_cpus(Path("/sys/devices/system/cpu/online").read_text()),
            swap_limits=version == 2 or Path(_CGROUPS, "memory/memory.memsw.limit_in_bytes").exists(),
        )
        self._apparmor = _APPARMOR.exists()

    def facts(self) -> HostFacts:
        """See `Host.facts`."""
        files = tuple(path for path in _NETWORK_FILES if Path(path).is_file())
        profiles = _profiles(_APPARMOR.read_text()) if self._apparmor else None
        places = tuple(path for path in _IPC_PLACES if Path(path).is_dir())
        return replace(self._fixed, name=os.uname().nodename, network_files=files, ipc_places=places, apparmor=profiles)

    def devices(self, path: str) -> tuple[Device, ...]:
        """See `Host.devices`."""
        top = "/" + os.path.normpath(path).lstrip("/")
        try:
            found = Path(top).stat()
        except OSError:
            return ()
        if stat.S_ISDIR(found.st_mode):
            return tuple(_below(top, found.st_dev))
        device = _device(top, found)
        return (device,) if device else ()

    def source(self, path: str, *, create: bool, mounts: bool) -> Source | None:
        """See `Host.source`."""
        try:
            if create:
                _make_directories(Path(path))
            Path(path).stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InvalidArgument(f"mount {path[:200]!r}: it can't be looked at", cause=str(error)) from error
        return _passed_on(path) if mounts else Source()

    def has_io_weight(self) -> bool:
        """See `Host.has_io_weight`. The files are in every cgroup but the root."""
        patterns = ("blkio/*/blkio.weight", "blkio/*/blkio.bfq.weight", "*/io.weight", "*/io.bfq.weight")
        return any(True for pattern in patterns for _ in Path(_CGROUPS).glob(pattern))


def _make_directories(path: Path) -> None:
    """Make a directory, and those above it, where nothing is: open to all, as Docker's are, whatever this process's umask."""
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = path.parent
    for each in reversed(missing):
        try:
            each.mkdir()
        except FileExistsError:
            continue  # another container's, at the same time
        each.chmod(0o755)


def _cgroup_version() -> Literal[1, 2]:
    kinds = [mount.type for mount in mountinfo.mounts() if mount.point == _CGROUPS]
    return 2 if kinds and kinds[-1] == "cgroup2" else 1


def _kernel(release: str) -> tuple[int, int]:
    match = re.match(r"([0-9]+)\.([0-9]+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _capabilities(status: str, field: str) -> tuple[str, ...]:
    match = re.search(rf"^{field}:\s*([0-9a-f]+)$", status, re.MULTILINE)
    bits = int(match[1], 16) if match else 0
    return tuple(name for number, name in enumerate(capabilities.NAMES) if bits >> number & 1)


def _limits() -> dict[str, int]:
    """Return this process's hard limits, but those that are none."""
    found = {}
    for name in rlimits.NAMES:
        number = getattr(resource, f"RLIMIT_{name.upper()}", _LOCKS if name == "locks" else None)
        if number is not None:
            hard = resource.getrlimit(number)[1]
            if hard != resource.RLIM_INFINITY:
                found[name] = hard
    return found


def _cpus(text: str) -> frozenset[int]:
    """Return the numbers in a list like ``0-3,7``."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def _profiles(text: str) -> frozenset[str]:
    """Return the names in AppArmor's list, whose lines are like ``docker-default (enforce)``."""
    return frozenset(line.rpartition(" (")[0] for line in text.splitlines() if " (" in line)


def _below(top: str, file_system: int) -> Iterator[Device]:
    """Yield the devices below a directory of one file system: terminals and shared memory have theirs in others."""
    for directory, names, files in os.walk(top):
        names[:] = sorted(name for name in names if Path(directory, name).lstat().st_dev == file_system)
        for name in sorted(files):
            path = Path(directory, name)
            try:
                device = _device(str(path), path.lstat())
            except FileNotFoundError:
                continue
            if device:
                yield device


def _device(path: str, found: os.stat_result) -> Device | None:
    kind: Literal["c", "b"]
    if stat.S_ISCHR(found.st_mode):
        kind = "c"
    elif stat.S_ISBLK(found.st_mode):
        kind = "b"
    else:
        return None
    major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    whole = kind == "c" or not Path(f"/sys/dev/block/{major}:{minor}/partition").exists()
    mode = stat.S_IMODE(found.st_mode)
    return Device(path, kind, major, minor, mode, found.st_uid, found.st_gid, whole)


def _passed_on(path: str) -> Source:
    """Return which way mounts below `path` are passed on, by the mount that it lies in.

    Spec: proc(5), /proc/pid/mountinfo, optional fields; mount_namespaces(7).
    """
    mount = mountinfo.mount_of(Path(path))
    fields = mount.passed_on if mount is not None else ()
    return Source(
        shared=any(field.startswith("shared:") for field in fields),
        slave=any(field.startswith("master:") for field in fields),
    )
