"""What local paths mean to `hythe cp`, and what is made of an archive that a container wrote."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from hythe.archive.failures import ArchiveError
from hythe.archive.placing import Destination
from hythe.cli import copy_local
from hythe.cli.copy_extract import extract
from hythe.errors import DataLoss, HytheError, InvalidArgument, NotFound, PermissionDenied, ResourceExhausted


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a file, a directory, and links to both."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("text")
    (tmp_path / "to-d").symlink_to("d")
    (tmp_path / "to-f").symlink_to("d/f")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "follow", "base", "name"),
    [
        ("d", False, "d", "d"),
        ("d/", False, "d", "d"),
        ("d/.", False, "d/.", "."),
        (".", False, ".", "."),
        ("d/../d", False, "d", "d"),
        ("d/f", False, "d/f", "f"),
        ("to-d", False, "to-d", "to-d"),  # the link
        ("to-d/", False, "d", "to-d"),  # what it leads to
        ("to-d/.", False, "d/.", "."),
        ("to-d/f", False, "d/f", "f"),
        ("to-f", True, "d/f", "to-f"),
        ("to-d", True, "d", "to-d"),
    ],
)
def test_source_is_what_docker_copies(place: Path, text: str, follow: bool, base: str, name: str) -> None:
    """Links before the last part are followed, the last one only when a flag or a slash says so; the name stays."""
    found = copy_local.source(text, follow_link=follow)
    assert Path(os.fsdecode(found.directory), os.fsdecode(found.base)) == place / base
    assert found.name == name.encode()


@pytest.mark.parametrize(("text", "error"), [("none", NotFound), ("d/f/", InvalidArgument), ("none/x", NotFound)])
def test_source_that_is_not_there_is_said(place: Path, text: str, error: type[HytheError]) -> None:
    """A missing source, or a file that is said to be a directory, is an error with its name."""
    with pytest.raises(error, match=text.split("/")[0]), copy_local.refusals(f"copy {text}"):
        copy_local.source(text, follow_link=False)


@pytest.mark.parametrize(
    ("text", "path", "exists", "is_directory"),
    [
        ("d", "d", True, True),
        ("to-d", "d", True, True),
        ("d/f", "d/f", True, False),
        ("to-f", "d/f", True, False),
        ("new", "new", False, False),
        ("new/", "new/", False, False),
    ],
)
def test_destination_is_where_links_lead(place: Path, text: str, path: str, exists: bool, is_directory: bool) -> None:
    """A destination that is a link is what that leads to, also to something that is not there yet."""
    to = copy_local.destination(text)
    assert (to.path, to.exists, to.is_directory) == (f"{place}/{path}".encode(), exists, is_directory)


def test_destination_that_cannot_be_is_said(place: Path) -> None:
    """No directory above it, a FIFO, and links in a circle are errors."""
    os.mkfifo("fifo")
    Path("a").symlink_to("a")
    for text, error in (("no/such", NotFound), ("fifo", InvalidArgument), ("a", HytheError)):
        with pytest.raises(error), copy_local.refusals(f"copy to {text}"):
            copy_local.destination(text)


def archive(*entries: tuple[str, int, int]) -> list[bytes]:
    """Return an archive of files (name, mode, uid)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name, mode, uid in entries:
            entry = tarfile.TarInfo(name)
            entry.mode, entry.uid, entry.size = mode, uid, 4
            file.addfile(entry, io.BytesIO(b"data"))
    return [out.getvalue()]


def test_what_comes_belongs_to_the_caller_with_the_mode_that_it_had(place: Path) -> None:
    """Without -a a file is the caller's and never set-id, else of the mode in the container; with -a it keeps its owner."""
    to = Destination(os.fsencode(place), exists=True, is_directory=True)
    before = os.umask(0o077)
    try:
        extract(iter(archive(("f", 0o4666, 0))), to, b"f", keep_owner=False, wrote=lambda size: None)
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    found = (place / "f").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (os.geteuid(), 0o666)
    extract(iter(archive(("f", 0o600, 1000))), to, b"f", keep_owner=True, wrote=lambda size: None)
    assert (place / "f").stat().st_uid == 1000


