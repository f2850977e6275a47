"""A bundle made from an image runs with a real runc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hythe_bundle.wishes import Wishes
from scripts.lab.images import ImageBuilder, Layer, busybox
from tests.fixtures.bundles import Rig
from tests.fixtures.runtimes import Runtime, runtime


@pytest.fixture
def runc(tmp_path: Path) -> Iterator[Runtime]:
    """A runc of this test; nothing of it is left at the end."""
    with runtime(tmp_path / "runc") as made:
        yield made


async def run(rig: Rig, runc: Runtime, image: ImageBuilder, *args: str, wishes: Wishes | None = None) -> str:
    """Run `args` in `image` and return what it prints."""
    target = rig.blobs.add(image.build())
    request = rig.request(target, replace(wishes or Wishes(), args=args))
    done = runc.run(await rig.bundles.prepare(request, rig.reports.append))
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_busybox_says_hello(rig: Rig, runc: Runtime) -> None:
    """From layers to output: unpacked, prepared, mounted, run by runc."""
    assert await run(rig, runc, busybox(), "echo", "hello") == "hello\n"


async def test_image_decides_what_the_request_leaves_open(rig: Rig, runc: Runtime) -> None:
    """Entry point, environment, directory and user come from the image, groups from its /etc/group."""
    image = busybox().config(
        Entrypoint=["/bin/sh", "-c"],
        Cmd=['pwd; id -u; id -g; id -G; echo "$A $HOSTNAME"; hostname'],
        Env=["PATH=/bin", "A=of the image"],
        WorkingDir="/made/by/runc",
        User="app",
    )
    image = image.layer(Layer().file("etc/passwd", b"app:x:7:8::/:\n").file("etc/group", b"g:x:9:app\n"))
    out = (await run(rig, runc, image)).splitlines()
    name = out[-1]
    assert out == ["/made/by/runc", "7", "8", "8 9", f"of the image {name}", name] and len(name) == 12


async def test_container_is_confined(rig: Rig, runc: Runtime) -> None:
    """Few capabilities, none to inherit, a filter on, no new devices, masked and read-only paths, a network of its own."""
    script = """
        grep -E 'Cap(Inh|Prm|Bnd|Amb)|Seccomp:|NoNewPrivs' /proc/self/status
        ls /proc/self/fd | wc -l
        cat /proc/keys /proc/timer_list 2>/dev/null | wc -c
        exec 2>&1; touch /sys/x; touch /proc/sys/kernel/hostname
        ls /sys/class/net; cat /sys/class/net/lo/operstate; ping -c1 -W1 localhost > /dev/null && echo pong
        unshare -m true
        mknod /dev/sda b 8 0 && cat /dev/sda
        cat /proc/self/cgroup | cut -d: -f3 | sort -u
    """
    out = (await run(rig, runc, busybox(), "sh", "-c", script)).splitlines()
    assert out[:6] == [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t0",
        "Seccomp:\t2",
    ]
    assert out[6:8] == ["4", "0"]
    assert "Read-only file system" in out[8] and "Read-only file system" in out[9]
    assert out[10:13] == ["lo", "unknown", "pong"]
    assert "Operation not permitted" in out[13] and "Operation not permitted" in out[14]
    assert out[15:] == ["/"]


async def test_wishes_are_fulfilled(rig: Rig, runc: Runtime) -> None:
    """User, host name, environment and directory of the request are what the process has; the root can be read-only."""
    wishes = Wishes(user="5:6", hostname="web", env=("A=1",), cwd="/tmp", read_only=True)
    script = "id -u; id -G; hostname; echo $A; pwd; touch /tmp/x 2>&1; cat /etc/hosts /etc/hostname"
    out = (await run(rig, runc, busybox(), "sh", "-c", script, wishes=wishes)).splitlines()
    assert out[:5] == ["5", "6", "web", "1", "/tmp"] and "Read-only file system" in out[5]
    assert out[6:] == ["127.0.0.1\tlocalhost web", "::1\tlocalhost ip6-localhost ip6-loopback", "web"]


def network_of_this_machine() -> tuple[list[str], str]:
    """Return the names of the interfaces and the text of /etc/hosts."""
    return sorted(path.name for path in Path("/sys/class/net").iterdir()), Path("/etc/hosts").read_text()


async def test_host_network_is_the_hosts(rig: Rig, runc: Runtime) -> None:
    """On the host's network the container sees its interfaces, addresses and resolver, and can't change their files."""
    script = "ls /sys/class/net | sort; echo x >> /etc/hosts; cat /etc/hosts; hostname"
    wishes = Wishes(network="host")
    out = await run(rig, runc, busybox(), "sh", "-c", f"exec 2>/dev/null; {script}", wishes=wishes)
    interfaces, hosts = network_of_this_machine()
    assert out.splitlines()[: len(interfaces)] == interfaces
    assert hosts in out and out.endswith(f"{os.uname().nodename}\n")


async def test_two_containers_of_one_image_share_no_write(rig: Rig, runc: Runtime) -> None:
    """What one writes, the other doesn't see; the image stays as it was."""
    script = "cat /etc/x 2>/dev/null; echo written > /etc/x; rm /bin/busybox; echo done"
    for _ in range(2):
        assert await run(rig, runc, busybox(), "sh", "-c", script) == "done\n"


async def test_command_that_is_missing_is_the_runtimes_to_say(rig: Rig, runc: Runtime) -> None:
    """A command that the image doesn't have gets a bundle; runc says what is wrong."""
    target = rig.blobs.add(busybox().build())
    bundle = await rig.bundles.prepare(rig.request(target, Wishes(args=("nope",))), rig.reports.append)
    assert "executable file not found" in runc.run(bundle).stderr
