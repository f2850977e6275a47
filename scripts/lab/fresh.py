"""Proves the set-up: a clone of this checkout inside a bare Debian makes its demo, in namespaces of its own."""

from __future__ import annotations

import argparse
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from scripts.lab import bare_root, cgroup_room, network
from scripts.lab.cgroup_room import Hierarchy
from scripts.lab.leaks import Places
from scripts.lab.packages import boot_links

ROOT = Path(__file__).resolve().parents[2]

# Joins the cgroups made for it, so that a new cgroup namespace takes them for the roots.
_JOIN = """
set -eu
for cgroup in $ROOMS; do echo $$ > "$cgroup/cgroup.procs"; done
unset ROOMS
exec "$@"
"""

# Runs as process 1 of the new namespaces, still seeing this machine's files, and changes to the bare root for good: a
# chroot would not do, for runc cannot pivot out of one. In cgroup v2 only a leaf may hold processes.
_ENTER = """
set -eu
root=$1 origin=$2
shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
while IFS='|' read -r kind options place; do
    mkdir -p "$root/sys/fs/cgroup/$place"
    mount -t "$kind" ${options:+-o "$options"} "$kind" "$root/sys/fs/cgroup/$place"
    [ "$kind" = cgroup ] || echo 0 > "$root/sys/fs/cgroup/$place/init/cgroup.procs"
done <<END
$HIERARCHIES
END
unset HIERARCHIES
mkdir -p "$root/mnt/origin" "$root/mnt/old"
mount --bind "$origin" "$root/mnt/origin"
mount -o remount,bind,ro "$root/mnt/origin"
while [ "$1" != -- ]; do
    mkdir -p "$root$1"
    mount --bind "$1" "$root$1"
    shift
done
shift
hostname fresh
cd "$root"
pivot_root . mnt/old
umount -l /mnt/old
cd /root
"$@" || exit $?
for entry in /proc/[0-9]*; do
    pid=${entry#/proc/}
    if [ "$pid" -ne 1 ] && [ -e "$entry/exe" ]; then
        echo "left behind: process $pid: $(tr '\\0' ' ' < "$entry/cmdline")"
        exit 99
    fi
done
"""

_INSIDE = """
set -eu
git -c safe.directory='*' clone --quiet /mnt/origin "$1"
cd "$1"
shift
exec make "$@"
"""


def main() -> int:
    """Run one target of the Makefile in a fresh system; the exit code is 0 only if it passed and nothing is left."""
    parser = argparse.ArgumentParser(prog="scripts/fresh-test", description=__doc__)
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hythe"
    parser.add_argument(
        "--cache", type=Path, default=default, help="directory of the bare system's archive (%(default)s)"
    )
    parser.add_argument("--renew", action="store_true", help="make the bare system anew")
    parser.add_argument("--target", nargs="+", default=["demo"], help="what to make in the clone (demo)")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds after which to give up (%(default)s)")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    options.cache.mkdir(parents=True, exist_ok=True)
    lock = os.open(options.cache, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    say(f"bare {bare_root.SUITE} with {', '.join(bare_root.PACKAGES)}")
    source = bare_root.archive(options.cache, renew=options.renew)
    return run(source, options.target, options.timeout)


def run(source: Path, targets: list[str], timeout_s: float) -> int:
    """Make `targets` in a clone inside a new system from the archive `source`; return the exit code."""
    what = " ".join(targets)
    token = secrets.token_hex(3)
    name = f"{network.PREFIX}{token}"
    base = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    places = Places((base,), name)
    start = time.monotonic()
    try:
        root = base / "root"
        bare_root.unpack(source, root)
        carried = bare_root.carry_over(root)
        links = boot_links(root)
        with network.namespace(token) as net, cgroup_room.room(name) as hierarchies:
            say(f"make {what} in a clone, in {root}")
            code = _make(net, hierarchies, root, targets, carried, timeout_s)
            faults = [f"cgroup {path}" for hierarchy in hierarchies for path in hierarchy.made_inside()]
        faults += [f"enabled at boot: {link.relative_to(root)}" for link in sorted(boot_links(root) - links)]
        if (root / "usr/sbin/policy-rc.d").exists():
            faults.append("policy-rc.d was not removed")
        faults += places.settled()
    finally:
        places.sweep()
        shutil.rmtree(base, ignore_errors=True)
    for fault in faults:
        print(f"error: fresh-test: left behind: {fault}", file=sys.stderr)
    if code != 0:
        print(f"error: fresh-test: make {what} in the bare system: exit code {code}", file=sys.stderr)
    if code or faults:
        return 1
    say(f"passed: make {what} in {time.monotonic() - start:.0f} s, nothing left behind")
    return 0


def _make(
    net: Path,
    hierarchies: list[Hierarchy],
    root: Path,
    targets: list[str],
    carried: bare_root.Carried,
    timeout_s: float,
) -> int:
    enter = ["sh", "-c", _JOIN, "join", "nsenter", f"--net={net}", "unshare", "--fork", "--kill-child"]
    enter += ["--mount", "--pid", "--uts", "--ipc", "--cgroup"]
    enter += ["sh", "-c", _ENTER, "enter", str(root), str(ROOT), *map(str, carried.directories), "--"]
    enter += ["sh", "-c", _INSIDE, "inside", f"/opt/{root.parent.name}", *targets]
    variables: Mapping[str, str] = {
        **carried.variables,
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        "ROOMS": " ".join(str(hierarchy.room) for hierarchy in hierarchies),
        "HIERARCHIES": "\n".join(hierarchy.remount_line() for hierarchy in hierarchies),
    }
    process = subprocess.Popen(enter, env=variables, stdin=subprocess.DEVNULL)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return 124
    finally:
        process.kill()
        process.wait()


def say(text: str) -> None:
    """Tell what is being done, on stderr."""
    print(f"fresh-test: {text}", file=sys.stderr, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
