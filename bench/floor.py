"""The floor that a run is compared with: the very container that Hythe makes, by conmon and runc alone."""

from __future__ import annotations

import io
import json
import os
import select
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

from scripts.lab.images import busybox_layer


class Floor:
    """A bundle that Hythe made, with a root file system; each `conmon_and_runc` or `runc_run` runs ``true`` in it once."""

    def __init__(self, directory: Path, cgroup: str) -> None:
        """Take the bundle in ``<directory>/bundle``; its containers go below `cgroup`."""
        self._directory = directory
        self._bundle = directory / "bundle"
        self._cgroup = cgroup
        self._number = 0
        rootfs = self._bundle / "rootfs"
        rootfs.mkdir(exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(busybox_layer().tar())) as archive:
            archive.extractall(rootfs)  # an archive made above
        self._config: dict[str, Any] = json.loads((self._bundle / "config.json").read_text())
        self._config["root"]["path"] = str(rootfs)
        self._config["process"]["args"] = ["true"]

    def _next(self) -> str:
        self._number += 1
        name = f"floor-{self._number}"
        self._config["linux"]["cgroupsPath"] = f"{self._cgroup}/{name}"
        (self._bundle / "config.json").write_text(json.dumps(self._config))
        return name

    def runc_run(self) -> float:
        """Run by ``runc run``; return the seconds it took."""
        name = self._next()
        command = ["runc", "--root", str(self._directory / "runc"), "run", "--bundle", str(self._bundle), name]
        start = time.perf_counter()
        subprocess.run(command, check=True)
        return time.perf_counter() - start

    def conmon_and_runc(self) -> float:
        """Create by conmon, start, wait for the exit file, delete; return the seconds it took.

        Raises:
            RuntimeError: runc could not create the container.
        """
        name = self._next()
        run = self._directory / name
        (run / "exit").mkdir(parents=True)
        (run / "persist").mkdir()
        runc = ["runc", "--root", str(self._directory / "runc")]
        start = time.perf_counter()
        self._create(name, run)
        subprocess.run([*runc, "start", name], check=True)
        pidfd = self._open_monitor(run)
        if pidfd is not None:
            select.select([pidfd], [], [])
            os.close(pidfd)
        assert (run / "exit" / name).read_text() == "0"
        subprocess.run([*runc, "delete", name], check=True)
        elapsed_s = time.perf_counter() - start
        shutil.rmtree(run)
        return elapsed_s

    def _create(self, name: str, run: Path) -> None:
        sync_read, sync_write = os.pipe()
        start_read, start_write = os.pipe()
        arguments = [
            *("conmon", "--api-version", "1", "-c", name, "-u", name, "-n", name, "-r", shutil.which("runc") or "runc"),
            *("-b", str(self._bundle), "-p", str(run / "pid"), "-P", str(run / "conmon.pid")),
            *("-l", f"k8s-file:{run / 'log'}", "--exit-dir", str(run / "exit"), "--persist-dir", str(run / "persist")),
            *("--full-attach", "--runtime-arg", "--root", "--runtime-arg", str(self._directory / "runc")),
        ]
        monitor = subprocess.Popen(
            arguments,
            env={"PATH": os.environ["PATH"], "_OCI_SYNCPIPE": str(sync_write), "_OCI_STARTPIPE": str(start_read)},
            pass_fds=(sync_write, start_read),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(sync_write)
        os.close(start_read)
        os.write(start_write, b"\0")
        os.close(start_write)
        with open(sync_read) as answers:
            answer = json.loads(answers.readline())
        monitor.wait()
        if answer["data"] <= 0:
            raise RuntimeError(f"runc create: {answer}")

    def _open_monitor(self, run: Path) -> int | None:
        try:
            return os.pidfd_open(int((run / "conmon.pid").read_text()))
        except ProcessLookupError:
            return None
