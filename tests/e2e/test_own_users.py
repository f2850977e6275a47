"""Users of a container's own: what becomes of files that have other owners on the host, in images and in bundles."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from scripts.lab.images import busybox
from scripts.lab.registry import Registry
from scripts.lab.stack import Stack

MAP = "0:100000:65536"
CHANGE = "echo a > /file; chown 1000:5 /file; mkdir -m 700 /srv; echo b > /srv/own; chmod 600 /srv/own; id -u"


@pytest.fixture
def passable(stack: Stack) -> Iterator[None]:
    """Users of containers may pass the stack's directory."""
    before = stack.base.stat().st_mode
    stack.base.chmod(before | 0o011)
    try:
        yield
    finally:
        stack.base.chmod(before)


@pytest.mark.usefixtures("passable")
def test_image_of_a_container_with_users_of_its_own_has_the_owners_that_it_saw(
    stack: Stack, registry: Registry
) -> None:
    """Its layer has no id of the host, so that it runs with any map and with none; what only got the host's ids is no change."""
    base = registry.push(busybox().build(), "e2e/users:1")
    try:
        done = stack.hythe("run", "--name", "mapped", "--uidmap", MAP, base, "sh", "-c", CHANGE)
        assert (done.code, done.stdout) == (0, "0\n"), done.stderr
        changes = stack.hythe("diff", "mapped").stdout.splitlines()
        assert changes == ["A /file", "A /srv", "A /srv/own"]
        done = stack.hythe("commit", "mapped", "local/users:1")
        assert done.code == 0, done.stderr
        for flags in ((), ("--uidmap", MAP), ("--uidmap", "0:300000:2000")):
            look = "stat -c '%u:%g' /file /srv /srv/own /etc; cat /file /srv/own; echo more >> /etc/passwd"
            done = stack.hythe("run", "--rm", *flags, "local/users:1", "sh", "-c", look)
            assert (done.code, done.stdout) == (0, "1000:5\n0:0\n0:0\n0:0\na\nb\n"), done.stderr
    finally:
        stack.hythe("rm", "-f", "mapped")
        stack.hythe("rmi", "local/users:1", base)


@pytest.mark.usefixtures("passable")
def test_bundle_with_users_of_its_own_starts_here_and_elsewhere(stack: Stack, registry: Registry) -> None:
    """Its files belong to those users, also when it was packed and unpacked, and runc alone starts it."""
    base = registry.push(busybox().build(), "e2e/users:2")
    place = stack.base / "carried"
    place.mkdir(mode=0o711)
    made, again = str(place / "made"), str(place / "again")
    try:
        look = "id -u; stat -c '%u:%g' / /etc; echo c > /etc/new && cat /etc/new"
        done = stack.hythe("bundle", "create", "-q", "--uidmap", MAP, base, made, "sh", "-c", look)
        assert done.code == 0, done.stderr
        assert stack.hythe("bundle", "pack", "-q", made, "-o", f"{made}.tar").code == 0
        assert stack.hythe("bundle", "unpack", "-q", f"{made}.tar", again).code == 0
        for directory in (made, again):
            done = stack.hythe("bundle", "run", "--rm", directory)
            assert (done.code, done.stdout) == (0, "0\n0:0\n0:0\nc\n"), done.stderr
        name = f"{stack.host}-users"
        command = ["runc", "--root", str(place / "runc"), "run", "-b", made, name]
        by_hand = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert by_hand.stdout == "0\n0:0\n0:0\nc\n", by_hand.stderr
    finally:
        stack.hythe("bundle", "rm", made, again)
        stack.hythe("rmi", base)
        shutil.rmtree(place)


@pytest.mark.usefixtures("passable")
def test_packing_a_container_with_users_of_its_own_is_refused(stack: Stack, registry: Registry) -> None:
    """Its image's files have the image's owners and its own those of the host: no bundle could say both."""
    base = registry.push(busybox().build(), "e2e/users:3")
    file = stack.base / "packed.tar"
    try:
        assert stack.hythe("run", "--name", "mapped", "--uidmap", MAP, base, "true").code == 0
        done = stack.hythe("bundle", "pack", "mapped", "-o", str(file))
        assert done.code == 6 and "its users are its own" in done.stderr and not file.exists()
    finally:
        stack.hythe("rm", "-f", "mapped")
        stack.hythe("rmi", base)
