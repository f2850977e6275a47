"""A seccomp profile of the user's own, in OCI's form or in moby's, whose conditions are resolved for one container.

The profile is checked to the last field, for the runtime acts on it as root: it may not name a socket to notify, and what is no
field of a profile is refused, so that a misspelt one doesn't leave a hole.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hythe.errors import InvalidArgument

MAX_BYTES = 1 << 20
MAX_RULES = 4096
_ACTIONS = {
    *("SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"),
    *("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG"),
}
_WITH_NUMBER = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_OPERATORS = {f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")}
_FLAGS = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"}
_ARCHITECTURES = {
    f"SCMP_ARCH_{name}"
    for name in (
        *("X86", "X86_64", "X32", "ARM", "AARCH64", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32"),
        *("PPC", "PPC64", "PPC64LE", "S390", "S390X", "PARISC", "PARISC64", "RISCV64"),
    )
}
_NATIVE = {
    "amd64": "SCMP_ARCH_X86_64",
    "arm64": "SCMP_ARCH_AARCH64",
    "ppc64le": "SCMP_ARCH_PPC64LE",
    "s390x": "SCMP_ARCH_S390X",
    "riscv64": "SCMP_ARCH_RISCV64",
}
_TOP = {
    *("defaultAction", "defaultErrnoRet", "defaultErrno", "architectures", "archMap", "flags", "syscalls"),
    *("listenerPath", "listenerMetadata"),
}
_RULE = {"names", "name", "action", "args", "errnoRet", "errno", "includes", "excludes", "comment"}
_ARGUMENT = {"index", "value", "valueTwo", "op"}
_CONDITION = {"caps", "arches", "minKernel"}
_NAME = re.compile(r"[a-z0-9_]{1,64}")
_KERNEL = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(?:[.-].{0,40})?")
_MOST = 2**64 - 1

_Object = Mapping[str, Any]


def resolve(text: str, architecture: str, capabilities: Sequence[str], kernel: tuple[int, int]) -> dict[str, Any]:
    """Return the profile that `text` spells as ``linux.seccomp``, only with the rules that hold for this container.

    Args:
        text: JSON.
        architecture: this host's processor as images name it.
        capabilities: those in the container's bounding set.
        kernel: version and patch level of this host's.

    Raises:
        InvalidArgument: it is no profile, larger than 1 MiB, or wants a notification.

    Spec: OCI runtime-spec, "Seccomp"; for conditions moby's profiles/seccomp.
    """
    if len(text) > MAX_BYTES:
        raise _refused(f"it is longer than {MAX_BYTES} characters")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("read seccomp profile: it is not JSON", cause=str(error)[:200]) from None
    top = _object("the profile", document, _TOP)
    if "listenerPath" in top or "listenerMetadata" in top:
        raise _refused("it wants a program of the host to be notified")
    made: dict[str, Any] = {"defaultAction": _one_of("defaultAction", top.get("defaultAction"), _ACTIONS)}
    if (number := _error_number("default", top.get("defaultErrnoRet"), top.get("defaultErrno"))) is not None:
        made["defaultErrnoRet"] = number
    if architectures := _architectures(top, architecture):
        made["architectures"] = architectures
    if flags := _list("flags", top.get("flags"), 8):
        made["flags"] = [_one_of("flags", flag, _FLAGS) for flag in flags]
    rules = [_object("a rule", rule, _RULE) for rule in _list("syscalls", top.get("syscalls"), MAX_RULES)]
    made["syscalls"] = [_rule(rule) for rule in rules if _holds(rule, architecture, capabilities, kernel)]
    return made


def _architectures(top: _Object, architecture: str) -> list[str]:
    names = _list("architectures", top.get("architectures"), 64)
    table = _list("archMap", top.get("archMap"), 64)
    if names and table:
        raise _refused("it has both architectures and archMap")
    for entry in table:
        row = _object("archMap", entry, {"architecture", "subArchitectures"})
        if row.get("architecture") == _NATIVE.get(architecture):
            names = [row["architecture"], *_list("subArchitectures", row.get("subArchitectures"), 64)]
    return [_one_of("architectures", name, _ARCHITECTURES) for name in names]


def _holds(rule: _Object, architecture: str, capabilities: Sequence[str], kernel: tuple[int, int]) -> bool:
    """Tell whether a rule's conditions hold: all that it includes, none that it excludes."""
    included = _object("includes", rule.get("includes") or {}, _CONDITION)
    excluded = _object("excludes", rule.get("excludes") or {}, _CONDITION)
    arches = _texts("arches", included.get("arches"))
    return (
        all(name in capabilities for name in _texts("caps", included.get("caps")))
        and (not arches or architecture in arches)
        and _kernel(included.get("minKernel"), default=True, running=kernel)
        and not any(name in capabilities for name in _texts("caps", excluded.get("caps")))
        and architecture not in _texts("arches", excluded.get("arches"))
        and not _kernel(excluded.get("minKernel"), default=False, running=kernel)
    )


