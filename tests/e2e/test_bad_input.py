"""What goes wrong is said clearly, with a documented exit code, and nothing is left behind."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.lab.images import ImageBuilder, Layer, busybox
from scripts.lab.registry import Registry
from scripts.lab.stack import Completed, Stack
from tests.e2e.test_run import assert_nothing_of_containers
from tests.fakes import faults
from tests.fakes.registry import FakeRegistry


def assert_clear(done: Completed, *words: str) -> None:
    """Fail unless stderr has the shape of an error (what, next, trace) and each of `words`, and no traceback."""
    assert done.stderr.startswith("error: ") or "\nerror: " in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(r"\n  next: +\S", done.stderr), done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def blobs(stack: Stack) -> set[str]:
    """Return the names of all blobs and ingests in the stack's content store."""
    content = stack.root / "content"
    return {str(path.relative_to(content)) for path in content.rglob("*") if path.is_file()}


def images(stack: Stack) -> str:
    """Return the references of all images of the stack."""
    return stack.hythe("images", "--format", "{{.Reference}}").stdout


def test_unknown_image_is_said_to_be_unknown(stack: Stack, registry: Registry) -> None:
    """An image that the registry does not have: 125, the reference, the registry's word, a trace id."""
    before = images(stack)
    done = stack.hythe("run", "--rm", f"{registry.address}/no/such:thing", "true")
    assert done.code == 125
    assert_clear(done, "no/such", "trace:")
    assert images(stack) == before
    assert_nothing_of_containers(stack)
    assert stack.hythe("ps", "-a", "-q").stdout == ""


def test_unreachable_registry_is_named(stack: Stack) -> None:
    """A registry that nobody listens at is named with its address, quickly."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    done = stack.hythe("pull", f"{address}/busybox:latest")
    assert done.code not in (0, 125)
    assert_clear(done, address)
    assert done.seconds < 5


def test_layer_that_is_not_what_its_digest_says_is_refused(stack: Stack, fake_registry: FakeRegistry) -> None:
    """A registry that lies about a layer: refused, no blob of that digest, no name registered, nothing of the container."""
    image = busybox().layer(Layer().file("lie", os.urandom(32))).build()
    reference = fake_registry.serve(image, "liar:latest")
    fake_registry.break_at(re.escape(image.layers[-1].digest), faults.other_bytes())
    before = images(stack)
    for arguments in (["pull", reference], ["run", "--rm", reference, "true"]):
        done = stack.hythe(*arguments)
        assert done.code == (125 if arguments[0] == "run" else done.code) != 0
        assert_clear(done, image.layers[-1].digest[7:19])
    assert not any(image.layers[-1].digest[7:] in name for name in blobs(stack))
    assert not any(name.startswith("ingest") for name in blobs(stack))
    assert images(stack) == before
    assert_nothing_of_containers(stack)
    assert stack.hythe("ps", "-a", "-q").stdout == ""


def test_document_that_is_manifest_and_index_is_refused(stack: Stack, fake_registry: FakeRegistry) -> None:
    """A manifest that is an index as well is ambiguous and refused (CVE-2021-41190)."""
    image = busybox().build()
    fake_registry.serve(image, "both:honest")
    reference = fake_registry.serve_manifest(faults.both_manifest_and_index(image), "both:latest")
    done = stack.hythe("pull", reference)
    assert done.code != 0
    assert_clear(done, "manifest", "index")
    assert "both" not in images(stack)


def test_command_not_in_the_image_exits_127_with_runcs_word(stack: Stack, busybox: str) -> None:
    """A command that the image does not have: 127, and runc's own message is shown."""
    done = stack.hythe("run", "--rm", busybox, "no-such-command")
    assert done.code == 127
    assert_clear(done, "no-such-command", "executable file not found", "trace:")
    assert_nothing_of_containers(stack)
    assert stack.hythe("ps", "-a", "-q").stdout == ""


def test_command_that_is_no_program_exits_126(stack: Stack, busybox: str) -> None:
    """A file that may not be executed: 126."""
    done = stack.hythe("run", "--rm", busybox, "/etc/passwd")
    assert done.code == 126
    assert_clear(done, "permission denied")
    assert_nothing_of_containers(stack)


def test_name_that_is_taken_is_refused_and_says_by_whom(stack: Stack, busybox: str) -> None:
    """A name in use: 125, the holder's id, and the holder is not touched."""
    first = stack.hythe("run", "-d", "--name", "taken", busybox, "sleep", "600")
    try:
        done = stack.hythe("run", "--rm", "--name", "taken", busybox, "true")
        assert done.code == 125
        assert_clear(done, "taken", first.stdout[:12])
    finally:
        assert stack.hythe("rm", "-f", "taken").code == 0
    assert_nothing_of_containers(stack)


def test_malformed_reference_and_name_are_refused_before_anything_happens(stack: Stack, busybox: str) -> None:
    """A reference or name that breaks the rules is refused with its rule."""
    for arguments in (["run", "UPPER/case:tag", "true"], ["run", "--name", "-x;y", busybox, "true"], ["pull", "a//b"]):
        done = stack.hythe(*arguments)
        assert done.code != 0
        assert "Traceback" not in done.stderr
        assert done.stderr.strip()
    assert stack.hythe("ps", "-a", "-q").stdout == ""


