"""What labels refer to, by containerd's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe_metadata.records import Edge
from hythe_metadata.references import edges_of_labels

GC = "containerd.io/gc."


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("ref.content", "content"),
        ("ref.content.config", "content"),
        ("ref.content.l.0", "content"),
        ("ref.content/m/1", "content"),
        ("ref.image", "image"),
        ("ref.image.base", "image"),
        ("ref.snapshot.overlayfs", "snapshot/overlayfs"),
        ("ref.snapshot.overlayfs/cache", "snapshot/overlayfs"),
        ("ref.snapshot.my.snapshotter", "snapshot/my.snapshotter"),
        ("ref.snapshot.my.snapshotter/a/b", "snapshot/my.snapshotter"),
        ("bref.content", "back:content"),
        ("bref.content.1", "back:content"),
        ("bref.image", "back:image"),
        ("bref.container", "back:container"),
        ("bref.container/sidecar", "back:container"),
        ("bref.snapshot.native", "back:snapshot/native"),
        ("bref.snapshot.native/x", "back:snapshot/native"),
    ],
)
def test_label_refers_to_what_containerd_says(label: str, kind: str) -> None:
    """Each form of reference keeps what it names, and says from which label that comes."""
    assert edges_of_labels({GC + label: "named"}) == (Edge(kind, "named", GC + label),)


@pytest.mark.parametrize(
    "label",
    [
        GC + "root",
        GC + "expire",
        GC + "flat",
        GC + "ref.contents",
        GC + "ref.imagery",
        GC + "ref.container",
        GC + "ref.snapshot",
        GC + "ref.snapshot.",
        GC + "ref.snapshot./x",
        GC + "ref.",
        GC + "cref.content",
        "x" + GC + "ref.content",
        "containerdXio/gc.ref.content",
        "team",
    ],
)
def test_label_that_is_no_reference_keeps_nothing(label: str) -> None:
    """Labels that only look like references say nothing of what is kept."""
    assert edges_of_labels({label: "named"}) == ()


def test_empty_reference_keeps_nothing() -> None:
    """A reference without a name is none, and those beside it stand."""
    labels = {GC + "ref.content.0": "", GC + "ref.content.1": "b"}
    assert edges_of_labels(labels) == (Edge("content", "b", GC + "ref.content.1"),)


@given(st.dictionaries(st.text(), st.text()))
def test_any_labels_can_be_read(labels: dict[str, str]) -> None:
    """No label that somebody could set stops what reads them; each reference comes from a label with its name."""
    for edge in edges_of_labels(labels):
        assert labels[edge.via] == edge.name
