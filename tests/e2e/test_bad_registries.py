"""Registries that lie, stall, refuse or attack: each time a clear error, and nothing of it stays behind.

Each case is a fault of a registry that speaks HTTP for real, the exit code of `hythe`, and what the error must say. The full
and the read-only disk are in `test_bad_input` and in the tests of the service, S3 that goes away in `test_content_in_s3`,
and a body that stalls, which takes the service 20 s to notice, in `test_images` (with Ctrl-C) and below the HTTP registry.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.lab.images import OCI_INDEX, OCI_MANIFEST, Blob, ImageBuilder, Layer, digest_text, encode, index
from scripts.lab.stack import Completed, Stack
from tests.e2e.test_bad_input import assert_clear
from tests.fakes import faults
from tests.fakes.registry import FakeRegistry, Fault
from tests.fakes.registry_auth import PASSWORD, USER, TokenServer, wants_basic, wants_token
from tests.fixtures.waiting import eventually

BOMB_BYTES = 64 << 20
UPLOADS = "blobs/uploads/$"


class Scene:
    """A registry with one small image, `reference`; a case spoils it."""

    def __init__(self, registry: FakeRegistry) -> None:
        """Serve an image that no other test has."""
        self.registry = registry
        data = Layer().file("data", os.urandom(1000))
        self.image = ImageBuilder().layer(data, "none").config(Cmd=["/data"]).build()
        self.reference = registry.serve(self.image, "bad/app:1")

    @property
    def layer(self) -> Blob:
        """The only layer of the image."""
        return self.image.layers[0]

    def spoil_layer(self, *several: Fault) -> None:
        """Put faults in the way of the layer: all but the last once, the last always."""
        for fault in several[:-1]:
            self.registry.break_at(f"blobs/{self.layer.digest}", fault, times=1)
        self.registry.break_at(f"blobs/{self.layer.digest}", several[-1])

    def spoil_manifest(self, fault: Fault) -> None:
        """Put a fault in the way of all manifests."""
        self.registry.break_at("/manifests/", fault)

    def put(self, data: bytes, media_type: str = OCI_MANIFEST) -> None:
        """Serve any bytes in the place of the manifest."""
        self.registry.serve_manifest(Blob(data, media_type), "bad/app:1")

    def put_layers(self, *layers: dict[str, Any]) -> None:
        """Serve a manifest whose layers are described as the real one, but for what is given."""
        described = [{**self.layer.descriptor(), **fields} for fields in layers]
        self.put(faults.with_fields(self.image.manifest, layers=described).data)

    def put_text(self, old: bytes, new: bytes) -> None:
        """Serve the manifest with a part of it replaced."""
        assert old in self.image.manifest.data
        self.put(self.image.manifest.data.replace(old, new))

    def put_nested(self, depth: int) -> None:
        """Serve an index in an index, `depth` of them."""
        inner = self.image.manifest
        for _ in range(depth):
            entry = inner.descriptor(platform={"os": self.image.os, "architecture": self.image.architecture})
            inner = Blob(encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}), OCI_INDEX)
            self.registry.serve_manifest(inner, "bad/app:1")

    def mend(self) -> None:
        """Be honest again."""
        self.registry.mend()
        self.registry.serve(self.image, "bad/app:1")


@dataclass(frozen=True)
class Case:
    """One way of being bad: how it is brought about, the exit code, and what the error says beside the registry's name."""

    spoil: Callable[[Scene], object]
    code: int
    words: tuple[str, ...] = ()
    names_registry: bool = True


def other_platforms(scene: Scene) -> None:
    """Serve an index for other machines, one of which has a name that clears the screen."""
    names = ("s390x", "\x1b[2Jppc64le")
    images = [ImageBuilder(architecture=name).layer(Layer().file("x"), "none").build() for name in names]
    scene.registry.serve(index(images), "bad/app:1")


def both_kinds(scene: Scene) -> None:
    """Serve a document that is manifest and index."""
    scene.put(faults.both_manifest_and_index(scene.image).data)


def entry_of_another_type(scene: Scene) -> None:
    """Serve an index that calls a manifest an index."""
    entry = {**scene.image.manifest.descriptor(), "mediaType": OCI_INDEX}
    entry["platform"] = {"os": scene.image.os, "architecture": scene.image.architecture}
    scene.put(encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}), OCI_INDEX)


