"""Prepares this checkout for a purpose: Debian packages, `.venv` with hash-locked dependencies, byte code.

Runs with nothing but Python's standard library, is quick when all is there, and says only what it changes.
"""

from __future__ import annotations

import argparse
import compileall
import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from scripts.lab import packages

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin/python"
STAMP = VENV / "hythe-setup"
SOURCES = ("shared", "services", "scripts")

RUN = ("busybox-static", "ca-certificates", "conmon", "containernetworking-plugins", "docker-registry", "runc")
TEST = (
    *(
        "crun",
        "docker-compose",
        "e2fsprogs",
        "iproute2",
        "iptables",
        "openssl",
        "redis-server",
        "skopeo",
        "strace",
        "umoci",
        "xz-utils",
    ),
    *("golang-github-opencontainers-image-spec-dev", "golang-github-opencontainers-specs-dev"),  # their JSON schemas
)
FRESH = ("iproute2", "iptables", "mmdebstrap")
BENCH_FETCH = ("containerd", "e2fsprogs", "skopeo")
BENCH_METADATA = ("redis-server",)
BENCH_PULL = ("containerd", "curl", "docker.io", "e2fsprogs", "gnuplot-nox", "isal", "pigz", "podman", "skopeo")
PURPOSES: dict[str, tuple[str, ...]] = {
    "check": (),
    "run": RUN,
    "test": (*RUN, *TEST),
    "fresh-test": FRESH,
    "bench-fetch": (*RUN, *BENCH_FETCH),
    "bench-metadata": (*RUN, *BENCH_METADATA),
    "bench-pull": (*RUN, *BENCH_PULL),
}
ELSEWHERE = {"containerd": "ctr", "docker.io": "dockerd"}
"""Packages that are not installed where their program is there already: Debian's would take the place of Docker's own."""

NATS_SERVER_FALLBACK = "nats-server"


def main() -> int:
    """Set up for the purpose given on the command line; exit code 1 and a reason when that cannot be done."""
    parser = argparse.ArgumentParser(prog="scripts/setup", description=__doc__)
    parser.add_argument("purpose", nargs="?", default="run", choices=sorted(PURPOSES))
    purpose = parser.parse_args().purpose
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    start = time.monotonic()
    try:
        changed = set_up(PURPOSES[purpose])
    except packages.InstallFailed as error:
        print(f"error: set up for {purpose}: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"error: set up for {purpose}: {' '.join(error.cmd)}: exit code {error.returncode}", file=sys.stderr)
        return 1
    if changed:
        say(f"set-up for {purpose} done in {time.monotonic() - start:.1f} s")
    return 0


def set_up(debian_packages: tuple[str, ...]) -> bool:
    """Install what is missing and return whether anything was."""
    wanted = [*debian_packages, *_python_packages()]
    absent = [package for package in packages.missing(wanted) if not shutil.which(ELSEWHERE.get(package, ""))]
    if absent:
        say(f"installing Debian packages: {' '.join(absent)}")
        packages.install(absent)
    lock = os.open(ROOT, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh = _virtual_environment()
    finally:
        os.close(lock)
    if not (VENV / "bin/nats-server").exists() and packages.missing([NATS_SERVER_FALLBACK]):
        say("no nats-server in the Python packages for this machine; installing Debian's")
        packages.install([NATS_SERVER_FALLBACK])
    _byte_compile()
    return bool(absent) or fresh


def _python_packages() -> tuple[str, ...]:
    """Return the Debian packages that this Python needs to make a virtual environment."""
    if PYTHON.exists() or importlib.util.find_spec("ensurepip") is not None:
        return ()
    return ("python3-venv",)


def _virtual_environment() -> bool:
    key = _key()
    if STAMP.exists() and STAMP.read_text() == key and _runs():
        return False
    environment = {
        k: v for k, v in os.environ.items() if k not in ("PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PYTHONPATH")
    }
    if not _runs():
        say("making .venv")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True, env=environment)
    STAMP.unlink(missing_ok=True)
    say("installing Python packages into .venv from requirements.lock")
    pip = [str(PYTHON), "-m", "pip", "--quiet", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run(
        [*pip, "--require-hashes", "--requirement", "requirements.lock"], check=True, cwd=ROOT, env=environment
    )
    subprocess.run(
        [*pip, "--no-build-isolation", "--no-deps", "--editable", "."], check=True, cwd=ROOT, env=environment
    )
    STAMP.write_text(key)
    return True


def _runs() -> bool:
    """Tell whether `.venv` holds this very version of Python, and pip."""
    if not PYTHON.exists():
        return False
    code = "import importlib.util, sys; print(sys.version if importlib.util.find_spec('pip') else 'no pip')"
    probe = subprocess.run([str(PYTHON), "-I", "-c", code], check=False, capture_output=True, text=True)
    return probe.stdout == sys.version + "\n"


def _key() -> str:
    """Return what the contents of `.venv` depend on, as one digest."""
    hasher = hashlib.sha256()
    for name in ("requirements.lock", "pyproject.toml"):
        hasher.update((ROOT / name).read_bytes())
    hasher.update(f"{VENV} {sys.version}".encode())
    return hasher.hexdigest() + "\n"


def _byte_compile() -> None:
    """Compile the sources whose byte code is missing or old: services start faster, whoever starts them."""
    for name in SOURCES:
        if (ROOT / name).is_dir():
            compileall.compile_dir(ROOT / name, quiet=2)


def say(text: str) -> None:
    """Tell what is being done, on stderr."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
