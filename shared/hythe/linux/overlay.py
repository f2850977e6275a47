"""Overlays of any number of layers, with or without an id map on the layers (ADR 0028).

Three calls make one. ``plain`` is mount(2), whose options must fit into a page. ``parameters`` is fsopen(2), which
takes one layer a call (Linux 6.7; by open file, 6.13). ``relative`` is mount(2) from a thread with a working directory
of its own, so that the layers' names are short; upper and work directory keep their whole names, by which mountinfo
tells whose mount it is.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

from hythe.linux import libc, mount_calls
from hythe.linux.idmap import copy_with

T = TypeVar("T")
Form = Literal["auto", "plain", "parameters", "relative"]
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LAYER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


_Mounter = Callable[["Overlay", str, int, int], None]
"""Makes an overlay at a target, with flags of mount(2) and a user namespace or -1."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """What an overlay is made of.

    Attributes:
        lower: directories of the layers, topmost first.
        upper: directory that is written to; empty for one to read only.
        work: directory beside `upper` that the kernel needs.
        others: further options.
        source: name that mountinfo shows.
    """

    lower: tuple[str, ...]
    upper: str
    work: str
    others: tuple[str, ...]
    source: str

    def data(self, lower: Sequence[str]) -> str:
        """Return the options as mount(2) takes them, with the layers' names as `lower` has them."""
        layers = [f"lowerdir={':'.join(lower)}"]
        if self.upper:
            layers += [f"upperdir={self.upper}", f"workdir={self.work}"]
        return ",".join((*self.others, *layers))


def parse(source: str, options: Sequence[str]) -> Overlay:
    """Return what an overlay's source and options, flags left out, describe."""
    named = {"lowerdir": "", "upperdir": "", "workdir": ""}
    others = []
    for option in options:
        key, _, value = option.partition("=")
        if key in named:
            named[key] = value
        else:
            others.append(option)
    return Overlay(tuple(named["lowerdir"].split(":")), named["upperdir"], named["workdir"], tuple(others), source)


def mount(wanted: Overlay, target: str, flags: int, form: Form = "auto", user_namespace: int = -1) -> None:
    """Make an overlay at `target`; with a user namespace its layers are shown through the id map of that. Blocks.

    Args:
        flags: those of mount(2).
        form: ``auto`` takes the first of ``plain``, ``parameters`` and ``relative`` that can.

    Raises:
        OSError: the kernel refuses; a directory that isn't there is named. Nothing stays mounted.
    """
    try:
        _FORMS[form](wanted, target, flags, user_namespace)
    except OSError as error:
        raise _named(error, wanted, target) from error


def _mount_somehow(wanted: Overlay, target: str, flags: int, user_namespace: int) -> None:
    """Take the first form that can; where one says no more than that something is invalid, another may know better."""
    failure: OSError | None = None
    for make in _forms_for(wanted, mapped=user_namespace >= 0):
        try:
            make(wanted, target, flags, user_namespace)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            if failure is None or make is _mount_by_parameters:
                failure = error
        else:
            return
    assert failure is not None
    raise failure


def _forms_for(wanted: Overlay, *, mapped: bool) -> list[_Mounter]:
    """Return the forms to try, in order."""
    fits = not mapped and len(os.fsencode(wanted.data(wanted.lower))) < PAGE_BYTES
    forms: list[_Mounter] = [_mount_plain] if fits else []
    takes = layers_one_by_one()
    longest = max(len(os.fsencode(name)) for name in (*wanted.lower, wanted.upper, wanted.work))
    if takes == "files" or (takes == "names" and not mapped and longest <= mount_calls.MOST_BYTES):
        forms.append(_mount_by_parameters)  # before Linux 6.15 none with id maps: a layer must be mounted somewhere
    if not fits:
        forms.append(_mount_by_relative_names)
    return forms


@cache
def layers_one_by_one() -> Literal["", "names", "files"]:
    """Tell how this kernel's overlays take layers one by one: not at all, by name, or by open file too. Asked once."""
    try:
        with mount_calls.FileSystem("overlay") as probe:
            probe.set("lowerdir+", "/")
            try:
                with _opened("/") as fd:
                    probe.set_file("lowerdir+", fd, "/")
            except OSError:
                return "names"
            return "files"
    except OSError:
        return ""


def _mount_plain(wanted: Overlay, target: str, flags: int, user_namespace: int) -> None:
    if user_namespace >= 0:
        raise OSError(errno.EINVAL, "layers with an id map are mounted by parameters or relative names")
    _check_page(wanted, wanted.lower, "")
    libc.mount(wanted.source, target, "overlay", flags, wanted.data(wanted.lower))


def _mount_by_parameters(wanted: Overlay, target: str, flags: int, user_namespace: int) -> None:
    with mount_calls.FileSystem("overlay") as made, ExitStack() as opened:
        made.set("source", wanted.source)
        for option in wanted.others:
            key, equals, value = option.partition("=")
            made.set(key, value if equals else None)
        if user_namespace >= 0:
            for name, fd in _mapped(wanted.lower, user_namespace, opened):
                made.set_file("lowerdir+", fd, name)
        else:
            for name in wanted.lower:
                _set_directory(made, "lowerdir+", name)
        if wanted.upper:
            _set_directory(made, "upperdir", wanted.upper)
            _set_directory(made, "workdir", wanted.work)
        mounted = made.mount(flags)
    try:
        mount_calls.attach(mounted, target)
    finally:
        os.close(mounted)


