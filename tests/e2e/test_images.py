"""`hythe images` and its like: what a user may rely on about getting, keeping, showing and sending images."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scripts.lab.images import Image, ImageBuilder, Layer, busybox, digest_text, index
from scripts.lab.registry import Registry
from scripts.lab.stack import Stack
from tests.fakes import faults
from tests.fakes.registry import FakeRegistry
from tests.fixtures.waiting import eventually

USER, PASSWORD = "ann", "correct-horse"
HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuuZ0Fx87Pb/Aqb0E90lfvCwzXnaFKUHpS\n"
BIG_BYTES = 12 << 20


def rows(stack: Stack, *arguments: str) -> list[dict[str, Any]]:
    """Return what `hythe images ls --format json` lists."""
    done = stack.hythe("images", "ls", *arguments, "--format", "json")
    assert done.code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def image_with(data: bytes, *, architecture: str = "amd64", **config: Any) -> Image:
    """Return an image of one layer that holds `data`; as different images as there are data."""
    builder = ImageBuilder(architecture=architecture) if architecture != "amd64" else ImageBuilder()
    return builder.layer(Layer().file("data", data), "none").config(Cmd=["/data"], **config).build()


def big_image() -> Image:
    """Return an image whose layer takes several reads to come."""
    return ImageBuilder().layer(Layer().file("big", os.urandom(BIG_BYTES)), "none").config(Cmd=["/big"]).build()


@pytest.fixture
def private_registry(tmp_path: Path) -> Iterator[Registry]:
    """A real registry that wants a login."""
    with Registry(tmp_path / "private", htpasswd=HTPASSWD) as registry:
        yield registry


def test_image_is_pulled_listed_tagged_shown_and_removed(stack: Stack, registry: Registry) -> None:
    """The verbs that everybody knows, with Docker's columns and words."""
    reference = registry.push(busybox().config(Labels={"for": "verbs"}).build(), "e2e/verbs:1")
    assert stack.hythe("pull", reference).code == 0
    listed = stack.hythe("images", "--digests", "--filter", "reference=*/e2e/verbs")
    assert listed.stdout.splitlines()[0].split("  ")[0] == "REPOSITORY"
    assert [word for word in ("TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE") if word not in listed.stdout] == []
    assert f"{registry.address}/e2e/verbs" in listed.stdout
    other = f"{registry.address}/e2e/verbs:again"
    assert stack.hythe("tag", reference, other).code == 0
    (image_id,) = stack.hythe("images", "-q", "--filter", "reference=*/e2e/verbs").stdout.split()
    details = json.loads(stack.hythe("images", "inspect", image_id).stdout)[0]
    assert sorted(details["RepoTags"]) == sorted([reference, other])
    assert details["Config"]["Cmd"] == ["sh"]
    shown = stack.hythe("images", "inspect", "--format", "{{json .Config.Cmd}} {{.Os}}", reference)
    assert shown.stdout.strip() == '["sh"] linux'
    assert "SIZE" in stack.hythe("images", "history", reference).stdout
    assert stack.hythe("images", "check", reference).code == 0
    untagged = stack.hythe("rmi", other)
    assert (untagged.code, untagged.stdout) == (0, f"Untagged: {other}\n")
    gone = stack.hythe("rmi", reference)
    assert gone.stdout.splitlines()[0] == f"Untagged: {reference}"
    assert gone.stdout.splitlines()[1].startswith("Deleted: sha256:")
    assert stack.hythe("images", "inspect", reference).code == 3


def test_image_that_a_container_uses_is_not_removed(stack: Stack, registry: Registry) -> None:
    """An image in use stays unless one insists, and it is said who uses it."""
    reference = registry.push(busybox().config(Labels={"for": "use"}).build(), "e2e/used:1")
    assert stack.hythe("run", "-d", "--name", "user", reference, "sleep", "600").code == 0
    refused = stack.hythe("rmi", reference)
    assert refused.code == 6
    assert "user" in refused.stderr
    assert stack.hythe("rm", "-f", "user").code == 0
    assert stack.hythe("rmi", reference).code == 0


