"""What ``--volume``, ``--mount`` and ``--tmpfs`` say, as `hythe.wire.container.MountWish`.

Spec: Docker's reference of ``docker run``, "Mount volume", "Add bind mounts or volumes", "Mount tmpfs".
"""

from __future__ import annotations

import os
import re

from hythe.cli.flag_values import container_path, listed, one_of, size_bytes, truth, wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_WITHOUT_EFFECT = ("z", "Z", "consistent", "cached", "delegated")
"""For SELinux and for hosts that share files with a virtual machine; nothing here."""
_TMPFS_FLAGS = (
    *("exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "dirsync", "mand", "nomand"),
    *("atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime"),
)
_TMPFS_VALUES = {
    "size": re.compile(r"\d{1,18}[kKmMgG%]?", re.ASCII),
    "mode": re.compile(r"[0-7]{3,4}", re.ASCII),
    "uid": re.compile(r"\d{1,10}", re.ASCII),
    "gid": re.compile(r"\d{1,10}", re.ASCII),
    "nr_inodes": re.compile(r"\d{1,18}[kKmMgG]?", re.ASCII),
    "nr_blocks": re.compile(r"\d{1,18}[kKmMgG]?", re.ASCII),
}
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)
_KEYS = {
    "type": "type",
    **dict.fromkeys(("source", "src"), "source"),
    **dict.fromkeys(("target", "destination", "dst"), "target"),
    **dict.fromkeys(("readonly", "ro"), "readonly"),
    **{key: key for key in ("bind-propagation", "bind-nonrecursive", "bind-recursive", "bind-create-src")},
    **{key: key for key in ("volume-nocopy", "volume-driver", "tmpfs-size", "tmpfs-mode", "consistency")},
}
_ELSEWHERE = {
    "volume-label": "make it with its labels first: `hythe volume create --label`",
    "volume-opt": "volumes are directories of the host and have no options",
    "volume-subpath": "mount the whole volume",
    "image-subpath": "images can't be mounted",
}


def mounts(volumes: Sequence[str], by_keys: Sequence[str], tmpfs: Sequence[str]) -> list[dict[str, Any]]:
    """Return all mounts that were asked for, in the order of the flags.

    Raises:
        InvalidArgument: one of them is not understood, or two have one target.
    """
    found = [
        *(("--volume", text, volume(text)) for text in volumes),
        *(("--mount", text, mount(text)) for text in by_keys),
        *(("--tmpfs", text, temporary(text)) for text in tmpfs),
    ]
    taken: dict[str, str] = {}
    for flag, text, wish in found:
        target = wish["target"]
        if target in taken:
            raise wrong(flag, text, f"{taken[target]} is mounted at {target} already")
        taken[target] = f"{flag} {text[:100]!r}"
    return [wish for _, _, wish in found]


def volume(text: str) -> dict[str, Any]:
    """Return the mount that ``[SRC:]DST[:OPTS]`` spells: a path of the host, made where it is missing, or a volume.

    Raises:
        InvalidArgument: it is not understood.
    """
    flag, parts = "--volume", text.split(":")
    if len(parts) > 3 or not all(parts):
        raise wrong(flag, text, "expected [SRC:]DST[:OPTS]", "write e.g. data:/var/lib/data:ro or /srv/www:/www")
    source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    wish: dict[str, Any] = {"target": container_path(flag, text, target), **_source(flag, text, source)}
    if wish["type"] == "bind":
        wish["create"] = True
    access: set[str] = set()
    for option in parts[2].split(",") if len(parts) == 3 else ():
        if option in ("ro", "rw"):
            access.add(option)
            wish["read_only"] = option == "ro"
        elif option == "nocopy" and wish["type"] == "volume":
            wish["no_copy"] = True
        elif option in PROPAGATIONS and wish["type"] == "bind" and "propagation" not in wish:
            wish["propagation"] = option
        elif option not in _WITHOUT_EFFECT:
            raise wrong(flag, text, f"option {option!r} is none, or none for a {wish['type']} mount")
    if len(access) > 1:
        raise wrong(flag, text, "ro and rw contradict each other")
    return wish


def _source(flag: str, text: str, source: str) -> dict[str, Any]:
    if source.startswith((".", "/")):
        return {"type": "bind", "source": os.path.abspath(source)}  # noqa: PTH100 (pathlib would cost 8 ms)
    if source and not _VOLUME_NAME.fullmatch(source):
        raise wrong(
            flag,
            text,
            f"{source!r} is neither an absolute path nor the name of a volume",
            "names are made of letters, digits and _ . -; a path begins with / or .",
        )
    return {"type": "volume", "source": source}