@pytest.mark.parametrize("keep_owner", [False, True])
def test_device_comes_out_only_with_its_owner(place: Path, *, keep_owner: bool) -> None:
    """A container's root can make nodes of the host's disks that it may not open: without -a they are left out and named."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        entry = tarfile.TarInfo("null")
        entry.type, entry.mode, entry.devmajor, entry.devminor = tarfile.CHRTYPE, 0o666, 1, 3
        file.addfile(entry)
    to = Destination(os.fsencode(place), exists=True, is_directory=True)
    warnings = extract(iter([out.getvalue()]), to, b"null", keep_owner=keep_owner, wrote=lambda size: None)
    assert ((place / "null").exists(), len(warnings)) == (keep_owner, not keep_owner)


def test_link_that_another_user_put_where_everybody_may_is_not_followed(place: Path) -> None:
    """Whoever plants a link in a directory like /tmp does not choose where root's copy goes; one's own link is followed."""
    shared, secret = place / "shared", place / "secret"
    shared.mkdir()
    shared.chmod(0o1777)
    secret.mkdir()
    for name, uid in (("planted", 1000), ("own", os.geteuid())):
        (shared / name).symlink_to(secret)
        os.chown(shared / name, uid, uid, follow_symlinks=False)
    assert copy_local.destination(f"{shared}/own").path == os.fsencode(secret.resolve())
    for text in ("shared/planted", "shared/planted/", "shared/planted/.", f"{shared}/planted"):
        with pytest.raises(PermissionDenied):
            copy_local.destination(text)


def test_link_put_in_the_place_of_the_destination_meanwhile_is_refused(place: Path) -> None:
    """A directory that was looked at and then gave way to a link leads the copy nowhere else."""
    (place / "to").symlink_to(place)
    to = Destination(os.fsencode(place.resolve() / "to"), exists=True, is_directory=True)
    with pytest.raises(OSError, match="symbolic links"):
        extract(iter(archive(("f", 0o644, 0))), to, b"f", keep_owner=False, wrote=lambda size: None)


@pytest.mark.parametrize("names", [(".bashrc",), ("f", ".bashrc"), ("../f",), ("f", "f/../../x"), ("/f", "/x")])
def test_host_that_sends_something_else_than_was_asked_for_is_refused(place: Path, names: tuple[str, ...]) -> None:
    """An archive whose names are not those that were asked for makes no file of another name."""
    before = sorted(p.name for p in place.iterdir())
    to = Destination(os.fsencode(place), exists=True, is_directory=True)
    with pytest.raises((ArchiveError, InvalidArgument)):
        extract(iter(archive(*((n, 0o644, 0) for n in names))), to, b"f", keep_owner=False, wrote=lambda size: None)
    assert sorted(p.name for p in place.iterdir() if p.name != "f") == before


def test_no_archive_is_not_an_empty_one(place: Path) -> None:
    """A stream without a byte is an error, for something was asked for."""
    to = Destination(os.fsencode(place), exists=True, is_directory=True)
    with pytest.raises(DataLoss):
        extract(iter(()), to, b"f", keep_owner=False, wrote=lambda size: None)


@pytest.mark.parametrize(("number", "error"), [(28, ResourceExhausted), (13, PermissionDenied), (2, NotFound)])
def test_refusal_of_the_system_says_what_was_done(number: int, error: type[HytheError]) -> None:
    """A full disk, a missing permission and a missing file are told apart, with the file's name."""
    with pytest.raises(error, match="copy to x: some/file"), copy_local.refusals("copy to x"):
        raise OSError(number, os.strerror(number), "some/file")