def escaping_refusal() -> Fault:
    """Refuse with an error text that sets a terminal's title and colours."""
    return faults.status(403, encode({"errors": [{"code": "DENIED", "message": "\x1b]0;owned\x07\x1b[31mno"}]}))


def bomb() -> bytes:
    """Return a small file that becomes a large one."""
    return gzip.compress(bytes(BOMB_BYTES))


def encoded_bomb() -> Fault:
    """Send the bomb as a manifest that is to be unpacked by HTTP."""
    return faults.status(200, bomb(), Content_Encoding="gzip", Content_Type=OCI_MANIFEST)


LINK_LOCAL = "http://169.254.169.254/latest/meta-data"

PULLS = {
    "layer of other bytes": Case(lambda s: s.spoil_layer(faults.other_bytes()), 8, ("expected sha256:", "push")),
    "config of other bytes": Case(
        lambda s: s.registry.break_at(s.image.config.digest, faults.other_bytes()), 8, ("resolve", "expected sha256:")
    ),
    "manifest of other bytes": Case(lambda s: s.spoil_manifest(faults.other_bytes()), 8, ("promised", "but sent")),
    "digest that is another's": Case(lambda s: s.spoil_manifest(faults.lying_digest_header()), 3, ("no such image",)),
    "layer too long": Case(lambda s: s.spoil_layer(faults.longer()), 8, ("expected 10240 bytes", "10241")),
    "layer too short": Case(lambda s: s.spoil_layer(faults.shorter()), 8, ("expected 10240 bytes", "10239")),
    "layer without end": Case(lambda s: s.spoil_layer(faults.endless()), 8, ("expected 10240 bytes, got more",)),
    "manifest without end": Case(
        lambda s: s.spoil_manifest(faults.endless(OCI_MANIFEST)), 2, ("more than 4194304 bytes", "pushed again")
    ),
    "connection that hangs up": Case(lambda s: s.spoil_layer(faults.hang_up()), 10, ("fetch", "Remote end closed")),
    "failure without end": Case(lambda s: s.spoil_layer(faults.status(503)), 10, ("HTTP 503", "try again later")),
    "gzip bomb": Case(lambda s: s.put(bomb()), 2, ("not UTF-8", "pushed again")),
    "encoded gzip bomb": Case(lambda s: s.spoil_manifest(encoded_bomb()), 10, ("encoded as 'gzip'", "unasked")),
    "401 whatever the token": Case(
        lambda s: s.spoil_manifest(faults.bearer(never=True)), 5, ("UNAUTHORIZED", "hythe login")
    ),
    "401 with an escape": Case(
        lambda s: s.spoil_manifest(faults.status(401, WWW_Authenticate='Basic realm="\x1b[31m"')), 5, ("wants a login",)
    ),
    "token server in the host's own network": Case(
        lambda s: s.spoil_manifest(wants_token(LINK_LOCAL)), 5, ("token server without TLS", "169.254.169.254")
    ),
    "redirect to itself": Case(
        lambda s: s.spoil_manifest(faults.redirect("/v2/bad/app/manifests/1")), 10, ("redirects more than 5 times",)
    ),
    "redirect into the host's own network": Case(
        lambda s: s.spoil_layer(faults.redirect(LINK_LOCAL)), 5, ("may not be led to", "169.254.169.254", "hosts.toml")
    ),
    "redirect with a password": Case(
        lambda s: s.spoil_layer(faults.redirect("ftp://ann:sesame@x/sesame")), 10, ("no HTTP URL", "ftp://x")
    ),
    "refusal that steers the terminal": Case(lambda s: s.spoil_manifest(escaping_refusal()), 5, ("DENIED", "refuses")),
    "wait of an hour": Case(
        lambda s: s.spoil_manifest(faults.status(429, Retry_After="3600")), 7, ("wait 3600 s", "try again then")
    ),
    "layer that is missing": Case(lambda s: s.spoil_layer(faults.status(404)), 3, ("no such blob", "push the image")),
    "manifest and index at once": Case(both_kinds, 2, ("both an index (manifests) and a manifest",)),
    "manifest offered as index": Case(lambda s: s.put(s.image.manifest.data, OCI_INDEX), 2, ("was offered as",)),
    "manifest that its index calls one": Case(entry_of_another_type, 2, ("mediaType", "was offered as")),
    "indexes in indexes": Case(lambda s: s.put_nested(5), 2, ("nested more than 3 deep",)),
    "negative size": Case(lambda s: s.put_layers({"size": -1}), 2, ("layers[0]: size is -1",)),
    "huge size": Case(lambda s: s.put_layers({"size": 1 << 62}), 2, ("layers[0]: size is 4611686018427387904",)),
    "size beyond all numbers": Case(
        lambda s: s.put_text(b'"size":10240', b'"size":1e999'), 2, ("size is not a whole number",)
    ),
    "size beyond the disk": Case(
        lambda s: s.put_layers({"size": 1 << 40}), 7, ("take in 1099511627776 bytes", "free some space"), False
    ),
    "two sizes of one digest": Case(
        lambda s: s.put_layers({}, {"size": 1}), 2, ("says that it has 10240 bytes, and 1",)
    ),
    "10,000 layers": Case(lambda s: s.put_layers(*[{}] * 10_000), 2, ("10000 items, more than 500",)),
    "digest that is a path": Case(
        lambda s: s.put_layers({"digest": "sha256:../../../../etc/passwd"}), 2, ("parse digest", "64 lower-case hex")
    ),
    "bad UTF-8": Case(lambda s: s.put_text(b'"schema', b'"\xff\xfe'), 2, ("not UTF-8",)),
    "key that stands twice": Case(lambda s: s.put_text(b'"layers"', b'"config":{},"layers"'), 2, ("stands twice",)),
    "unknown type of manifest": Case(
        lambda s: s.put(faults.with_fields(s.image.manifest, mediaType="application/x").data, "application/x"),
        2,
        ("type 'application/x'", "no image manifest or index"),
    ),
    "type of a layer that is a header": Case(
        lambda s: s.put_layers({"mediaType": "a/b\r\nAuthorization: x"}), 2, ("no media type",)
    ),
    "no platform of this host": Case(
        other_platforms, 3, ("linux/s390x", "linux/\\x1b[2jppc64le", "choose one with --platform")
    ),
}


