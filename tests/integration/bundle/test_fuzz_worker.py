"""The whole worker against any sequence of entries: it always ends with a report, and nothing outside changes."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hythe.errors import DataLoss, InvalidArgument, ResourceExhausted
from hythe_bundle.adapters.removal import remove_tree
from hythe_bundle.applier import Limits
from scripts.lab.raw_tars import Tar, sparse_1_0, sparse_old
from tests.fixtures.targets import Target

LIMITS = Limits(most_bytes=1 << 20, most_entries=500, most_ratio=400)
PARTS = st.sampled_from(
    ["a", "b", "c", "l", "..", ".", "", "outside", "canary", "inner", ".wh.a", ".wh.b", ".wh..wh..opq"]
)
NAMES = st.one_of(
    st.lists(PARTS, min_size=1, max_size=5).map("/".join),
    st.sampled_from(
        ["/", "../../../../outside/canary", "l/canary", "l/inner/kept", "x" * 100, ".wh.", "a/.wh..", "\xff\n"]
    ),
)
MODES = st.sampled_from([0, 0o644, 0o755, 0o4755, 0o2755, 0o1777, 0o7777])
KINDS = st.sampled_from(
    ["file", "file", "directory", "directory", "symlink", "symlink", "hardlink", "device", "attributes", "holes"]
)


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Return an archive of up to fifteen entries of any kind, half of them aimed at what lies outside; sometimes damaged."""
    tar = Tar()
    for _ in range(draw(st.integers(1, 15))):
        name, mode = draw(NAMES), draw(MODES)
        owner = {"uid": draw(st.sampled_from([0, 9, 2**31])), "mtime_s": draw(st.sampled_from([0, 1, -5, 2**34]))}
        match draw(KINDS):
            case "file":
                tar.file(name, draw(st.binary(max_size=20)), mode=mode, **owner)
            case "directory":
                tar.directory(name, mode, **owner)
            case "symlink":
                tar.symlink(name, draw(NAMES), **owner)
            case "hardlink":
                tar.hardlink(name, draw(NAMES), mode, **owner)
            case "device":
                kind = draw(st.sampled_from([b"3", b"4", b"6"]))
                tar.device(name, kind, *draw(st.sampled_from([(0, 0), (1, 3), (4095, 9)])), mode)
            case "attributes":
                tar.xattrs(user__note="theirs", trusted__overlay__opaque="y", security__capability="x" * 20)
            case "holes":
                made = draw(st.sampled_from([sparse_1_0, sparse_old]))
                tar.raw(made(name, draw(st.sampled_from([0, 9000, 2**62])), [(0, b"x"), (5000, b"y")]))
    made_bytes = bytearray(tar.end())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        made_bytes[draw(st.integers(0, len(made_bytes) - 1))] = draw(st.integers(0, 255))
    return bytes(made_bytes)


@settings(max_examples=60, deadline=None)
@given(archives(), st.booleans())
def test_any_entries_are_applied_or_refused_and_stay_inside(archive: bytes, lowest: bool) -> None:
    """Whatever comes after whatever, the worker says what became of it, and what lies beside the target stays as it was."""
    with tempfile.TemporaryDirectory(prefix="hythe-fuzz-") as directory:
        target = Target(Path(directory))
        (target.path / "l").symlink_to("../../../../outside")
        try:
            asyncio.run(target.apply_blob(archive, lowest=lowest, limits=LIMITS))
        except (InvalidArgument, DataLoss, ResourceExhausted) as error:
            assert error.phase == "unpack layer" and error.next_step
        finally:
            remove_tree(target.path)
        target.canary.check()
