"""Files that give a container its names: /etc/hostname, /etc/hosts and what else fits the network that it has."""

from __future__ import annotations

from pathlib import Path

from hythe_bundle import command
from hythe_bundle.host_facts import HostFacts
from hythe_bundle.mounts import BoundFile
from hythe_bundle.wishes import Wishes

_HOSTNAME, _HOSTS = "hostname", "hosts"
FILES = (_HOSTS, _HOSTNAME)


def texts(wishes: Wishes, container_id: str, host: HostFacts) -> dict[str, str]:
    """Return the files of the bundle by name: those of `FILES` that the container gets.

    Raises:
        InvalidArgument: see `command.hostname`.
    """
    hostname = command.hostname(wishes, container_id, host.name)
    made = {_HOSTNAME: f"{hostname}\n"}
    if wishes.network != "host":
        own = f"{hostname}.{wishes.domainname} {hostname}" if wishes.domainname else hostname
        made[_HOSTS] = f"127.0.0.1\tlocalhost {own}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    return made


def bound(wishes: Wishes, bundle: Path, host: HostFacts) -> list[BoundFile]:
    """Return what is bound over the image's files; a container on the host's network gets the host's own, read-only."""
    made = [BoundFile("/etc/hostname", str(bundle / _HOSTNAME), read_only=False)]
    if wishes.network == "host":
        made += [BoundFile(name, name, read_only=True) for name in host.network_files]
    else:
        made.append(BoundFile("/etc/hosts", str(bundle / _HOSTS), read_only=False))
    return made