def test_missing_nats_server_is_named_with_what_installs_it(make_stack: Callable[..., Stack]) -> None:
    """Without nats-server `hythe up` says which program is missing and how to get it."""
    stack = make_stack(variables={"HYTHE_NATS_SERVER": "/nowhere/nats-server"})
    done = stack.hythe("up", "--detach")
    assert done.code != 0
    assert_clear(done, "nats-server")
    assert stack.places.left_behind() == []


@pytest.mark.parametrize("program", ["runc", "conmon"])
def test_missing_runtime_program_is_named(make_stack: Callable[..., Stack], program: str, tmp_path: Path) -> None:
    """Without runc or conmon `hythe up` says which is missing and the Debian package that has it."""
    for name in ("runc", "conmon", "nats-server"):
        found = shutil.which(name)
        if name != program and found is not None:
            (tmp_path / name).symlink_to(found)
    stack = make_stack(variables={"PATH": str(tmp_path)})
    done = stack.hythe("up", "--detach")
    assert done.code != 0
    assert_clear(done, program, f"apt-get install {program}")
    assert stack.places.left_behind() == []


def test_not_root_is_said(make_stack: Callable[..., Stack]) -> None:
    """`hythe up` as another user says that it needs root."""
    stack = make_stack()
    stack.base.chmod(0o755)
    # The checkout may lie where another user cannot read it, so the user changes once the program is loaded.
    code = (
        "import os, sys, hythe.cli.main, hythe.cli.stack, hythe.cli.failure, hythe.stack.up;"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(hythe.cli.main.main(['up', '--detach']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=stack.environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert "root" in done.stderr
    assert "Traceback" not in done.stderr


def test_bus_port_that_is_taken_is_named(make_stack: Callable[..., Stack]) -> None:
    """`HYTHE_NATS_PORT` in use by another program: the port is named, and nothing runs on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        stack = make_stack(variables={"HYTHE_NATS_PORT": str(port)})
        done = stack.hythe("up", "--detach")
        assert done.code != 0
        assert_clear(done, str(port))
        assert stack.places.settled() == []


def test_pull_on_a_full_disk_fails_clearly_and_leaves_no_part(
    make_stack: Callable[..., Stack], small_disk: Callable[[int], Path], registry: Registry
) -> None:
    """A layer larger than the disk: said to be a full disk, no blob, no ingest, no name; a small image still runs after."""
    disk = small_disk(96)
    stack = make_stack(root=disk / "root", variables={"HYTHE_DISK_RESERVE": "4194304"})
    stack.up()
    small = registry.push(busybox().build(), "small:latest")
    assert stack.hythe("run", "--rm", small, "true").code == 0
    before = blobs(stack)
    large = ImageBuilder().layer(Layer().file("large", os.urandom(120 << 20)), "none").config(Cmd=["true"]).build()
    reference = registry.push(large, "large:latest")
    for arguments in (["pull", reference], ["run", "--rm", reference, "true"]):
        done = stack.hythe(*arguments, timeout_s=60)
        assert done.code != 0
        assert_clear(done, "space")
    layer = large.layers[0].digest[7:]
    assert not any(layer in name for name in blobs(stack))
    assert {name for name in blobs(stack) - before if name.startswith("ingest")} == set()
    assert reference not in images(stack)
    assert_nothing_of_containers(stack)
    assert stack.hythe("run", "--rm", small, "echo", "goes on").stdout == "goes on\n"


def test_below_the_reserve_create_is_refused_and_stop_still_works(
    make_stack: Callable[..., Stack], small_disk: Callable[[int], Path], registry: Registry
) -> None:
    """On a disk below the reserve a new container is refused; the running one can be stopped and removed."""
    disk = small_disk(96)
    stack = make_stack(root=disk / "root", variables={"HYTHE_DISK_RESERVE": "8388608"})
    stack.up()
    image = registry.push(busybox().build(), "small:latest")
    assert stack.hythe("run", "-d", "--name", "runs", image, "sleep", "600").code == 0
    usage = os.statvfs(disk)
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, usage.f_bavail * usage.f_frsize - (2 << 20))
    done = stack.hythe("run", "--rm", image, "true")
    assert done.code == 125
    assert_clear(done, "free", "reserve")
    filler.unlink()
    assert stack.hythe("rm", "-f", "runs").code == 0
    assert_nothing_of_containers(stack)


def test_image_user_out_of_range_is_refused(stack: Stack, registry: Registry) -> None:
    """USER 4294967296 in an image config never becomes root (CVE-2024-40635)."""
    reference = registry.push(busybox().config(User="4294967296").build(), "overflow:latest")
    done = stack.hythe("run", "--rm", reference, "id", "-u")
    assert done.code == 125
    assert_clear(done, "4294967296")
    assert_nothing_of_containers(stack)


def test_unknown_option_is_a_usage_error(stack: Stack) -> None:
    """A misspelt option is a usage error that names it."""
    done = stack.hythe("run", "--no-such-option", "image")
    assert done.code in (2, 125)
    assert "--no-such-option" in done.stderr