def content_files(stack: Stack) -> set[Path]:
    """Return all files of the content store, and what of it is on its way in."""
    content = stack.root / "content"
    return {path for path in content.rglob("*") if path.is_file() or path.parent == content / "ingest"}


def listed(stack: Stack) -> str:
    """Return what the commands list of images, blobs and ingests."""
    commands = (("images", "--digests", "--no-trunc"), ("content", "ls", "-q"), ("content", "active"))
    done = [stack.hythe(*command) for command in commands]
    assert [each.code for each in done] == [0, 0, 0]
    return "".join(each.stdout for each in done)


def assert_nothing_left(stack: Stack, scene: Scene, before: set[Path]) -> None:
    """Fail if a failed pull left more than whole documents, which no name and no namespace knows."""
    shown = listed(stack)
    for found in (scene.registry.address, *(blob.digest for blob in (scene.image.manifest, *scene.image.blobs))):
        assert found not in shown
    for path in content_files(stack) - before:
        assert path.parent.name == "sha256", path
        data = path.read_bytes()
        assert hashlib.sha256(data).hexdigest() == path.name
        assert path.name != scene.layer.digest[7:]
    eventually(lambda: scene.registry.busy == 0, what="no connection is left in the middle of an answer")


def assert_cannot_steer_the_terminal(done: Completed) -> None:
    """Fail if a control character came through."""
    assert all(line.isprintable() for line in (done.stdout + done.stderr).splitlines()), repr(done.stderr)


@pytest.mark.parametrize("case", PULLS.values(), ids=PULLS)
def test_pull_from_a_bad_registry_fails_clearly_and_leaves_nothing(
    stack: Stack, fake_registry: FakeRegistry, case: Case
) -> None:
    """Exit code, registry, cause, outcome, next step and trace are told; no name, blob, ingest or request stays."""
    scene = Scene(fake_registry)
    case.spoil(scene)
    before = content_files(stack)
    done = stack.hythe("pull", "--no-unpack", scene.reference)
    assert done.code == case.code, done.stderr
    assert_clear(done, "tried: ", "outcome known: ", "trace: ", *case.words)
    assert not case.names_registry or fake_registry.address in done.stderr.partition("error: ")[2].splitlines()[0]
    assert "sesame" not in done.stderr
    assert_cannot_steer_the_terminal(done)
    assert_nothing_left(stack, scene, before)
    scene.mend()
    assert stack.hythe("pull", "--no-unpack", scene.reference).code == 0, "an honest registry is believed again"