def test_moved_tag_leaves_a_dangling_image_that_prune_removes(fresh_stack: Stack, registry: Registry) -> None:
    """An image that lost its tag is still there as <none>, until it is pruned."""
    reference = registry.push(image_with(b"old"), "e2e/moving:1")
    assert fresh_stack.hythe("pull", "--no-unpack", reference).code == 0
    registry.push(image_with(b"new"), "e2e/moving:1")
    assert fresh_stack.hythe("pull", "--no-unpack", reference).code == 0
    assert "<none>" in fresh_stack.hythe("images").stdout
    assert len(rows(fresh_stack, "--filter", "dangling=true")) == 1
    assert fresh_stack.hythe("images", "prune").code == 6, "without a terminal it wants -f"
    pruned = fresh_stack.hythe("images", "prune", "-f")
    assert pruned.code == 0, pruned.stderr
    assert "sha256:" in pruned.stdout
    assert [row["reference"] for row in rows(fresh_stack)] == [reference]


def test_image_goes_to_another_registry_unchanged(stack: Stack, registry: Registry, tmp_path: Path) -> None:
    """What is pushed has the digest that was pulled, and skopeo finds it there."""
    reference = registry.push(busybox().config(Labels={"for": "push"}).build(), "e2e/push:1")
    assert stack.hythe("pull", "--no-unpack", reference).code == 0
    with Registry(tmp_path / "second") as second:
        target = f"{second.address}/team/app:2"
        pushed = stack.hythe("push", reference, target, "--progress", "plain")
        assert pushed.code == 0, pushed.stderr
        digest = next(row["digest"] for row in rows(stack) if row["reference"] == reference)
        assert pushed.stdout.strip() == f"{target}@{digest}"
        inspected = subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", f"docker://{target}"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(inspected.stdout)["Digest"] == digest
        again = json.loads(stack.hythe("push", reference, target, "--format", "json").stdout)
        assert (again["existing"], again["mounted"]) == (2, 0)
        assert again["sent_bytes"] < 1000, "only the manifest travels again"


def test_whole_index_is_copied_between_registries(stack: Stack, registry: Registry, tmp_path: Path) -> None:
    """A copy of all platforms has the same digest there, and no name here."""
    both = index([image_with(b"amd64"), image_with(b"arm64", architecture="arm64")])
    source = registry.push(both, "e2e/copy:1")
    with Registry(tmp_path / "second") as second:
        target = f"{second.address}/copied:1"
        copied = stack.hythe("images", "copy", "--all-platforms", source, target)
        assert copied.code == 0, copied.stderr
        assert copied.stdout.strip() == f"{target}@{digest_text(both.root.data)}"
        raw = subprocess.run(
            ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{target}"], capture_output=True, check=True
        )
        assert raw.stdout == both.root.data
    assert source not in [row["reference"] for row in rows(stack)]


def test_all_platforms_of_an_image_are_brought(stack: Stack, registry: Registry) -> None:
    """With --all-platforms every manifest is here whole; without, only this host's."""
    both = index([image_with(b"a64"), image_with(b"r64", architecture="arm64")])
    reference = registry.push(both, "e2e/platforms:1")
    assert stack.hythe("pull", "--no-unpack", reference).code == 0
    here = next(row for row in rows(stack) if row["reference"] == reference)
    assert here["platforms"] == ["linux/amd64"]
    assert stack.hythe("pull", "--all-platforms", "--no-unpack", reference).code == 0
    here = next(row for row in rows(stack) if row["reference"] == reference)
    assert sorted(here["platforms"]) == ["linux/amd64", "linux/arm64"]
    missing = stack.hythe("pull", "--platform", "linux/s390x", reference)
    assert missing.code == 3
    assert "linux/amd64, linux/arm64" in missing.stderr


def test_private_image_needs_a_login_and_the_login_shows_nowhere(
    fresh_stack: Stack, private_registry: Registry
) -> None:
    """A wrong password is refused, a right one is kept and used, and neither appears in a log, trace or event."""
    stack, host = fresh_stack, private_registry.address
    image, reference = busybox().build(), f"{host}/team/secret:1"
    layout = stack.base / "layout.tar"
    assert stack.hythe("login", "-u", USER, "--password-stdin", host, stdin="wrong-horse\n").code == 5
    assert stack.hythe("pull", reference).code == 5
    done = stack.hythe("login", "-u", USER, "--password-stdin", host, stdin=f"{PASSWORD}\n")
    assert (done.code, "Login Succeeded" in done.stdout + done.stderr) == (0, True), done.stderr
    archive(image, reference, layout)
    loaded = stack.hythe("load", "-i", str(layout))
    assert loaded.code == 0, loaded.stderr
    pushed = stack.hythe("push", reference)
    assert pushed.code == 0, pushed.stderr
    assert stack.hythe("rmi", reference).code == 0
    pulled = stack.hythe("run", "--rm", reference, "echo", "in")
    assert (pulled.code, pulled.stdout) == (0, "in\n"), pulled.stderr
    assert stack.hythe("logout", host).code == 0
    traces = stack.hythe("trace", "ls", "--format", "json").stdout
    shown = "".join(
        stack.hythe("trace", "show", json.loads(line)["trace_id"], "--format", "json").stdout
        for line in traces.splitlines()
    )
    said = stack.logs(lines=10_000) + shown + stack.hythe("events", "--since", "1h", "--no-follow").stdout
    assert "registry" in said
    for secret in (PASSWORD, "wrong-horse", "YW5uOmNvcnJlY3QtaG9yc2U="):
        assert secret not in said
    assert secret not in (stack.base / ".docker" / "config.json").read_text()


