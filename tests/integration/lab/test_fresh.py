"""What `make fresh-test` puts a bare system into: a network of its own that reaches out, cgroups of its own; both go again."""

from __future__ import annotations

import secrets
import socket
import subprocess
from pathlib import Path

from scripts.lab import cgroup_room, network

FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


def kernel_state() -> list[str]:
    """Return what setting up a network changes on this machine."""
    commands = (["ip", "-br", "link"], ["iptables", "-t", "nat", "-S"], ["iptables", "-S", "FORWARD"], ["ip", "netns"])
    shown = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for command in commands]
    return [*shown, FORWARD.read_text()]


def test_network_namespace_reaches_this_machines_addresses_and_is_undone() -> None:
    """From inside, a server on another address of this machine answers; afterwards links, rules and forwarding are as before."""
    before = kernel_state()
    token = secrets.token_hex(3)
    with network.namespace(token) as namespace:
        inside = ["nsenter", f"--net={namespace}"]
        shown = subprocess.run([*inside, "ip", "-4", "route"], check=True, capture_output=True, text=True).stdout
        gateway = shown.split()[2]
        with socket.create_server((gateway, 0)) as server:
            port = server.getsockname()[1]
            code = f"import socket; print(socket.create_connection(('{gateway}', {port}), 5).recv(5).decode())"
            client = subprocess.Popen([*inside, "python3", "-c", code], stdout=subprocess.PIPE, text=True)
            server.settimeout(10)
            connection, _ = server.accept()
            connection.sendall(b"hello")
            connection.close()
            assert client.communicate(timeout=10)[0] == "hello\n"
        assert FORWARD.read_text() == "1\n"
    assert kernel_state() == before


def test_room_in_every_hierarchy_tells_what_was_made_inside_and_is_removed() -> None:
    """Cgroups made in the room are listed, innermost first, and go with it."""
    with cgroup_room.room(f"hythe-room-{secrets.token_hex(3)}") as hierarchies:
        rooms = [hierarchy.room for hierarchy in hierarchies]
        assert rooms and all(hierarchy.made_inside() == [] for hierarchy in hierarchies)
        (rooms[0] / "a/b").mkdir(parents=True)
        assert hierarchies[0].made_inside() == [rooms[0] / "a/b", rooms[0] / "a"]
    assert not any(room.exists() for room in rooms)
