"""config.json of bundles that others made: understood as the runtime will, or refused with the field that is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hythe.errors import FailedPrecondition, InvalidArgument
from hythe_bundle import foreign
from hythe_bundle.foreign import ForeignBundle

GOOD: dict[str, Any] = {
    "ociVersion": "1.0.2-dev",
    "process": {"args": ["sh", "-c", "true"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
    "root": {"path": "rootfs"},
    "linux": {"namespaces": [{"type": "mount"}]},
}


def parse(**changes: Any) -> foreign.ForeignConfig:
    """Parse a good config with changes; None takes a field away."""
    value = {key: item for key, item in {**GOOD, **changes}.items() if item is not None}
    return foreign.parse(json.dumps(value).encode(), "config.json")


def process(**changes: Any) -> dict[str, Any]:
    """Return a process with changes."""
    return {**GOOD["process"], **changes}


def test_config_is_read_for_what_hythe_must_know() -> None:
    """Command, root file system, terminal and stop signal are told."""
    found = parse(
        root={"path": "/srv/root", "readonly": True},
        process=process(terminal=True),
        annotations={"org.opencontainers.image.stopSignal": "SIGQUIT"},
    )
    assert found.args == ("sh", "-c", "true") and found.root == "/srv/root"
    assert found.read_only and found.terminal and found.stop_signal == "SIGQUIT"
    assert parse().stop_signal == "SIGTERM" and parse(annotations={foreign.STOP_SIGNAL_ANNOTATION: ""})


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"ociVersion": None}, "ociVersion"),
        ({"ociVersion": "2.0.0"}, "ociVersion"),
        ({"ociVersion": "1.0"}, "ociVersion"),
        ({"ociVersion": 1}, "ociVersion"),
        ({"process": None}, "process.args"),
        ({"process": []}, "process"),
        ({"process": process(args=[])}, "process.args"),
        ({"process": process(args=[""])}, "process.args"),
        ({"process": process(args="sh")}, "args"),
        ({"process": process(args=["a\0b"])}, "args"),
        ({"process": process(cwd="tmp")}, "process.cwd"),
        ({"process": process(terminal="yes")}, "terminal"),
        ({"root": None}, "root.path"),
        ({"root": {"path": ""}}, "root.path"),
        ({"root": {"path": "../other"}}, "root.path"),
        ({"root": {"path": "rootfs", "readonly": 1}}, "readonly"),
        ({"linux": None}, "linux"),
        ({"linux": "yes"}, "linux"),
        ({"linux": {}}, "mount namespace"),
        ({"linux": {"namespaces": [{"type": "pid"}]}}, "mount namespace"),
        ({"linux": {"namespaces": [{"type": "mount", "Type": "pid"}]}}, "Type"),
        ({"linux": {"namespaces": [{"type": "mount"}], "name\u017fpaces": []}}, "name\u017fpaces"),
        ({"proce\u017fs": process(args=["other"])}, "proce\u017fs"),
        ({"linux": {"cgroup\u017fPath": "/x"}}, "cgroup\u017fPath"),
        ({"windows": {}}, "windows"),
        ({"mounts": {"destination": "/x"}}, "mounts"),
        ({"mounts": ["/x"]}, "mounts"),
        ({"mounts": [{"options": "bind"}]}, "options"),
        ({"hooks": []}, "hooks"),
        ({"hooks": {"poststop": {"path": "/x"}}}, "poststop"),
        ({"hooks": {"poststop": [{"path": 7}]}}, "path"),
        ({"annotations": {"a": 1}}, "annotations"),
        ({"annotations": {foreign.STOP_SIGNAL_ANNOTATION: "SIGNONE"}}, "signal"),
        ({"Root": {"path": "/"}}, "Root"),
        ({"process": process(Args=["other"])}, "Args"),
        ({"linux": {"CgroupsPath": "/x"}}, "CgroupsPath"),
        ({"linux": {"cgroupspath": "/x"}}, "cgroupspath"),
        ({"MOUNTS": []}, "MOUNTS"),
    ],
)
def test_config_that_is_wrong_or_ambiguous_names_the_field(changes: dict[str, Any], part: str) -> None:
    """What a container needs must be there, and no key may mean something else to a runtime in Go."""
    with pytest.raises(InvalidArgument) as caught:
        parse(**changes)
    assert part in caught.value.message


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"\xff{}",
        b'{"process": {}, "process": {}}',
        b'{"linux": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"ociVersion": ' + b"9" * 5000 + b"}",
        b'{"a": "\\ud800"}',
        json.dumps({**GOOD, "linux": None}).encode(),
    ],
)
def test_hostile_json_is_refused(raw: bytes) -> None:
    """No nesting, number, repetition or encoding of a stranger's file brings the service down."""
    with pytest.raises(InvalidArgument):
        foreign.parse(raw, "config.json")


def adopt(directory: str = "/srv/web", **changes: Any) -> dict[str, Any]:
    """Return the config by which a bundle in a directory is run."""
    bundle = ForeignBundle(directory, f"{directory}/rootfs", parse(**changes))
    return foreign.adopt(bundle, "0" * 32, "default", "/hythe/x")


def test_adopted_config_keeps_all_that_is_not_hythes() -> None:
    """Unknown fields, null sections and what is absolute stay as they are."""
    mounts = [{"type": "bind", "source": "/etc", "destination": "/e"}, {"type": "tmpfs", "source": "tmpfs"}]
    hooks = {"prestart": [{"path": "/bin/hook"}], "poststop": None}
    found = adopt(mounts=mounts, hooks=hooks, vendor={"x": 1}, process=process(consoleSize={"height": 1}, env=["A=b"]))
    assert found["mounts"] == mounts and found["vendor"] == {"x": 1}
    assert found["hooks"] == {"prestart": [{"path": "/bin/hook"}], "poststop": []}
    assert found["process"] == process(env=["A=b"], terminal=False)
    assert "hooks" not in adopt() and "mounts" not in adopt()
    assert adopt(annotations={"a": "b"})["annotations"]["a"] == "b"


def test_root_that_others_read_only_is_shared() -> None:
    """Only those that both can't write share a root file system."""
    read_only = ForeignBundle("/a", "/a/rootfs", parse(root={"path": "rootfs", "readonly": True}))
    writing = ForeignBundle("/a", "/a/rootfs", parse())
    foreign.check_apart(read_only, {"id": "1" * 32, "root": "/a/rootfs", "read_only": True})
    foreign.check_apart(writing, {"id": "1" * 32, "root": "/b/rootfs", "read_only": False})
    foreign.check_apart(writing, {"id": "1" * 32})
    for bundle, other in ((read_only, False), (writing, True)):
        with pytest.raises(FailedPrecondition, match="1" * 12):
            foreign.check_apart(bundle, {"id": "1" * 32, "root": "/a/rootfs", "read_only": other})
