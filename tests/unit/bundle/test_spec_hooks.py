"""Hooks and annotations: the user's own, and nothing by which a stranger or a slip could steer the runtime."""

from __future__ import annotations

import pytest

from hythe.errors import InvalidArgument
from hythe_bundle.command import DEFAULT_PATH
from hythe_bundle.notes import MAX_TEXT
from hythe_bundle.wishes import HookWish
from tests.fixtures.specs import image, make

TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b"}


def test_hooks_stand_at_their_stages_with_the_trace() -> None:
    """Each has its own arguments, time and environment, and the trace of the request there."""
    wishes = (
        HookWish("poststop", "/bin/a", ("a", "-x"), ("A=1",), 3),
        HookWish("createRuntime", "/bin/b"),
        HookWish("poststop", "/bin/c", env=("PATH=/own", "TRACEPARENT=mine")),
    )
    trace = [f"TRACEPARENT={TRACE['traceparent']}", "TRACESTATE=a=b"]
    assert make(hooks=wishes, trace=TRACE)["hooks"] == {
        "poststop": [
            {"path": "/bin/a", "args": ["a", "-x"], "env": [DEFAULT_PATH, *trace, "A=1"], "timeout": 3},
            {"path": "/bin/c", "args": ["/bin/c"], "env": ["PATH=/own", "TRACEPARENT=mine", trace[1]]},
        ],
        "createRuntime": [{"path": "/bin/b", "args": ["/bin/b"], "env": [DEFAULT_PATH, *trace]}],
    }
    assert "hooks" not in make(trace=TRACE)


@pytest.mark.parametrize(
    "wish",
    [
        HookWish("poststop", "true"),
        HookWish("poststop", ""),
        HookWish("never", "/bin/true"),
        HookWish("poststop", "/bin/true", env=("A",)),
        HookWish("poststop", "/bin/true", env=("=1",)),
        HookWish("poststop", "/bin/true", args=("a\0b",)),
    ],
)
def test_hook_that_is_none_is_refused(wish: HookWish) -> None:
    """A program is named by its whole path, a stage by its name, a variable by name and value."""
    with pytest.raises(InvalidArgument, match="set hook"):
        make(hooks=(wish,))


def test_image_says_what_it_is() -> None:
    """Annotations tell of the image what OCI's conversion says; its labels, which a stranger chose, are not among them."""
    config = image(
        StopSignal="SIGINT",
        ExposedPorts={"80/tcp": {}},
        Labels={
            "containerd.io/restart.loguri": "binary:///bin/sh",
            "hythe.x": "y",
            "org.opencontainers.image.title": "t",
        },
    )
    found = make(config=config)["annotations"]
    prefix = "org.opencontainers.image."
    assert found[prefix + "stopSignal"] == "SIGINT" and found[prefix + "exposedPorts"] == "80/tcp"
    assert found[prefix + "os"] == "linux" and set(found) <= {
        prefix + name for name in ("os", "architecture", "author", "created", "stopSignal", "exposedPorts")
    }
    assert len(make(config=image(StopSignal="x" * 5000))["annotations"][prefix + "stopSignal"]) == MAX_TEXT


def test_annotations_are_the_users_own() -> None:
    """What the user writes is there, also in place of what the image says."""
    found = make(annotations={"lab.test/x": "y", "org.opencontainers.image.os": "other"})["annotations"]
    assert found["lab.test/x"] == "y" and found["org.opencontainers.image.os"] == "other"


@pytest.mark.parametrize("key", ["", "hythe.x", "run.oci.hooks.stdout", "org.systemd.property.CPUWeight", "a\0b"])
def test_annotation_that_steers_is_refused(key: str) -> None:
    """Hythe's own keys, and those by which a runtime does more than the spec says, are nobody's to set."""
    with pytest.raises(InvalidArgument, match="set annotation"):
        make(annotations={key: "x"})