def mount(text: str) -> dict[str, Any]:
    """Return the mount that ``KEY=VALUE,…`` spells.

    Raises:
        InvalidArgument: it is not understood, or a key does not fit the type.
    """
    flag, found = "--mount", _keys(text)
    kind = one_of(flag, text, ("bind", "volume", "tmpfs"), found.pop("type", "volume"))
    if "target" not in found:
        raise wrong(flag, text, "it has no target", "add dst=/path/in/the/container")
    wish: dict[str, Any] = {"type": kind, "target": container_path(flag, text, found.pop("target"))}
    if (readonly := found.pop("readonly", None)) is not None:
        wish["read_only"] = truth(flag, text, readonly)
    found.pop("consistency", None)
    source = found.pop("source", "")
    for key in found:
        if not key.startswith(f"{kind}-"):
            raise wrong(flag, text, f"{key} is not for type={kind}")
    match kind:
        case "bind":
            wish.update(_bind(text, source, found))
        case "volume":
            wish.update(_volume(text, source, found))
        case _:
            wish.update(_tmpfs(text, source, found))
    return wish


def _keys(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in listed("--mount", text):
        key, equals, value = part.partition("=")
        key = key.lower()
        if key in _ELSEWHERE:
            raise wrong("--mount", text, f"{key} is not supported", _ELSEWHERE[key])
        if key not in _KEYS:
            raise wrong("--mount", text, f"there is no key {key!r}", f"keys are {', '.join(_KEYS)}")
        name = _KEYS[key]
        if not equals:
            if name not in ("readonly", "volume-nocopy", "bind-nonrecursive", "bind-create-src"):
                raise wrong("--mount", text, f"{key} has no value")
            value = "true"
        if name in found:
            raise wrong("--mount", text, f"{name} is there twice")
        found[name] = value
    return found


def _bind(text: str, source: str, found: dict[str, str]) -> dict[str, Any]:
    if not source.startswith((".", "/")):
        raise wrong("--mount", text, f"source {source!r} is not an absolute path of the host")
    wish: dict[str, Any] = {"source": os.path.abspath(source)}  # noqa: PTH100 (see above)
    if "bind-create-src" in found:
        wish["create"] = truth("--mount", text, found["bind-create-src"])
    if "bind-propagation" in found:
        wish["propagation"] = one_of("--mount", text, PROPAGATIONS, found["bind-propagation"])
    recursive = one_of("--mount", text, ("enabled", "disabled"), found.get("bind-recursive", "enabled"))
    if recursive == "disabled" or truth("--mount", text, found.get("bind-nonrecursive", "false")):
        wish["options"] = ["bind"]
    return wish


def _volume(text: str, source: str, found: dict[str, str]) -> dict[str, Any]:
    if source and not _VOLUME_NAME.fullmatch(source):
        raise wrong("--mount", text, f"source {source!r} is not the name of a volume", "for a path say type=bind")
    one_of("--mount", text, ("local",), found.get("volume-driver", "local"))
    return {"source": source, "no_copy": truth("--mount", text, found.get("volume-nocopy", "false"))}


def _tmpfs(text: str, source: str, found: dict[str, str]) -> dict[str, Any]:
    if source:
        raise wrong("--mount", text, "a tmpfs has no source")
    options = []
    if "tmpfs-size" in found:
        options.append(f"size={size_bytes('--mount', text, found['tmpfs-size'])}")
    if "tmpfs-mode" in found:
        options.append(_tmpfs_value("--mount", text, f"mode={found['tmpfs-mode'].lstrip('0') or '000'}"))
    return {"options": options}


def temporary(text: str) -> dict[str, Any]:
    """Return the mount that ``DST[:OPTS]`` spells.

    Raises:
        InvalidArgument: the path or an option is not understood.
    """
    flag, (target, colon, rest) = "--tmpfs", text.partition(":")
    wish: dict[str, Any] = {"type": "tmpfs", "target": container_path(flag, text, target), "options": []}
    for option in rest.split(",") if colon else ():
        if option in ("ro", "rw"):
            wish["read_only"] = option == "ro"
        elif option in _TMPFS_FLAGS:
            wish["options"].append(option)
        else:
            wish["options"].append(_tmpfs_value(flag, text, option))
    return wish


def _tmpfs_value(flag: str, text: str, option: str) -> str:
    name, _, value = option.partition("=")
    pattern = _TMPFS_VALUES.get(name)
    if pattern is None or not pattern.fullmatch(value):
        raise wrong(flag, text, f"{option!r} is no option of a tmpfs", "write e.g. size=64m,mode=1777,noexec")
    return option