def test_pull_that_breaks_off_keeps_what_came_and_nothing_else(stack: Stack, fake_registry: FakeRegistry) -> None:
    """A layer that is cut off again and again is unavailable; its first bytes are not fetched twice."""
    scene = Scene(fake_registry)
    scene.spoil_layer(faults.truncated(100), faults.truncated(0))
    before = content_files(stack)
    done = stack.hythe("pull", "--no-unpack", scene.reference)
    assert done.code == 10
    assert_clear(done, fake_registry.address, "broke off", "bytes are missing", "outcome known: failed", "try again")
    assert fake_registry.address not in listed(stack)
    kept = [path for path in content_files(stack) - before if path.name == "data"]
    assert [path.read_bytes() for path in kept] == [scene.layer.data[:100]]
    scene.mend()
    assert stack.hythe("pull", "--no-unpack", scene.reference).code == 0
    assert fake_registry.requests[-1].headers["range"] == f"bytes=100-{len(scene.layer.data) - 1}"
    assert not kept[0].parent.exists()


def test_bombs_cost_no_memory(stack: Stack, fake_registry: FakeRegistry) -> None:
    """What a registry sends is never unpacked or gathered beyond what a document may have."""
    assert stack.hythe("pull", "--no-unpack", Scene(fake_registry).reference).code == 0
    before = peak_bytes(stack)
    for name in ("gzip bomb", "encoded gzip bomb", "manifest without end", "layer without end"):
        scene = Scene(fake_registry)
        PULLS[name].spoil(scene)
        assert stack.hythe("pull", "--no-unpack", scene.reference).code == PULLS[name].code
        scene.mend()
    assert peak_bytes(stack) - before < BOMB_BYTES // 2


def peak_bytes(stack: Stack) -> int:
    """Return the most memory that the distribution service has had so far."""
    rows = [json.loads(line) for line in stack.hythe("status", "--format", "json").stdout.splitlines()]
    pid = next(row["pid"] for row in rows if row["name"] == "distribution")
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.fixture
def login(stack: Stack, fake_registry: FakeRegistry) -> Iterator[FakeRegistry]:
    """A registry that one is logged in to, and that wants the login for what a test says."""
    fake_registry.break_at("/v2/", wants_basic())
    command = ("login", "-u", USER, "--password-stdin", fake_registry.address)
    assert stack.hythe(*command, stdin=PASSWORD).code == 0
    fake_registry.mend()
    yield fake_registry
    assert stack.hythe("logout", fake_registry.address).code == 0


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    """A second registry."""
    with FakeRegistry() as registry:
        yield registry


def as_another_host(registry: FakeRegistry) -> str:
    """Return the address of a registry under another name of this host."""
    return f"http://localhost:{registry.address.rpartition(':')[2]}"


def logins_seen(registry: FakeRegistry) -> list[str]:
    """Return what of the requests to a registry says who asks."""
    return [each.path for each in registry.requests if "authorization" in each.headers]


def test_login_stays_behind_when_bytes_come_from_another_host(
    stack: Stack, login: FakeRegistry, other: FakeRegistry
) -> None:
    """A registry that keeps its blobs elsewhere is read as ever, and the login is not sent there."""
    scene = Scene(login)
    other.serve(scene.image, "bad/app:1")
    scene.spoil_layer(faults.redirect(f"{as_another_host(other)}/v2/bad/app/blobs/{scene.layer.digest}"))
    login.break_at("/v2/", wants_basic())
    assert stack.hythe("pull", "--no-unpack", scene.reference).code == 0
    assert logins_seen(login)
    assert [each.path for each in other.requests] == [f"/v2/bad/app/blobs/{scene.layer.digest}"]
    assert logins_seen(other) == []


