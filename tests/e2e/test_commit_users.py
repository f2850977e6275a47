"""Containers with users of their own: what `hythe diff` and `hythe commit` make of files that have other owners on the host."""

from __future__ import annotations

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
