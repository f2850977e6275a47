"""What the commands of `hythe bundle` have in common: paths and containers that people name, asking the service, progress."""

from __future__ import annotations

import os

from hythe.cli import asking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context

NOUN = "bundle"


def absolute(path: str) -> str:
    """Return a path as the service takes it: absolute, of the directory that the command was called in."""
    return os.path.abspath(path)  # noqa: PTH100 (links stay as they are: pathlib would need them resolved)


def label_of(text: str) -> tuple[str, str]:
    """Return the name and the value of a ``--label``."""
    name, _, value = text.partition("=")
    return name, value


def long_arguments(parser: ArgumentParser) -> None:
    """Add the flags of commands that take long."""
    from hythe.cli.progress import MODES

    parser.add_argument("--progress", choices=MODES, default="auto", help="how progress is shown on stderr (auto)")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def subject(context: Context, verb: str, host: str = "") -> str:
    """Return the subject of a request to the bundle service of a host, the command's own by default."""
    return asking.bundle_subject(context, NOUN, verb, host)


def ask(context: Context, verb: str, body: dict[str, Any], host: str = "") -> dict[str, Any]:
    """Make one request to the bundle service of a host and return its answer."""
    return context.bus.call(subject(context, verb, host), body)


def operate(context: Context, verb: str, body: dict[str, Any], host: str = "") -> dict[str, Any]:
    """Follow an operation of the bundle service to its end, with its progress on stderr; return its result.

    When this command is interrupted, the service ends the work and takes away what it made.
    """
    return asking.with_progress(context, subject(context, verb, host), body, "what is unfinished is taken away")


def container_of(context: Context, key: str) -> tuple[str, str]:
    """Return the id and the host of a container that `key` names."""
    found = context.bus.call(context.subject("runtime", "container", "inspect"), {"key": key})
    either = found.get("record") or found["status"]
    return str(either["id"]), str(either["host"])


def is_directory(key: str) -> bool:
    """Tell whether what a user names is a bundle directory: it has a slash in it, or is one here; else it is a container."""
    return "/" in key or key in (".", "..") or os.path.isdir(key)  # noqa: PTH112 (start-up)
