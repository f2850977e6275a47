"""Stands for the bundle service: makes real bundles of one busybox root file system, without any image."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

from hythe.errors import FailedPrecondition, HytheError
from hythe.ports.snapshots import Mount
from hythe_runtime.agent.model import Bundle, Intent

APPLETS = (
    "sh",
    "echo",
    "true",
    "false",
    "cat",
    "sleep",
    "seq",
    "yes",
    "head",
    "dd",
    "printf",
    "wc",
    "kill",
    "trap",
    "ps",
    "id",
)


class FakeBundles:
    """`hythe_runtime.agent.ports.BundleService` on a directory of its own.

    Attributes:
        gate: prepare waits for it; set from the start.
        failure: what prepare raises, if anything.
        away: what release raises, if anything.
        prepared: ids of bundles that are here.
    """

    def __init__(self, bundles: Path, base: Path) -> None:
        """Make bundles below `bundles`, on the root file system `base` (see `make_base`)."""
        self._bundles = bundles
        self._base = base
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: HytheError | None = None
        self.away: HytheError | None = None
        self.prepared: set[str] = set()

    async def prepare(self, intent: Intent, cgroup: str) -> Bundle:
        """Make a bundle of `base` for what `intent` asks."""
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.prepared.add(intent.id)
        return make_bundle(self._bundles / intent.namespace / intent.id, self._base, intent.spec, cgroup)

    async def release(self, namespace: str, container_id: str) -> None:
        """Remove a bundle in which nothing is mounted."""
        if self.away is not None:
            raise self.away
        remove_bundle(self._bundles / namespace / container_id)
        self.prepared.discard(container_id)


def make_base(directory: Path) -> Path:
    """Make a root file system with a static busybox at `directory` and return it."""
    for name in ("bin", "proc", "sys", "dev", "etc", "tmp"):
        (directory / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", directory / "bin" / "busybox")
    for applet in APPLETS:
        (directory / "bin" / applet).symlink_to("busybox")
    (directory / "etc" / "plain").write_text("not a program\n")
    return directory


def make_bundle(path: Path, base: Path, spec: Any, cgroup: str) -> Bundle:
    """Make a bundle at `path` whose root file system is an overlay over `base`.

    Of the wishes it knows the command and ``namespaces.user_ids``, which are the groups' too.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("upper", "work", "rootfs"):
        (path / name).mkdir(exist_ok=True)
    args = [*(spec.get("entrypoint") or ()), *spec.get("args", ())]
    config = _config(args, cgroup)
    options: tuple[str, ...] = (f"lowerdir={base}", f"upperdir={path}/upper", f"workdir={path}/work", "index=off")
    ids = spec.get("namespaces", {}).get("user_ids", ())
    if ids:
        config["linux"]["namespaces"].append({"type": "user"})
        mappings = [{"containerID": i["container_id"], "hostID": i["host_id"], "size": i["size"]} for i in ids]
        config["linux"] |= {"uidMappings": mappings, "gidMappings": mappings}
        text = ",".join(f"{i['container_id']}:{i['host_id']}:{i['size']}" for i in ids)
        options += (f"uidmap={text}", f"gidmap={text}")
    (path / "config.json").write_text(json.dumps(config))
    mount = Mount("overlay", "overlay", "", options)
    return Bundle(str(path), str(path / "rootfs"), (mount,), tuple(args), "SIGTERM")


def remove_bundle(path: Path) -> None:
    """Remove a bundle.

    Raises:
        FailedPrecondition: its root file system is mounted.
    """
    if os.path.ismount(path / "rootfs"):
        raise FailedPrecondition(f"release {path.name}: something is mounted there")
    shutil.rmtree(path, ignore_errors=True)


def _config(args: list[str], cgroup: str) -> dict[str, Any]:
    kill = ["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/bin", "HOME=/"],
            "cwd": "/",
            "capabilities": {"bounding": kill, "effective": kill, "permitted": kill},
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        },
    }