def _kernel(text: object, *, default: bool, running: tuple[int, int]) -> bool:
    if text is None or text == "":
        return default
    match = _KERNEL.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise _refused(f"{str(text)[:50]!r} is no version of a kernel")
    return (int(match[1]), int(match[2])) <= running


def _rule(rule: _Object) -> dict[str, Any]:
    names = _list("names", rule.get("names"), MAX_RULES)
    if "name" in rule:
        if names:
            raise _refused("a rule has both name and names")
        names = [rule["name"]]
    if not names or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise _refused(f"a rule is for {str(names)[:100]}, which are no names of system calls")
    action = _one_of("action", rule.get("action"), _ACTIONS)
    made: dict[str, Any] = {"names": names, "action": action}
    number = _error_number("rule", rule.get("errnoRet"), rule.get("errno"))
    if number is not None and action in _WITH_NUMBER:
        made["errnoRet"] = number
    if args := _list("args", rule.get("args"), 6):
        made["args"] = [_argument(arg) for arg in args]
    return made


def _argument(document: object) -> dict[str, Any]:
    argument = _object("an argument", document, _ARGUMENT)
    return {
        "index": _number("index", argument.get("index"), 5),
        "value": _number("value", argument.get("value"), _MOST),
        "valueTwo": _number("valueTwo", argument.get("valueTwo", 0), _MOST),
        "op": _one_of("op", argument.get("op"), _OPERATORS),
    }


def _error_number(where: str, number: object, name: object) -> int | None:
    """Return the number of an error, which newer profiles give by name; None if it has none."""
    if name not in (None, ""):
        known = {text: value for value, text in errno.errorcode.items()}
        if not isinstance(name, str) or name not in known:
            raise _refused(f"{str(name)[:50]!r} of the {where} is no error")
        if number not in (None, known[name]):
            raise _refused(f"the {where} has two different errors")
        return known[name]
    return None if number is None else _number("errnoRet", number, 4095)


def _object(what: str, document: object, fields: set[str]) -> _Object:
    if not isinstance(document, dict):
        raise _refused(f"{what} is no object")
    if unknown := sorted(set(document) - fields):
        raise _refused(f"{what} has an unknown field {unknown[0][:50]!r}")
    return document


def _list(what: str, document: object, most: int) -> list[Any]:
    if document is None:
        return []
    if not isinstance(document, list) or len(document) > most:
        raise _refused(f"{what} is no list of at most {most}")
    return document


def _texts(what: str, document: object) -> list[str]:
    texts = _list(what, document, 256)
    if not all(isinstance(text, str) for text in texts):
        raise _refused(f"{what} is no list of names")
    return texts


def _one_of(what: str, document: object, known: set[str]) -> str:
    if not isinstance(document, str) or document not in known:
        raise _refused(f"{what} {str(document)[:50]!r} is none of {', '.join(sorted(known))}")
    return document


def _number(what: str, document: object, most: int) -> int:
    if not isinstance(document, int) or isinstance(document, bool) or not 0 <= document <= most:
        raise _refused(f"{what} {str(document)[:50]!r} is not from 0 to {most}")
    return document


def _refused(reason: str) -> InvalidArgument:
    return InvalidArgument(f"read seccomp profile: {reason}", next_step="write it as moby's or OCI's profiles are")
