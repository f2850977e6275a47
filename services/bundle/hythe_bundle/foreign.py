"""Bundles that others made: what their config.json must say to be run here, and what of it becomes Hythe's own.

The one who names the directory is believed as the one who would start it by hand: hooks, mounts, devices and namespaces
stay as they stand. What is checked is that Hythe understands the same as the runtime will.

Spec: OCI runtime-spec, "Filesystem Bundle" and "Configuration".
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hythe.errors import FailedPrecondition, InvalidArgument
from hythe.oci.fields import Fields, load_object
from hythe_bundle import command

CONFIG = "config.json"
MAX_CONFIG_BYTES = 1 << 20
STOP_SIGNAL_ANNOTATION = "org.opencontainers.image.stopSignal"
"""Where umoci and others leave what the image says of it, for the spec has no field.

Spec: OCI image-spec, "Conversion to OCI Runtime Configuration".
"""
OUR_ANNOTATIONS = "io.hythe."
_VERSION = re.compile(r"1\.[0-9]{1,4}\.[0-9]{1,4}(?:[-+][0-9A-Za-z.+-]{1,100})?")
_READ_HERE: Mapping[str, tuple[str, ...]] = {
    "": ("ociversion", "process", "root", "mounts", "hooks", "linux", "annotations"),
    "process": ("terminal", "args", "cwd"),
    "root": ("path", "readonly"),
    "linux": ("cgroupspath", "namespaces"),
}
_SPELLED = {"ociversion": "ociVersion", "cgroupspath": "cgroupsPath"}


@dataclass(frozen=True, slots=True)
class ForeignConfig:
    """A config.json that was read and checked.

    Attributes:
        raw: its bytes, as they were checked.
        value: all of it.
        root: path of the root file system as it stands there: relative to the bundle, or absolute.
        read_only: whether the container may not write to its root file system.
        terminal: it asks for a terminal.
        stop_signal: the signal that asks the container to end, by its annotation or the default.
    """

    raw: bytes
    value: Mapping[str, Any]
    args: tuple[str, ...]
    root: str
    read_only: bool
    terminal: bool
    stop_signal: str


@dataclass(frozen=True, slots=True)
class ForeignBundle:
    """A directory with a config.json and a root file system; both paths as the kernel spells them."""

    directory: str
    root: str
    config: ForeignConfig


class ForeignDisk(Protocol):
    """Directories that others made. All methods block: call them in a thread."""

    def read_config(self, directory: str) -> bytes:
        """Return the config.json of a directory, at most `MAX_CONFIG_BYTES` of it and from a regular file alone.

        Raises:
            NotFound: there is no such directory, or no config.json in it (``kind=bundle``).
            InvalidArgument: config.json is a link, no regular file, or too large; or the directory is none.
            PermissionDenied, HytheError: it can't be read.
        """

    def find_root(self, directory: str, root: str) -> tuple[str, str]:
        """Return the directory and its root file system with all links resolved.

        Raises:
            InvalidArgument: there is no such root file system, it is no directory, or a link leads to it.
        """


def parse(raw: bytes, where: str) -> ForeignConfig:
    """Return what a config.json says.

    Args:
        where: its path, for error messages.

    Raises:
        InvalidArgument: it is no JSON object that every reader takes alike, is for another version or platform, or lacks
            what a container needs.
    """
    fields = load_object(raw, where)
    value = fields.value
    _check_spelling(value, where)
    version = fields.text("ociVersion")
    if not _VERSION.fullmatch(version):
        raise fields.refuse("ociVersion", f"is {version[:50]!r}, not a version 1 of the runtime-spec")
    for other in ("windows", "solaris", "vm", "zos"):
        if other in value:
            raise fields.refuse(other, "is there: it is a bundle for another platform than linux")
    if value.get("linux") is None:
        raise fields.refuse("linux", "is missing: without it nothing sets the container apart from the host")
    _check_mount_namespace(fields.child("linux"))
    process, root = fields.child("process"), fields.child("root")
    args = process.texts("args")
    if not args or not args[0]:
        raise fields.refuse("process.args", "is missing: there is nothing to run")
    if not process.text("cwd").startswith("/"):
        raise fields.refuse("process.cwd", "is no absolute path")
    path = root.text("path")
    if not path:
        raise fields.refuse("root.path", "is missing: there is no root file system")
    if not path.startswith("/") and ".." in path.split("/"):
        raise fields.refuse("root.path", f"is {path[:200]!r}, which leads out of the bundle; write an absolute path")
    for mount in fields.children("mounts"):
        mount.texts("options")
        for name in ("type", "source"):
            mount.text(name)
    hooks = fields.child("hooks")
    for stage in hooks.value:
        for hook in hooks.children(stage):
            hook.text("path")
    signal = command.signal_of(fields.mapping("annotations").get(STOP_SIGNAL_ANNOTATION, ""))
    return ForeignConfig(raw, value, args, path, root.flag("readonly"), process.flag("terminal"), signal)


def read(disk: ForeignDisk, directory: str) -> ForeignBundle:
    """Return the bundle in a directory that somebody made. Blocks.

    Raises:
        NotFound, InvalidArgument, HytheError: see `ForeignDisk` and `parse`.
    """
    config = parse(disk.read_config(directory), f"{directory}/{CONFIG}")
    real, root = disk.find_root(directory, config.root)
    return ForeignBundle(real, root, config)


def facts(bundle: ForeignBundle) -> dict[str, Any]:
    """Return what the record of a container that is run from `bundle` says of it."""
    return {"directory": bundle.directory, "root": bundle.root, "read_only": bundle.config.read_only}


def check_apart(bundle: ForeignBundle, other: Mapping[str, Any]) -> None:
    """Return if a container can be run from `bundle` beside one whose record is `other`.

    Two that only read may share a root file system. Two that write would damage each other's files, and nobody could tell
    what a pack or a removal of the directory means; whoever wants that binds a directory into both.

    Raises:
        FailedPrecondition: they have the same root file system, and one of them may write to it.
    """
    if other.get("root") == bundle.root and not (other["read_only"] and bundle.config.read_only):
        short = other["id"][:12]
        raise FailedPrecondition(
            f"run bundle {bundle.directory}: container {short} is made from the same root file system",
            next_step=f"`hythe rm {short}` if it has ended, set root.readonly in config.json, or use a copy",
            details={"kind": "container", "id": other["id"]},
        )


def adopt(bundle: ForeignBundle, container_id: str, namespace: str, cgroup_path: str) -> dict[str, Any]:
    """Return the config.json by which Hythe runs a foreign bundle from a directory of its own.

    Its paths that are relative to the bundle become absolute, its cgroup is Hythe's, and it has no terminal, for Hythe
    gives none yet. All else stays.

    Spec: OCI runtime-spec, "Root", "Mounts", "POSIX-platform Hooks".
    """
    value = bundle.config.value
    process = {key: item for key, item in value["process"].items() if key != "consoleSize"}
    config = {
        **value,
        "process": {**process, "terminal": False},
        "root": {**value["root"], "path": bundle.root},
        "linux": {**(value["linux"] or {}), "cgroupsPath": cgroup_path},
        "annotations": {
            **(value.get("annotations") or {}),
            f"{OUR_ANNOTATIONS}container": container_id,
            f"{OUR_ANNOTATIONS}namespace": namespace,
            f"{OUR_ANNOTATIONS}bundle": bundle.directory,
        },
    }
    if mounts := value.get("mounts"):
        config["mounts"] = [_placed(mount, "source", bundle) if is_bind(mount) else mount for mount in mounts]
    if hooks := value.get("hooks"):
        config["hooks"] = {
            stage: [_placed(hook, "path", bundle) for hook in every or ()] for stage, every in hooks.items()
        }
    return config


def _placed(item: Mapping[str, Any], key: str, bundle: ForeignBundle) -> dict[str, Any]:
    """Return `item` with the path at `key`, if there is one, made absolute: it is relative to the bundle."""
    path = item.get(key)
    return {**item, key: posixpath.join(bundle.directory, path)} if path else dict(item)


def is_bind(mount: Mapping[str, Any]) -> bool:
    """Tell whether a mount of a config.json binds a path of the host."""
    options = mount.get("options") or ()
    return mount.get("type") == "bind" or "bind" in options or "rbind" in options


def _check_mount_namespace(linux: Fields) -> None:
    """Refuse a bundle that a runtime would mount in the host's own mount namespace, where nobody takes it away again."""
    types = []
    for namespace in linux.children("namespaces"):
        if others := namespace.value.keys() - {"type", "path"}:
            raise linux.refuse("namespaces", f"has {min(others)[:50]!r}, which is not in the spec")
        types.append(namespace.text("type"))
    if "mount" not in types:
        raise linux.refuse("namespaces", "has no mount namespace: all would be mounted on the host, and stay there")


def _check_spelling(value: Mapping[str, Any], where: str) -> None:
    """Refuse keys in another mix of cases: runtimes in Go read them like those that Hythe reads, and the last one wins."""
    for section, known in _READ_HERE.items():
        found = value.get(section) if section else value
        for key in found if isinstance(found, dict) else ():
            folded = key.casefold()  # as Go does: also U+017F is an s to it
            if folded in known and key != _SPELLED.get(folded, folded):
                raise InvalidArgument(f"parse {where}: {key[:50]!r} is spelled in another way than the spec says")
