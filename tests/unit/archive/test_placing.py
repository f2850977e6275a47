"""Where copies go: each rule of Docker's reference on `docker cp`, as a table."""

from __future__ import annotations

import pytest

from hythe.archive.placing import Destination, asserts_directory, begin, in_container, split_argument, top_name
from hythe.errors import InvalidArgument

MISSING = {"exists": False, "is_directory": False}
FILE = {"exists": True, "is_directory": False}
DIRECTORY = {"exists": True, "is_directory": True}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web:/etc", ("web", "/etc")),
        ("web:etc/hosts", ("web", "etc/hosts")),
        ("web:", ("web", "")),
        ("web:/a:b", ("web", "/a:b")),
        ("plain", ("", "plain")),
        ("-", ("", "-")),
        ("/file:name.txt", ("", "/file:name.txt")),
        ("./file:name.txt", ("", "./file:name.txt")),
        ("../file:name.txt", ("", "../file:name.txt")),
        ("dir/file:name.txt", ("", "dir/file:name.txt")),
    ],
)
def test_colon_tells_a_container_from_a_local_name(text: str, expected: tuple[str, str]) -> None:
    """`NAME:PATH` is in a container; a local name with a colon is written with a slash or dot before it."""
    assert split_argument(text) == expected


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/etc/hosts", b"/etc/hosts"),
        ("etc/hosts", b"/etc/hosts"),
        ("etc//x/../hosts", b"/etc/hosts"),
        ("../../etc", b"/etc"),
        ("//etc", b"/etc"),
        ("/etc/", b"/etc/"),
        ("/etc/.", b"/etc/."),
        (".", b"/."),
        ("/", b"/"),
        ("/..", b"/"),
        ("/a/./.", b"/a/."),
    ],
)
def test_path_in_a_container_is_taken_from_its_root(path: str, meant: bytes) -> None:
    """Relative paths begin at the container's root, ``..`` ends there, and what the path's end says is kept."""
    assert in_container(path).rstrip(b"\n") == meant


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 4096, "\udcff"])
def test_path_that_cannot_be_one_is_refused(path: str) -> None:
    """An empty path, one with a NUL, a far too long one and one that is not UTF-8 are refused by the command."""
    with pytest.raises(InvalidArgument):
        in_container(path)


@pytest.mark.parametrize(
    ("path", "name", "directory"),
    [
        (b"/etc/hosts", b"hosts", False),
        (b"/etc/", b"etc", True),
        (b"/etc/.", b".", True),
        (b"/", b".", True),
        (b".", b".", True),
    ],
)
def test_first_entry_has_the_last_part_of_the_path(path: bytes, name: bytes, directory: bool) -> None:
    """An archive begins with the name that was asked for, with ``.`` for the contents of a directory."""
    assert (top_name(path), asserts_directory(path)) == (name, directory)


@pytest.mark.parametrize(
    ("source", "source_is_directory", "path", "there", "expected"),
    [
        # SRC is a file
        ("f", False, "/d/new", MISSING, ("/d", "f", "new")),  # is created
        ("f", False, "/d/old", FILE, ("/d", "f", "old")),  # is overwritten
        ("f", False, "/d", DIRECTORY, ("/d", "f", "f")),  # goes into it
        # SRC is a directory
        ("s", True, "/d/new", MISSING, ("/d", "s", "new")),  # is created with its contents
        ("s", True, "/d/new/", MISSING, ("/d", "s", "new")),
        ("s", True, "/d", DIRECTORY, ("/d", "s", "s")),  # goes into it
        # SRC ends with /.
        (".", True, "/d/new", MISSING, ("/d", "", "new")),
        (".", True, "/d", DIRECTORY, ("/d", "", "")),  # its contents go into it
        # names without a directory in front
        ("f", False, "new", MISSING, (".", "f", "new")),
        ("f", False, "/new", MISSING, ("/", "f", "new")),
    ],
)
def test_copy_goes_where_docker_puts_it(
    source: str, source_is_directory: bool, path: str, there: dict[str, bool], expected: tuple[str, str, str]
) -> None:
    """Files and directories go into, over or beside what is there, as Docker's reference says."""
    to = Destination(path.encode(), **there)
    directory, old, new = begin(source.encode(), is_directory=source_is_directory, to=to)
    assert (directory.decode(), b"/".join(old).decode(), b"/".join(new).decode()) == expected


@pytest.mark.parametrize(
    ("source_is_directory", "path", "there"),
    [
        (True, "/d/old", FILE),  # a directory over a file
        (False, "/d/new/", MISSING),  # a file to a directory that is not there
        (False, "/d/new/.", MISSING),
        (False, "/d/old/", FILE),
    ],
)
def test_copy_that_makes_no_sense_is_refused(source_is_directory: bool, path: str, there: dict[str, bool]) -> None:
    """A directory never replaces a file, and a file never becomes a directory."""
    with pytest.raises(InvalidArgument):
        begin(b"s", is_directory=source_is_directory, to=Destination(path.encode(), **there))


@pytest.mark.parametrize("name", [b"a/b", b"..", b"/etc/passwd", b"../x"])
def test_archive_that_begins_with_more_than_a_name_is_refused(name: bytes) -> None:
    """What comes over the bus begins with one file or directory, else it is not what was asked for."""
    with pytest.raises(InvalidArgument):
        begin(name, is_directory=False, to=Destination(b"/d", **DIRECTORY))