def archive(image: Image, reference: str, path: Path) -> None:
    """Write `image` as an OCI layout in a tar file, with skopeo, by way of a registry of its own."""
    with Registry(path.parent / "for-archive") as registry:
        source = registry.push(image, "archive:1")
        command = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", f"docker://{source}"]
        subprocess.run([*command, f"docker-archive:{path}:{reference}"], check=True, capture_output=True)


def test_saved_images_are_read_by_skopeo_and_loaded_again(stack: Stack, registry: Registry, tmp_path: Path) -> None:
    """An archive goes through files, pipes and directories, and what comes back is what went in."""
    reference = registry.push(busybox().config(Labels={"for": "save"}).build(), "e2e/save:1")
    assert stack.hythe("pull", "--no-unpack", reference).code == 0
    digest = next(row["digest"] for row in rows(stack) if row["reference"] == reference)
    saved, directory = tmp_path / "saved.tar", tmp_path / "layout"
    directory.mkdir()
    assert stack.hythe("save", "-o", str(saved), reference).code == 0
    inspected = subprocess.run(
        ["skopeo", "inspect", f"oci-archive:{saved}"], capture_output=True, text=True, check=True
    )
    assert json.loads(inspected.stdout)["Digest"] == digest
    assert stack.hythe("images", "export", "-o", f"{directory}/", reference).code == 0
    assert json.loads((directory / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert stack.hythe("rmi", reference).code == 0
    loaded = stack.hythe("load", "-i", str(saved))
    assert (loaded.code, reference in loaded.stdout) == (0, True), loaded.stderr
    assert next(row["digest"] for row in rows(stack) if row["reference"] == reference) == digest
    assert stack.hythe("rmi", reference).code == 0
    imported = stack.hythe("images", "import", str(directory), "named/otherwise:1")
    assert imported.code == 0, imported.stderr
    assert next(row["digest"] for row in rows(stack) if "named/otherwise" in row["reference"]) == digest
    assert stack.hythe("run", "--rm", "named/otherwise:1", "true").code == 0
    broken = tmp_path / "broken.tar"
    broken.write_bytes(saved.read_bytes()[:-30_000])
    assert stack.hythe("load", "-i", str(broken)).code in (2, 8)


def test_ten_pulls_at_once_download_each_blob_once(fresh_stack: Stack, fake_registry: FakeRegistry) -> None:
    """All who want an image share its download."""
    image = big_image()
    reference = fake_registry.serve(image, "shared/app:1")
    with ThreadPoolExecutor(10) as threads:
        codes = list(threads.map(lambda _: fresh_stack.hythe("pull", "--no-unpack", reference).code, range(10)))
    assert codes == [0] * 10
    for blob in image.blobs:
        asked = [each for each in fake_registry.requests if each.method == "GET" and blob.digest in each.path]
        assert len(asked) == 1, blob.media_type


def test_interrupted_pull_is_cancelled_and_goes_on_later(fresh_stack: Stack, fake_registry: FakeRegistry) -> None:
    """Ctrl-C stops the download in the service, keeps what came, and the next pull fetches only the rest."""
    image = big_image()
    layer = image.layers[0]
    reference = fake_registry.serve(image, "interrupted/app:1")
    half = len(layer.data) // 2
    fake_registry.break_at(layer.digest, faults.stalled(half), times=1)
    pull = fresh_stack.popen("pull", "--no-unpack", reference)
    ingest = fresh_stack.root / "content" / "ingest"
    eventually(lambda: any(each.stat().st_size >= half for each in ingest.glob("*/data")), what="half of it is here")
    pull.send_signal(signal.SIGINT)
    out, err = pull.communicate(timeout=20)
    assert pull.returncode == 130, (out, err)
    assert "kept for the next pull" in err
    eventually(lambda: "hythe_fetches_in_flight 0.0" in _metrics(fresh_stack), what="the download has stopped")
    assert fresh_stack.hythe("pull", "--no-unpack", reference).code == 0
    ranges = [each.headers.get("range") for each in fake_registry.requests if layer.digest in each.path]
    assert ranges[-1] == f"bytes={half}-{len(layer.data) - 1}"


def test_killed_service_goes_on_with_what_it_had(fresh_stack: Stack, fake_registry: FakeRegistry) -> None:
    """kill -9 of distribution in the middle of a download loses nothing of what had come."""
    image = big_image()
    layer = image.layers[0]
    reference = fake_registry.serve(image, "killed/app:1")
    half = len(layer.data) // 2
    fake_registry.break_at(layer.digest, faults.stalled(half), times=1)
    pull = fresh_stack.popen("pull", "--no-unpack", reference)
    ingest = fresh_stack.root / "content" / "ingest"
    eventually(lambda: any(each.stat().st_size >= half for each in ingest.glob("*/data")), what="half of it is here")
    pid = _process(fresh_stack, "distribution")["pid"]
    os.kill(pid, signal.SIGKILL)
    pull.communicate(timeout=30)
    eventually(lambda: _process(fresh_stack, "distribution")["pid"] not in (None, pid), timeout_s=20)
    eventually(lambda: fresh_stack.hythe("pull", "--no-unpack", reference).code == 0, timeout_s=20)
    ranges = [each.headers.get("range") for each in fake_registry.requests if layer.digest in each.path]
    assert ranges[-1] == f"bytes={half}-{len(layer.data) - 1}"


def _process(stack: Stack, name: str) -> dict[str, Any]:
    listed = [json.loads(line) for line in stack.hythe("status", "--format", "json").stdout.splitlines()]
    return next(row for row in listed if row["name"] == name)


def _metrics(stack: Stack) -> str:
    port = json.loads((stack.state / "services" / "distribution.json").read_text())["metrics_port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read(), "utf-8")


def test_image_that_a_verifier_refuses_is_not_pulled(
    make_stack: Callable[..., Stack], registry: Registry, tmp_path: Path
) -> None:
    """Each program of the verifiers' directory must allow an image; the one that doesn't is named with its reason."""
    programs = tmp_path / "verifiers"
    programs.mkdir()
    program = programs / "only-signed"
    program.write_text(
        '#!/bin/sh\ncat >/dev/null\ncase "$2" in *allowed*) exit 0;; esac\necho "no signature"\nexit 1\n'
    )
    program.chmod(0o755)
    stack = make_stack(variables={"HYTHE_VERIFIER_DIR": str(programs)})
    stack.up()
    allowed = registry.push(busybox().build(), "e2e/allowed:1")
    refused = registry.push(busybox().build(), "e2e/refused:1")
    assert stack.hythe("pull", "--no-unpack", allowed).code == 0
    done = stack.hythe("run", "--rm", refused, "true")
    assert done.code == 125
    assert "only-signed" in done.stderr
    assert "no signature" in done.stderr


def test_image_comes_from_a_mirror(make_stack: Callable[..., Stack], registry: Registry, tmp_path: Path) -> None:
    """A hosts.toml sends pulls of a registry that is not even there to a mirror of it."""
    directory = tmp_path / "certs.d" / "registry.example"
    directory.mkdir(parents=True)
    (directory / "hosts.toml").write_text(
        f'server = "http://127.0.0.1:1"\n[host."http://{registry.address}"]\ncapabilities = ["pull", "resolve"]\n'
    )
    registry.push(busybox().build(), "mirrored/app:1")
    stack = make_stack(variables={"HYTHE_HOSTS_DIR": str(tmp_path / "certs.d")})
    stack.up()
    done = stack.hythe("run", "--rm", "registry.example/mirrored/app:1", "echo", "hello")
    assert (done.code, done.stdout) == (0, "hello\n"), done.stderr


def test_every_phase_of_a_pull_is_in_its_trace(stack: Stack, registry: Registry) -> None:
    """Who asks why a pull was slow sees resolve, each request, each layer, verify and commit."""
    reference = registry.push(image_with(b"a layer of its own"), "e2e/trace:1")
    done = stack.hythe("pull", "--no-unpack", reference)
    assert done.code == 0
    eventually(lambda: "hythe pull" in stack.hythe("trace", "show", "last").stdout, what="the trace is there")
    shown = stack.hythe("trace", "show", "last").stdout
    for phase in (
        "resolve",
        "registry HEAD manifest",
        "fetch blob",
        "registry GET blob",
        "verify and commit",
        "publish",
    ):
        assert phase in shown, phase
