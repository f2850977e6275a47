"""What the flags of rights, namespaces and hooks say, as messages have it."""

from __future__ import annotations

import re

from hythe.cli import output
from hythe.cli.flag_values import file_text, integer, listed, one_of, truth, wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

STAGES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
MAX_ID = 2**32 - 2
_CAPABILITY = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)


def security(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rights that the flags in `given` name (`hythe.wire.container.SecurityWishes`).

    Raises:
        InvalidArgument: a value is not understood, or names a file that is no system call filter.
    """
    found: dict[str, Any] = {
        "privileged": "privileged" in given,
        "cap_add": _capabilities("--cap-add", given.get("cap_add", ())),
        "cap_drop": _capabilities("--cap-drop", given.get("cap_drop", ())),
    }
    for text in given.get("security_opt", ()):
        found.update(_option(text))
    return found


def _capabilities(flag: str, texts: Sequence[str]) -> list[str]:
    for text in texts:
        if not _CAPABILITY.fullmatch(text):
            raise wrong(flag, text, "it is no capability", "write e.g. NET_ADMIN or ALL; repeat the flag for another")
    return list(texts)


def _option(text: str) -> dict[str, Any]:
    flag, name = "--security-opt", re.split("[=:]", text, maxsplit=1)[0]
    value = text[len(name) + 1 :]
    match name:
        case "no-new-privileges":
            return {"no_new_privileges": truth(flag, text, value) if len(text) > len(name) else True}
        case "seccomp" if value:
            return {"seccomp": _filter(flag, text, value)}
        case "apparmor" if value:
            return {"apparmor": value}
        case "systempaths":
            return {"unmask": one_of(flag, text, ("unconfined",), value) == "unconfined"}
        case "label":
            output.warn(f"--security-opt {text}: labels are SELinux's, which Hythe does not use; left out")
            return {}
    known = "seccomp=FILE|unconfined|builtin, apparmor=PROFILE, no-new-privileges and systempaths=unconfined"
    raise wrong(flag, text, "there is no such option, or it has no value", f"there are {known}")


def _filter(flag: str, text: str, value: str) -> str:
    if value == "unconfined":
        return value
    if value == "builtin":
        return ""
    import json  # only for a filter of the user's own

    content = file_text(flag, text, value)
    try:
        profile = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise wrong(flag, text, f"the file is not JSON: {error}") from None
    if not isinstance(profile, dict) or "defaultAction" not in profile:
        raise wrong(flag, text, "the file is no filter of system calls: it has no defaultAction")
    return json.dumps(profile, separators=(",", ":"))


def namespaces(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the namespaces that the flags in `given` name (`hythe.wire.container.NamespaceWishes`).

    Raises:
        InvalidArgument: a value is not understood, or a map is missing or not wanted.
    """
    found: dict[str, Any] = {}
    for name, field in (("pid", "pid"), ("ipc", "ipc"), ("uts", "uts"), ("cgroupns", "cgroup")):
        if name in given:
            found[field] = one_of(f"--{name}", given[name], ("host", "private"))
    users = [_range("--uidmap", text) for text in given.get("uidmap", ())]
    groups = [_range("--gidmap", text) for text in given.get("gidmap", ())]
    if groups and not users:
        raise wrong("--gidmap", given["gidmap"][0], "it needs --uidmap")
    if "userns" in given:
        wanted = one_of("--userns", given["userns"], ("host", "private"))
        if wanted == "private" and not users:
            raise wrong("--userns", wanted, "it needs --uidmap", "add e.g. --uidmap 0:100000:65536")
        if wanted == "host" and users:
            raise wrong("--userns", wanted, "--uidmap asks for users of its own")
    if users:
        found.update(user_ids=users, group_ids=groups)
    return found


def _range(flag: str, text: str) -> dict[str, int]:
    parts = text.split(":")
    if len(parts) != 3:
        raise wrong(flag, text, "expected CONTAINER:HOST:SIZE", "write e.g. 0:100000:65536")
    inside, outside = (integer(flag, text, 0, MAX_ID, part) for part in parts[:2])
    size = integer(flag, text, 1, MAX_ID + 1, parts[2])
    if max(inside, outside) + size > MAX_ID + 1:
        raise wrong(flag, text, f"it goes beyond id {MAX_ID}")
    return {"container_id": inside, "host_id": outside, "size": size}


def hook(text: str) -> dict[str, Any]:
    """Return the hook that ``STAGE=PATH[,ARG…]`` spells (`hythe.wire.container.HookWish`).

    Raises:
        InvalidArgument: there is no such stage, or the program's path is not absolute.
    """
    stage, _, rest = text.partition("=")
    if stage not in STAGES:
        raise wrong("--hook", text, f"there is no stage {stage!r}", f"stages are {', '.join(STAGES)}")
    args = listed("--hook", text, rest)
    if not args[0].startswith("/"):
        raise wrong("--hook", text, f"{args[0]!r} is not an absolute path of the host")
    return {"stage": stage, "path": args[0], "args": args}
