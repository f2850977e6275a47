"""Overlays of few and of many layers by each of the kernel's calls, and what is said when one can't be made."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hythe.linux import libc, mountinfo, mounting, overlay
from hythe.linux.overlay import Form
from hythe.ports.snapshots import Mount
from tests.integration.linux.layers import Layers, make


def check(layers: Layers, form: Form) -> None:
    """Mount, look at the stack from the top, write to it, and unmount."""
    before = Path.cwd()
    mounting.mount(layers.overlay(), str(layers.point), form=form)
    assert layers.mounted() == [str(layers.point)]
    assert mountinfo.overlay_on(layers.upper) == str(layers.point)
    count = len(layers.lower)
    assert (layers.point / "top").read_text() == "0"
    assert {path.name for path in layers.point.iterdir()} == {"top", *(f"f{number}" for number in range(count))}
    (layers.point / "new").write_text("written")
    (layers.point / f"f{count - 1}").unlink()
    assert (layers.upper / "new").read_text() == "written"
    assert (layers.lower[-1] / f"f{count - 1}").exists()
    assert Path.cwd() == before
    libc.umount(str(layers.point), libc.UMOUNT_NOFOLLOW)
    assert layers.mounted() == []


@pytest.mark.parametrize("count", [1, 128, 300])
@pytest.mark.parametrize("form", ["auto", "parameters", "relative"])
def test_many_layers_are_mounted_in_their_order_by_each_form(place: Path, form: Form, count: int) -> None:
    """An image of 128 layers, or of 300, runs: the kernel's newer calls hold them, and short names do where those lack."""
    check(make(place, count), form)


def test_few_layers_fit_into_one_mount_call(place: Path) -> None:
    """An image of few layers needs no more than mount(2)."""
    check(make(place, 20), "plain")


@pytest.mark.parametrize("form", ["auto", "parameters"])
def test_names_longer_than_the_call_takes_are_given_as_open_files(place: Path, form: Form) -> None:
    """A root with a long path doesn't shorten the list of layers: each longer than 255 bytes is opened first."""
    check(make(place / ("long" * 50), 128, name="n" * 200), form)


def test_this_kernel_takes_layers_one_by_one() -> None:
    """What the machine of the tests can do is known, so that both ways are really tested."""
    assert overlay.layers_one_by_one() in ("names", "files")


@pytest.mark.parametrize(
    ("form", "name", "count"), [("plain", "x", 300), ("relative", "n" * 200, 40)], ids=["plain", "relative"]
)
def test_more_layers_than_a_page_holds_are_refused_with_their_number(
    place: Path, form: Form, name: str, count: int
) -> None:
    """Where nothing helps, the message says how many layers fit and what to do, and nothing is mounted."""
    layers = make(place, count, name=name)
    with pytest.raises(
        OSError, match=rf"{count} layers.* about [0-9]+ layers fit; build the image with fewer"
    ) as raised:
        mounting.mount(layers.overlay(), str(layers.point), form=form)
    assert raised.value.errno == errno.E2BIG
    assert layers.mounted() == []
    fit = int(str(raised.value).partition("about ")[2].split()[0])
    fewer = Layers(layers.directory, layers.lower[: fit - 1])
    mounting.mount(fewer.overlay(), str(layers.point), form=form)


@pytest.mark.parametrize("form", ["auto", "plain", "parameters", "relative"])
def test_missing_layer_is_named(place: Path, form: Form) -> None:
    """Whoever reads the error knows which directory is gone; nothing stays mounted."""
    layers = make(place, 3)
    gone = layers.lower[1]
    gone.rename(place / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"layer {gone}$"):
        mounting.mount(layers.overlay(), str(layers.point), form=form)
    assert layers.mounted() == []


@pytest.mark.parametrize("form", ["auto", "plain", "parameters", "relative"])
def test_missing_upper_directory_and_mount_point_are_named(place: Path, form: Form) -> None:
    """The same for what is written to and for where it should be mounted."""
    layers = make(place, 2)
    with pytest.raises(FileNotFoundError, match=r"mount point .*nowhere$"):
        mounting.mount(layers.overlay(), str(place / "nowhere"), form=form)
    layers.upper.rename(place / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"upper directory .*active/fs$"):
        mounting.mount(layers.overlay(), str(layers.point), form=form)
    assert layers.mounted() == []


@pytest.mark.parametrize("form", ["auto", "parameters"])
def test_kernel_says_why_it_refuses(place: Path, form: Form) -> None:
    """The newer calls have a log; its text is in the error, also where mount(2) was tried first or ids are mapped."""
    layers = make(place, 2)
    for options in (("nonsense=1",), ("nonsense=1", "uidmap=0:1:1", "gidmap=0:1:1")):
        with pytest.raises(OSError, match="Unknown parameter 'nonsense'"):
            mounting.mount(layers.overlay(*options), str(layers.point), form=form)
    many = Layers(place, layers.lower * 251)
    with pytest.raises(OSError, match="too many lower directories, limit is 500"):
        mounting.mount(many.overlay(), str(layers.point), form=form)
    assert layers.mounted() == []


@pytest.mark.parametrize("form", ["plain", "parameters", "relative"])
def test_read_only_overlay_has_its_flags(place: Path, form: Form) -> None:
    """A view is mounted read-only, without setuid and devices if asked for, by each form."""
    layers = make(place, 3)
    lower = "lowerdir=" + ":".join(map(str, layers.lower))
    mounting.mount(Mount("overlay", "overlay", "", ("ro", "nosuid", "nodev", lower)), str(layers.point), form=form)
    flags = os.statvfs(layers.point).f_flag
    assert flags & os.ST_RDONLY and flags & os.ST_NOSUID and flags & os.ST_NODEV
    with pytest.raises(OSError, match="Read-only"):
        (layers.point / "x").touch()


@pytest.mark.parametrize("form", ["auto", "plain"])
def test_bind_mount_has_its_flags(place: Path, form: Form) -> None:
    """A bind mount is read-only where that is asked for; its source is not."""
    layers = make(place, 1)
    mounting.mount(
        Mount("bind", str(layers.lower[0]), "", ("rbind", "ro", "noexec", "noatime")), str(layers.point), form=form
    )
    flags = os.statvfs(layers.point).f_flag
    assert flags & os.ST_RDONLY and flags & os.ST_NOEXEC and flags & os.ST_NOATIME
    (layers.lower[0] / "x").touch()


def test_several_mounts_are_made_below_each_other(place: Path) -> None:
    """A root and what belongs into it, in order."""
    layers = make(place, 2)
    (layers.lower[0] / "data" / "in").mkdir(parents=True)
    wanted = (layers.overlay(), Mount("tmpfs", "tmpfs", "data", ()), Mount("bind", str(place), "/f0", ("bind",)))
    with pytest.raises(NotADirectoryError):
        mounting.mount_all(wanted, str(layers.point))
    assert layers.mounted() == []
    mounting.mount_all(wanted[:2], str(layers.point))
    assert layers.mounted() == [str(layers.point), f"{layers.point}/data"]
    assert list((layers.point / "data").iterdir()) == []


def test_link_in_an_image_leads_no_mount_out_of_it(place: Path) -> None:
    """An image's symbolic link at a mount's target doesn't make something of the host disappear below the mount."""
    layers = make(place, 2)
    (place / "host").mkdir()
    (layers.lower[0] / "data").symlink_to(place / "host")
    with pytest.raises(OSError, match="symbolic links"):
        mounting.mount_all((layers.overlay(), Mount("tmpfs", "tmpfs", "data", ())), str(layers.point))
    assert layers.mounted() == []
