"""A network namespace that reaches what this machine reaches: a veth pair and address translation, both removed again."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
PREFIX = "hythe-fresh-"


@contextlib.contextmanager
def namespace(token: str) -> Iterator[Path]:
    """Make a network namespace for the duration of a block and return its file.

    Args:
        token: up to 8 letters or digits that make the names unique.

    Raises:
        subprocess.CalledProcessError: the kernel or iptables refused a step.
    """
    name, outer, inner = f"{PREFIX}{token}", f"hyo{token}", f"hyi{token}"
    net = _free_net()
    gateway, address = net[1], net[2]
    rules = [
        ("nat", "POSTROUTING", ["-s", str(net), "!", "-o", outer, "-j", "MASQUERADE"]),
        ("filter", "FORWARD", ["-i", outer, "-j", "ACCEPT"]),
        ("filter", "FORWARD", ["-o", outer, "-j", "ACCEPT"]),
    ]
    forwarding = _FORWARD.read_text()
    with contextlib.ExitStack() as undo:
        _ip("netns", "add", name)
        undo.callback(_ip, "netns", "delete", name)
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
        undo.callback(_ip, "link", "delete", outer)
        _ip("address", "add", f"{gateway}/{net.prefixlen}", "dev", outer)
        _ip("link", "set", outer, "up")
        _ip("-n", name, "address", "add", f"{address}/{net.prefixlen}", "dev", inner)
        _ip("-n", name, "link", "set", inner, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "route", "add", "default", "via", str(gateway))
        for table, chain, rule in rules:
            _iptables(table, "-I", chain, rule)
            undo.callback(_iptables, table, "-D", chain, rule)
        undo.callback(_FORWARD.write_text, forwarding)
        _FORWARD.write_text("1\n")
        yield Path("/run/netns") / name


def _free_net() -> ipaddress.IPv4Network:
    """Return a random private /30 that no route of this machine covers, but for the default route."""
    shown = subprocess.run(["ip", "-json", "-4", "route", "show", "table", "all"], check=True, capture_output=True)
    taken = [ipaddress.IPv4Network(route["dst"]) for route in json.loads(shown.stdout) if route["dst"] != "default"]
    while True:
        net = ipaddress.IPv4Network((0x0A000000 | random.getrandbits(22) << 2, 30))
        if not any(net.overlaps(other) for other in taken):
            return net


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _iptables(table: str, action: str, chain: str, rule: list[str]) -> None:
    subprocess.run(["iptables", "--wait", "--table", table, action, chain, *rule], check=True)
