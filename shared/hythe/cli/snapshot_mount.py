"""`hythe snapshot mount` and `unmount`: what a snapshot shows, mounted on this host by the command itself."""

from __future__ import annotations

import os
from pathlib import Path

from hythe.cli import exits, output
from hythe.cli.snapshot_words import ask
from hythe.errors import AlreadyExists, FailedPrecondition, HytheError, InvalidArgument, NotFound
from hythe.labels import GC_ROOT
from hythe.ports.snapshots import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser

    from hythe.cli.context import Context

SOURCE = "hythe-snapshot"
"""What an overlay that this command made has for a source: `unmount` takes nothing else away."""

MOUNTED_AT = "hythe.mounted-at"
"""Label of the view that a committed snapshot is shown by: where it is mounted."""


def mount_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe snapshot mount`."""
    parser.description = (
        "Mount what a snapshot shows at a directory of this host, read-only. A committed one is shown by a view that is made "
        "for it; `hythe snapshot unmount` takes both away again."
    )
    parser.add_argument("--rw", action="store_true", help="writable; only for an active snapshot that nothing uses")
    parser.add_argument("name", metavar="KEY", help="name of the snapshot")
    parser.add_argument("target", metavar="TARGET", help="an existing directory")


def mount(context: Context) -> int:
    """Mount a snapshot; when it fails, neither mount nor view is left."""
    from hythe.linux import mounting  # other commands don't pay for it
    from hythe.linux.files import open_real

    name, target = context.args.name, _directory(context.args.target)
    kind = ask(context, "info", name=name)["kind"]
    if kind != "active" and context.args.rw:
        raise FailedPrecondition(
            f"mount snapshot {name}: it is {'committed' if kind == 'committed' else 'a view'}, so it is never written to",
            next_step="leave out --rw",
        )
    view = ""
    if kind == "committed":
        view = _make_view(context, name, target)
    try:
        wanted = _mounts(context, view or name)
        if kind == "active":
            _check_unused(name, wanted)
        if not context.args.rw:
            wanted = [_read_only(each) for each in wanted]
        try:
            place = open_real(os.fsencode(target))
            try:
                mounting.mount_all([_marked(each) for each in wanted], f"/proc/self/fd/{place}")
            finally:
                os.close(place)
        except OSError as error:
            raise FailedPrecondition(
                f"mount snapshot {name} at {target}",
                phase="mount",
                cause=str(error),
                next_step="" if os.geteuid() == 0 else "run it as root",
            ) from error
    except BaseException:
        if view:
            _remove_view(context, view)
        raise
    if context.as_json:
        output.json_line({"name": name, "target": str(target), "view": view, "read_only": not context.args.rw})
    else:
        print(output.visible(str(target)))
    return exits.OK


def unmount_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe snapshot unmount`."""
    parser.description = (
        "Unmount what `hythe snapshot mount` mounted, and remove the view that it made, also after it was killed."
    )
    parser.add_argument("target", metavar="TARGET", help="where it is mounted")


def unmount(context: Context) -> int:
    """Unmount a snapshot; repeated, it clears away what an earlier try could not."""
    from hythe.linux import libc, mountinfo

    target = _directory(context.args.target)
    mounted = mountinfo.mount_at(target)
    ours = mounted is not None and _is_ours(context, target)
    if mounted is not None and not ours:
        raise FailedPrecondition(
            f"unmount {target}: `hythe snapshot mount` did not mount it (it is {mounted.type} from {mounted.source})",
            next_step=f"umount {target}, if it isn't a container's",
        )
    if ours:
        try:
            libc.umount(str(target), libc.UMOUNT_NOFOLLOW)
        except OSError as error:
            raise FailedPrecondition(
                f"unmount {target}",
                phase="unmount",
                cause=error.strerror or str(error),
                next_step="end what uses it: `fuser -vm` shows that",
            ) from error
    view = _view_of(target)
    try:
        labels = ask(context, "info", name=view)["labels"]
    except NotFound:
        if not ours:
            raise FailedPrecondition(f"unmount {target}: no snapshot is mounted there") from None
        return exits.OK
    if labels.get(MOUNTED_AT) == str(target):
        ask(context, "remove", name=view)
    return exits.OK


def _directory(text: str) -> Path:
    """Return a directory without links on its way."""
    path = Path(text).resolve()
    if not path.is_dir():
        raise InvalidArgument(f"use {text} as a mount point: there is no such directory", next_step=f"mkdir {text}")
    return path


def _make_view(context: Context, name: str, target: Path) -> str:
    """Make the view that shows a committed snapshot at `target`; one that a killed command has left makes room for it."""
    from hythe.clock import now_rfc3339
    from hythe.linux import mountinfo

    view = _view_of(target)
    body = {"name": view, "parent": name, "labels": {MOUNTED_AT: str(target), GC_ROOT: now_rfc3339()}}
    try:
        ask(context, "view", **body)
    except AlreadyExists:
        if mountinfo.mount_at(target) is not None and _is_ours(context, target):
            raise FailedPrecondition(
                f"mount snapshot {name}: one is mounted at {target} already",
                next_step=f"`hythe snapshot unmount {target}` first, or choose another directory",
            ) from None
        ask(context, "remove", name=view)
        ask(context, "view", **body)
    return view


def _view_of(target: Path) -> str:
    """Return the name of the view that is shown at `target`: made from it, so that `unmount` finds it by itself."""
    from hashlib import sha256

    return f"mounted-{sha256(os.fsencode(target)).hexdigest()[:24]}"


def _remove_view(context: Context, view: str) -> None:
    try:
        ask(context, "remove", name=view)
    except HytheError:
        pass  # `unmount` of the same directory removes it; the user hears of the first failure


def _mounts(context: Context, name: str) -> list[Mount]:
    found = ask(context, "mounts", name=name)["mounts"]
    return [Mount(each["type"], each["source"], each.get("target", ""), tuple(each["options"])) for each in found]


def _check_unused(name: str, wanted: list[Mount]) -> None:
    """Refuse a snapshot that something else has mounted: two overlays that write to one directory damage it."""
    from hythe.linux import mountinfo

    for each in wanted:
        upper = _option(each, "upperdir")
        point = mountinfo.overlay_on(Path(upper)) if upper else ""
        if not upper and each.type == "bind":
            point = next(iter(mountinfo.shown_at(Path(each.source))), "")
        if point:
            raise FailedPrecondition(
                f"mount snapshot {name}: it is mounted at {point}",
                next_step="`hythe cp` copies from and to a running container; stop it to mount its snapshot",
            )


def _read_only(wanted: Mount) -> Mount:
    """Return the mount without a way to write; an overlay's upper directory becomes its topmost layer."""
    upper = _option(wanted, "upperdir")
    options = ["ro"]
    for option in wanted.options:
        key, _, value = option.partition("=")
        if key == "lowerdir" and upper:
            options.append(f"lowerdir={upper}:{value}")
        elif key not in ("upperdir", "workdir", "rw", "ro"):
            options.append(option)
    return Mount(wanted.type, wanted.source, wanted.target, tuple(options))


def _marked(wanted: Mount) -> Mount:
    """Return the mount as this command makes it: whoever reaches it gains no rights by the set-id programs of an image."""
    source = SOURCE if wanted.type == "overlay" else wanted.source
    return Mount(wanted.type, source, wanted.target, (*wanted.options, "nosuid", "nodev"))


def _option(wanted: Mount, key: str) -> str:
    return next((option.partition("=")[2] for option in wanted.options if option.startswith(f"{key}=")), "")


def _is_ours(context: Context, target: Path) -> bool:
    """Tell whether this command made the mount at `target`: an overlay says so, a bind mount shows files of the snapshots."""
    from hythe.linux import mountinfo

    mounted = mountinfo.mount_at(target)
    if mounted is None or target.is_relative_to(context.settings.root.resolve()):
        return False
    return mounted.source == SOURCE or str(target) in mountinfo.shown_at(context.settings.root / "bundle")
