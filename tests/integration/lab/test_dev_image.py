"""The image that is measured with holds what its packages hold, and is another one when they are."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from scripts.lab import layout
from scripts.lab.debian_layers import PackagesFailed, archive_names, layer, merged, split
from scripts.lab.dev_image import key
from scripts.lab.images import busybox


def package(directory: Path, name: str, files: dict[str, bytes]) -> Path:
    """Build a Debian package of `files`, which stay below `directory` for another build."""
    root = directory / name
    (root / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: lab <lab@localhost>\nDescription: lab\n"
    (root / "DEBIAN/control").write_text(control)
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    archive = directory / f"{name}_1_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(root), str(archive)]
    subprocess.run(command, check=True, capture_output=True)
    return archive


def entries(tar: bytes) -> dict[str, tarfile.TarInfo]:
    """Return the entries of an archive by name; a name that is there twice fails."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        members = archive.getmembers()
    found = {entry.name: entry for entry in members}
    assert len(found) == len(members)
    return found


def test_packages_of_a_layer_have_their_files_below_a_merged_usr_once(tmp_path: Path) -> None:
    """Files of several packages arrive in one layer, those of /bin in /usr/bin, a shared directory once."""
    archives = [
        package(tmp_path, "one", {"bin/a": b"1", "etc/shared/one": b"2"}),
        package(tmp_path, "two", {"usr/bin/c": b"333", "etc/shared/two": b"4"}),
    ]
    found = entries(layer(archives, base=True).tar())
    assert {"usr/bin/a", "usr/bin/c", "etc/shared", "etc/shared/one", "etc/shared/two"} <= found.keys()
    assert found["usr/bin/c"].size == 3 and found["usr/bin/c"].uid == 0
    assert (found["bin"].type, found["bin"].linkname) == (tarfile.SYMTYPE, "usr/bin")
    assert "bin" not in entries(layer(archives, base=False).tar())


def test_second_name_of_a_file_leads_into_the_merged_usr(tmp_path: Path) -> None:
    """A hard link of a package to a file in /bin is one to the file in /usr/bin."""
    archive = package(tmp_path, "one", {"bin/a": b"1"})
    (tmp_path / "one/bin/b").hardlink_to(tmp_path / "one/bin/a")
    subprocess.run(
        ["dpkg-deb", "-Znone", "--build", str(tmp_path / "one"), str(archive)], check=True, capture_output=True
    )
    found = entries(layer([archive], base=True).tar())
    (link,) = [entry for entry in found.values() if entry.islnk()]
    assert {link.name, link.linkname} == {"usr/bin/a", "usr/bin/b"}


def test_file_that_is_no_package_is_told(tmp_path: Path) -> None:
    """A package that was not downloaded whole fails with its name and what dpkg says."""
    broken = tmp_path / "broken_1_all.deb"
    broken.write_bytes(b"no package" * 100)
    with pytest.raises(PackagesFailed, match=r"unpack broken_1_all\.deb: .*not a Debian format archive"):
        layer([broken], base=False)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("./", "."),
        ("./bin/sh", "usr/bin/sh"),
        ("./lib", "usr/lib"),
        ("./library/x", "library/x"),
        ("./usr/lib/x", "usr/lib/x"),
        ("./etc/bin/x", "etc/bin/x"),
    ],
)
def test_only_top_directories_move_into_usr(name: str, place: str) -> None:
    """What lies in /bin, /sbin and /lib of a package lies in /usr, all else stays where it is."""
    assert merged(name) == place


def test_package_stands_in_the_lowest_layer_that_needs_it() -> None:
    """No package is in two layers, and one that is not needed any more with all of them is in none."""
    assert split([["libc", "old"], ["libc", "python"], ["libc", "python", "git"]]) == [("libc",), ("python",), ("git",)]


def test_archives_are_read_from_what_apt_prints() -> None:
    """Names of archives are those that apt gives its downloads, whatever else it says."""
    printed = "E: noise\n'http://debian.example/a_1%3a2_all.deb' a_1%3a2_all.deb 10 SHA256:00\n"
    assert archive_names(printed) == ["a_1%3a2_all.deb"]


def test_image_of_other_packages_has_another_key() -> None:
    """A new version, another layer's name and another order each make an image of its own; the same make the same."""
    packages = {"debian": ("libc6_1_amd64.deb", "bash_1_amd64.deb"), "git": ("git_1_amd64.deb",)}
    others = [
        {**packages, "git": ("git_2_amd64.deb",)},
        {"debian": packages["debian"], "vcs": packages["git"]},
        dict(reversed(packages.items())),
    ]
    assert key(dict(packages)) == key(packages)
    assert len({key(packages), *(key(other) for other in others)}) == 4


def test_kept_image_is_the_same_and_other_tools_read_it(tmp_path: Path) -> None:
    """An image that was kept in a directory is loaded with the same digests, and skopeo finds it there."""
    image = busybox().build()
    layout.save(image, tmp_path / "kept", "small")
    assert layout.load(tmp_path / "kept") == image
    command = ["skopeo", "inspect", f"oci:{tmp_path / 'kept'}:small"]
    shown = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert (shown["Digest"], shown["Layers"]) == (image.manifest.digest, [blob.digest for blob in image.layers])
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_kept_image_whose_file_changed_is_refused(tmp_path: Path) -> None:
    """A layer that is not what it was is not measured with."""
    image = busybox().build()
    layout.save(image, tmp_path / "kept", "small")
    blob = tmp_path / "kept/blobs/sha256" / image.layers[0].digest.removeprefix("sha256:")
    blob.write_bytes(b"torn")
    with pytest.raises(ValueError, match="has changed"):
        layout.load(tmp_path / "kept")
