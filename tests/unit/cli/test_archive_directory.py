"""Image layouts as tar streams and back: nothing followed, nothing written outside, all or nothing."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hythe.cli.archive_directory import pack, unpack
from hythe.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, Unavailable

HEX = "a" * 64


def _layout(path: Path) -> Path:
    (path / "blobs" / "sha256").mkdir(parents=True)
    (path / "blobs" / "sha256" / HEX).write_bytes(b"x" * 700_000)
    (path / "oci-layout").write_text("{}")
    (path / "index.json").write_text('{"manifests":[]}')
    return path


def _tar(*members: tuple[str, bytes | None], **special: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data or b"")
            entry.type = tarfile.REGTYPE if data is not None else tarfile.DIRTYPE
            archive.addfile(entry, io.BytesIO(data or b""))
        for name, kind in special.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    return out.getvalue()


def _tree(path: Path) -> dict[str, bytes]:
    return {str(found.relative_to(path)): found.read_bytes() for found in path.rglob("*") if found.is_file()}


def test_layout_comes_back_as_it_was_packed(tmp_path: Path) -> None:
    """A layout survives its way through a stream; its descriptions come before its blobs."""
    source = _layout(tmp_path / "in")
    data = b"".join(pack(str(source)))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["oci-layout", "index.json", f"blobs/sha256/{HEX}"]
    unpack(iter([data[:1000], data[1000:]]), str(tmp_path / "out"))
    assert _tree(tmp_path / "out") == _tree(source)
    assert sorted(found.name for found in (tmp_path / "out").iterdir()) == ["blobs", "index.json", "oci-layout"]


def test_directory_of_skopeo_is_packed(tmp_path: Path) -> None:
    """`skopeo copy … dir:` writes another form, which is read as well."""
    for name in ("version", "manifest.json", HEX):
        (tmp_path / name).write_text(name)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pack(str(tmp_path))))) as archive:
        assert archive.getnames() == ["version", "manifest.json", HEX]


def test_any_other_directory_is_not_sent_anywhere(tmp_path: Path) -> None:
    """Naming the wrong directory does not read what is in it."""
    (tmp_path / "manifest.json").touch()
    with pytest.raises(InvalidArgument, match="no image layout"):
        pack(str(tmp_path))


@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "deep"])
def test_links_and_specials_in_a_layout_are_refused(tmp_path: Path, kind: str) -> None:
    """What a layout may not hold is named, and neither followed nor waited for."""
    source = _layout(tmp_path / "in")
    blobs = source / "blobs" / "sha256"
    if kind == "file":
        (blobs / "b").symlink_to("/etc/passwd")
    elif kind == "directory":
        (source / "more").symlink_to("/etc")
    elif kind == "fifo":
        os.mkfifo(blobs / "b")
    else:
        (blobs / "c" / "d").mkdir(parents=True)
    with pytest.raises(InvalidArgument, match="links are not followed"):
        list(pack(str(source)))


def test_file_that_shrinks_while_it_is_read_breaks_the_stream(tmp_path: Path) -> None:
    """A stream never holds other bytes than its headers promise."""
    source = _layout(tmp_path / "in")
    with pytest.raises(DataLoss, match="shorter"):
        for chunk in pack(str(source)):
            if chunk.startswith(b"x"):
                os.truncate(source / "blobs" / "sha256" / HEX, 0)


@pytest.mark.parametrize(
    "data",
    [
        _tar(("../evil", b"x")),
        _tar(("/etc/evil", b"x")),
        _tar(("blobs/../../evil", b"x")),
        _tar(("a/b/c/d", b"x")),
        _tar((".hidden", b"x")),
        _tar(("a", b"x"), ("a", b"y")),
        _tar(("a", b"x"), ("a/b", b"y")),
        _tar(link=tarfile.SYMTYPE),
        _tar(hard=tarfile.LNKTYPE),
        _tar(device=tarfile.CHRTYPE),
        b"no tar at all" * 100,
        _tar(("a", b"x" * 5000))[:2000],
    ],
)
@pytest.mark.parametrize("existing", [True, False])
def test_hostile_stream_leaves_nothing(tmp_path: Path, data: bytes, existing: bool) -> None:
    """Names that lead outside, links, devices and torn streams are refused, and nothing is left of them."""
    target = tmp_path / "out"
    if existing:
        target.mkdir()
    with pytest.raises(DataLoss):
        unpack(iter([data]), str(target))
    assert [str(found) for found in tmp_path.rglob("*")] == ([str(target)] if existing else [])


def test_stream_that_breaks_after_the_archives_end_leaves_nothing(tmp_path: Path) -> None:
    """Whether a stream is whole shows only at its very end, and is waited for."""

    def chunks() -> Iterator[bytes]:
        yield _tar(("index.json", b"{}"))
        yield bytes(50_000)
        raise Unavailable("the connection broke")

    with pytest.raises(Unavailable):
        unpack(chunks(), str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    """Nothing is mixed with what is there already."""
    (tmp_path / "mine").touch()
    with pytest.raises(FailedPrecondition, match="not empty"):
        unpack(iter([_tar(("index.json", b"{}"))]), str(tmp_path))
    assert [found.name for found in tmp_path.iterdir()] == ["mine"]


def test_directory_in_a_missing_one_is_not_found(tmp_path: Path) -> None:
    """A mistyped path is not made up."""
    with pytest.raises(NotFound):
        unpack(iter([]), f"{tmp_path}/no/out/")