def _set_directory(made: mount_calls.FileSystem, key: str, name: str) -> None:
    if len(os.fsencode(name)) <= mount_calls.MOST_BYTES:
        made.set(key, name)
        return
    with _opened(name) as fd:
        made.set_file(key, fd, name)


def _mapped(lower: Sequence[str], user_namespace: int, opened: ExitStack) -> Iterator[tuple[str, int]]:
    """Yield each layer's name and directory, seen through one copy of what lies above them all, which has the id map.

    The copy shows one file system alone: a layer that lies on another gets a copy of its own.
    """
    above, names = _shortened(lower)
    tree = copy_with(above, mount_calls.MOUNT_ATTR_RDONLY, user_namespace)
    opened.callback(os.close, tree)
    for whole, short in zip(lower, names, strict=True):
        layer = os.open(short, _LAYER, dir_fd=tree)
        opened.callback(os.close, layer)
        if not os.path.samestat(os.fstat(layer), Path(whole).stat()):
            layer = copy_with(whole, mount_calls.MOUNT_ATTR_RDONLY, user_namespace)
            opened.callback(os.close, layer)
        yield whole, layer


def _mount_by_relative_names(wanted: Overlay, target: str, flags: int, user_namespace: int) -> None:
    above, names = _shortened(wanted.lower)
    _check_page(wanted, names, above)
    data = wanted.data(names)

    def mount_below() -> None:
        libc.unshare(libc.CLONE_FS)
        os.chdir(above)
        libc.mount(wanted.source, target, "overlay", flags, data)

    if user_namespace < 0:
        _in_thread_of_its_own(mount_below)
        return
    mounted = _in_thread_of_its_own(
        lambda: _mount_unseen(wanted, names, above, os.path.realpath(target), flags, data, user_namespace)
    )
    try:
        mount_calls.attach(mounted, target)
    finally:
        os.close(mounted)


def _mount_unseen(
    wanted: Overlay, names: Sequence[str], above: str, target: str, flags: int, data: str, user_namespace: int
) -> int:
    """Make the overlay in a mount namespace that ends with this thread; return it as a mount that is nowhere yet.

    There the layers are mounted with their id map at `target`, where nobody but this thread sees them.
    """
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE, "")
    places = [Path(name).stat() for name in wanted.lower]
    tree = copy_with(above, mount_calls.MOUNT_ATTR_RDONLY, user_namespace)
    try:
        mount_calls.attach(tree, target)
    finally:
        os.close(tree)
    os.chdir(target)
    for name, short, place in zip(wanted.lower, names, places, strict=True):
        if not os.path.samestat(Path(short).stat(), place):
            raise OSError(errno.EXDEV, f"{name} lies on another file system than {above}, which this kernel can't map")
    libc.mount(wanted.source, target, "overlay", flags, data)
    return mount_calls.copy(target)


def _in_thread_of_its_own(work: Callable[[], T]) -> T:
    """Run `work` in a new thread, which may take its working directory or mount namespace away from the others."""
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 (raised in the thread that waits)
            failures.append(error)

    thread = threading.Thread(target=run, name="mount")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _shortened(lower: Sequence[str]) -> tuple[str, list[str]]:
    """Return the directory above all layers, and their names from there."""
    above = os.path.commonpath([Path(name).parent for name in lower])
    return above, [name[len(above) :].lstrip("/") for name in lower]


def _check_page(wanted: Overlay, lower: Sequence[str], above: str) -> None:
    size = len(os.fsencode(wanted.data(lower)))
    if size < PAGE_BYTES:
        return
    each = max(1, (size - len(os.fsencode(wanted.data(("",))))) // len(lower))
    fit = max(0, len(lower) - -(-(size - PAGE_BYTES + 1) // each))
    named = f" named from {above}" if above else ""
    raise OSError(
        errno.E2BIG,
        f"{len(lower)} layers{named} need {size} bytes of options and one mount call takes {PAGE_BYTES - 1}: about {fit} "
        "layers fit; build the image with fewer, or use Linux 6.7 or later",
    )


def _named(error: OSError, wanted: Overlay, target: str) -> OSError:
    """Return the error with the directory that isn't there named, or else with the mount point."""
    upper = (("upper directory", wanted.upper), ("work directory", wanted.work)) if wanted.upper else ()
    layers = (("layer", name) for name in wanted.lower)
    for kind, path in (*layers, *upper, ("mount point", target)):
        if not Path(path).is_dir():
            return OSError(errno.ENOENT, f"{os.strerror(errno.ENOENT)}: {kind} {path}")
    return OSError(error.errno, f"{error.strerror}: overlay of {len(wanted.lower)} layers at {target}")


@contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, _LAYER)
    try:
        yield fd
    finally:
        os.close(fd)


_FORMS: dict[Form, _Mounter] = {
    "auto": _mount_somehow,
    "plain": _mount_plain,
    "parameters": _mount_by_parameters,
    "relative": _mount_by_relative_names,
}
