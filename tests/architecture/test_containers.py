"""The container images and the Compose file: one wheel, a target per process, valid for the Compose that Debian has."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CORE = {"nats", "metadata", "distribution", "bundle", "runtime", "agent"}
BESIDE = {"s3", "redis", "jaeger"}


def compose() -> dict[str, Any]:
    """Return all services of compose.yaml, as docker-compose understands them."""
    command = ["docker-compose", "--file", str(ROOT / "compose.yaml"), "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Debian's docker-compose prints YAML only; its own Python has the reader for it.
    code = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)['services']))"
    read = subprocess.run(
        ["/usr/bin/python3", "-c", code], input=done.stdout, capture_output=True, text=True, check=True
    )
    services: dict[str, Any] = json.loads(read.stdout)
    return services


def stages() -> dict[str, str]:
    """Return what each named stage of the Dockerfile is built from."""
    pairs = re.findall(r"^FROM (\S+) AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    return {name: base for base, name in pairs}


def test_core_starts_by_itself_and_neighbours_on_request() -> None:
    """Plain `up` starts exactly the processes of `hythe up`; S3, Redis and Jaeger come each with a profile."""
    profiles = {name: service.get("profiles", []) for name, service in compose().items()}
    assert profiles == {**{name: [] for name in CORE}, **{name: [name] for name in (*BESIDE, "cli")}}


def test_each_service_is_built_from_a_target_of_its_own() -> None:
    """Each of our services names a target of the Dockerfile, and the command of that target is installed."""
    services = compose()
    targets = {name: service["build"]["target"] for name, service in services.items() if "build" in service}
    assert targets == {name: name for name in CORE | {"cli"}}
    assert set(targets) <= set(stages())
    installed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"])
    commands = re.findall(
        r'^(?:CMD|ENTRYPOINT) \[.*"(hythe[a-z-]*)"\]', (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    assert set(commands) == installed


def test_the_wheel_is_built_once() -> None:
    """Every process is installed from the same stage with the same wheels, and only wheels checked by hash."""
    found = stages()
    assert {found[f"install-{name}"] for name in CORE | {"cli"}} == {"wheels"}
    text = (ROOT / "Dockerfile").read_text()
    assert text.count("pip wheel") == 2
    assert "--require-hashes" in text
    installs = [line for line in text.splitlines() if "pip install" in line]
    assert all("--no-index" in line for line in installs)


def test_containers_outlive_the_agent() -> None:
    """The agent sees the host's processes and cgroups, and its mounts reach the host: restarting it ends no container."""
    agent = compose()["agent"]
    assert agent["pid"] == "host" and agent["privileged"] is True
    assert "/var/lib/hythe:/var/lib/hythe:rshared" in agent["volumes"]
    assert any(volume.startswith("/sys/fs/cgroup:") for volume in agent["volumes"])


def test_the_bus_of_the_core_stays_on_loopback() -> None:
    """Nothing of the core is published on another address than loopback."""
    for name, service in compose().items():
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", [])), name