def test_login_stays_behind_when_bytes_go_to_another_host(
    stack: Stack, login: FakeRegistry, other: FakeRegistry
) -> None:
    """A registry that has its uploads made elsewhere gets them, and the login is not sent there."""
    with FakeRegistry() as source:
        reference = Scene(source).reference
        assert stack.hythe("pull", "--no-unpack", reference).code == 0
    upload = f"{as_another_host(other)}/v2/bad/app/blobs/uploads/{other.pushed.open_upload()}"
    login.break_at(UPLOADS, faults.status(202, Location=upload), times=1)
    login.break_at("/v2/", wants_basic())
    assert stack.hythe("push", reference, f"{login.address}/bad/app:1").code == 0
    assert logins_seen(login)
    assert [each.method for each in other.requests] == ["PUT"]
    assert logins_seen(other) == []


def test_login_is_not_sent_to_a_token_server_elsewhere(stack: Stack, login: FakeRegistry) -> None:
    """A registry that names a token server on another host gets neither login nor image."""
    scene = Scene(login)
    with TokenServer() as tokens:
        scene.spoil_manifest(wants_token(f"http://localhost:{tokens.port}/token"))
        done = stack.hythe("pull", "--no-unpack", scene.reference)
        assert done.code == 5
        assert_clear(done, "token server", f"http://localhost:{tokens.port}", login.address)
        assert PASSWORD not in done.stderr
        assert tokens.asked == []


@dataclass(frozen=True)
class BadPush:
    """One way of being bad to those who push: the requests that a fault is in the way of, exit code, words of the error."""

    path: str
    fault: Fault
    code: int
    words: tuple[str, ...]


def leading_to(location: str) -> Fault:
    """Open an upload somewhere."""
    return faults.status(202, Location=location)


SOMETHING_ELSE = digest_text(b"something else")

PUSHES = {
    "upload without a place": BadPush(UPLOADS, faults.status(202), 10, ("no Location",)),
    "upload to no URL": BadPush(UPLOADS, leading_to("http://["), 10, ("no URL",)),
    "upload by another protocol": BadPush(UPLOADS, leading_to("gopher://x/sesame"), 10, ("gopher://x",)),
    "upload with a password": BadPush(UPLOADS, leading_to("http://ann:sesame@x/"), 5, ("user name",)),
    "upload into the host's own network": BadPush(UPLOADS, leading_to(LINK_LOCAL), 5, ("169.254.169.254",)),
    "upload that may not be": BadPush(UPLOADS, escaping_refusal(), 5, ("refuses", "DENIED")),
    "401 whatever the token": BadPush("/v2/", faults.bearer(never=True), 5, ("hythe login",)),
    "blob that became another": BadPush(
        "blobs/uploads/.+", faults.status(201, Docker_Content_Digest=SOMETHING_ELSE), 8, ("says that it has sha256:",)
    ),
    "blob that is there with another size": BadPush("blobs/sha256:", faults.status(200, b"1"), 8, ("1 bytes, not",)),
    "manifest that is refused": BadPush(
        "/manifests/",
        faults.status(400, b'{"errors":[{"code":"MANIFEST_INVALID"}]}'),
        2,
        ("push manifest", "MANIFEST_INVALID"),
    ),
    "manifest that became another": BadPush(
        "/manifests/", faults.lying_digest_header(), 8, ("says that it has sha256:",)
    ),
}


@pytest.mark.parametrize("case", PUSHES.values(), ids=PUSHES)
def test_push_to_a_bad_registry_fails_clearly_and_leaves_nothing(
    stack: Stack, fake_registry: FakeRegistry, other: FakeRegistry, case: BadPush
) -> None:
    """Registry, cause and next step are told, no upload stays open there, and the image is still here and whole."""
    reference = Scene(other).reference
    assert stack.hythe("pull", "--no-unpack", reference).code == 0
    target = f"{fake_registry.address}/pushed/app:1"
    fake_registry.break_at(case.path, case.fault)
    done = stack.hythe("push", reference, target)
    assert done.code == case.code, done.stderr
    assert_clear(done, fake_registry.address, "outcome ", "trace: ", *case.words)
    assert "sesame" not in done.stderr
    assert_cannot_steer_the_terminal(done)
    if case.path != UPLOADS:  # what it was told where to find, it closes; a blob sent beside the bad one a little later
        eventually(lambda: fake_registry.pushed.uploads == {}, what="no upload is open there")
    eventually(lambda: fake_registry.busy == 0, what="no connection is left in the middle of an answer")
    assert stack.hythe("images", "check", reference).code == 0
    fake_registry.mend()
    assert stack.hythe("push", reference, target).code == 0, "an honest registry is believed again"
