"""Instructions of a Dockerfile that change the config of an image: `hythe commit --change`."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

from hythe.errors import InvalidArgument

SHELL = ("/bin/sh", "-c")
MAX_PORT = 65535
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?")
_SIGNAL = re.compile(r"(?:SIG)?[A-Z][A-Z0-9+-]*|\d{1,2}")

Config = MutableMapping[str, Any]


def apply_instructions(config: Mapping[str, Any], instructions: Sequence[str]) -> dict[str, Any]:
    """Return `config`, the ``config`` object of an image config, after `instructions`, in order.

    Known are CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR, each as in a Dockerfile: words may be
    quoted, ``$NAME`` stands for a variable of the image's environment (not in CMD and ENTRYPOINT).

    Raises:
        InvalidArgument: one is unknown or malformed; the message has it.

    Spec: Dockerfile reference; OCI image-spec, "Image Configuration".
    """
    changed: dict[str, Any] = dict(config)
    seen: set[str] = set()
    for instruction in instructions:
        word, _, rest = instruction.strip().partition(" ")
        name, rest = word.upper(), rest.strip()
        apply = _INSTRUCTIONS.get(name)
        if apply is None:
            raise _refused(instruction, f"{name[:40] or 'nothing'} is none of {', '.join(sorted(_INSTRUCTIONS))}")
        if not rest:
            raise _refused(instruction, "nothing follows it")
        try:
            apply(changed, rest)
        except ValueError as error:
            raise _refused(instruction, str(error)) from None
        if name == "ENTRYPOINT" and "CMD" not in seen:
            changed.pop("Cmd", None)  # it was meant for the entrypoint before
        seen.add(name)
    return changed


def _refused(instruction: str, reason: str) -> InvalidArgument:
    return InvalidArgument(
        f"change image config by {instruction[:100]!r}: {reason}",
        next_step="""write an instruction as in a Dockerfile, e.g. --change 'CMD ["sh", "-c", "date"]'""",
    )


def _command(key: str) -> Callable[[Config, str], None]:
    def apply(config: Config, text: str) -> None:
        config[key] = _json_words(text) or [*SHELL, text]

    return apply


def _json_words(text: str) -> list[str] | None:
    """Return the words of a JSON list; None for anything else, which then is a shell's."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except ValueError:
        return None
    if not isinstance(words, list) or not all(isinstance(word, str) and "\0" not in word for word in words):
        return None
    return words


def _env(config: Config, text: str) -> None:
    known = {pair.partition("=")[0]: pair for pair in config.get("Env") or ()}
    for key, value in _pairs(config, text):
        known[key] = f"{key}={value}"
    config["Env"] = list(known.values())


def _label(config: Config, text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(config, text))}


def _pairs(config: Config, text: str) -> list[tuple[str, str]]:
    """Return ``key=value`` pairs, or the one pair of the old form ``key value``."""
    words = _words(config, text)
    if words and "=" not in words[0]:
        if len(words) < 2:
            raise ValueError("expected key=value")
        return [(words[0], " ".join(words[1:]))]
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ValueError(f"{word[:60]!r} is not key=value")
        pairs.append((key, value))
    return pairs


def _expose(config: Config, text: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in _words(config, text):
        match = _PORT.fullmatch(word)
        if match is None:
            raise ValueError(f"{word[:60]!r} is no port")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 < first <= last <= MAX_PORT:
            raise ValueError(f"{word[:60]!r} is no port from 1 to {MAX_PORT}")
        for port in range(first, last + 1):
            ports[f"{port}/{match[3] or 'tcp'}"] = {}
    config["ExposedPorts"] = ports


def _volume(config: Config, text: str) -> None:
    words = _json_words(text) or _words(config, text)
    if not all(words):
        raise ValueError("a path is empty")
    config["Volumes"] = {**(config.get("Volumes") or {}), **{word: {} for word in words}}


def _user(config: Config, text: str) -> None:
    config["User"] = _one(config, text)


def _working_directory(config: Config, text: str) -> None:
    config["WorkingDir"] = posixpath.normpath(posixpath.join("/", config.get("WorkingDir") or "", _one(config, text)))


def _stop_signal(config: Config, text: str) -> None:
    word = _one(config, text)
    if not _SIGNAL.fullmatch(word):
        raise ValueError(f"{word[:40]!r} is no signal")
    config["StopSignal"] = word


def _one(config: Config, text: str) -> str:
    words = _words(config, text)
    if len(words) != 1 or not words[0]:
        raise ValueError("expected one word")
    return words[0]


def _words(config: Config, text: str) -> list[str]:
    """Return the words of `text` with quotes taken away and variables put in, but for those in single quotes."""
    words: list[str] = []
    word, in_word, quote, at = "", False, "", 0
    while at < len(text):
        sign = text[at]
        variable = _VARIABLE.match(text, at) if sign == "$" and quote != "'" else None
        if variable is not None:
            word, in_word, at = word + _value_of(config, variable[1] or variable[2]), True, variable.end()
            continue
        at += 1
        if sign == "\\" and quote != "'" and at < len(text):
            word, in_word, at = word + text[at], True, at + 1
        elif sign == quote:
            quote = ""
        elif sign in "\"'" and not quote:
            quote, in_word = sign, True
        elif sign.isspace() and not quote:
            if in_word:
                words.append(word)
            word, in_word = "", False
        else:
            word, in_word = word + sign, True
    if quote:
        raise ValueError(f"a {quote} is never closed")
    return [*words, word] if in_word else words


def _value_of(config: Config, name: str) -> str:
    for pair in config.get("Env") or ():
        key, _, value = pair.partition("=")
        if key == name:
            return str(value)
    return ""


_INSTRUCTIONS: dict[str, Callable[[Config, str], None]] = {
    "CMD": _command("Cmd"),
    "ENTRYPOINT": _command("Entrypoint"),
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _working_directory,
}
