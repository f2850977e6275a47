"""The flags of `hythe bundle create`: those of `hythe run` that go into a config.json."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def config_arguments(parser: ArgumentParser) -> None:
    """Add the flags."""
    add = parser.add_argument
    add("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]", help="variable; without value, from here")
    add("--entrypoint", metavar="COMMAND", help="in place of the image's; empty for none")
    add("-w", "--workdir", default="", metavar="DIR", help="working directory")
    add("-u", "--user", default="", metavar="USER[:GROUP]", help="user and group, names or numbers")
    add("--network", choices=("none", "host"), default="none", help="none (loopback only) or the host's")
    add("--hostname", default="", help="host name inside")
    add("--read-only", action="store_true", help="root file system read-only")
    add("--stop-signal", default="", metavar="SIGNAL", help="signal that asks it to end")


def config_of(args: Namespace) -> dict[str, Any]:
    """Return the spec that the flags ask for (`hythe.wire.container.ContainerSpec`)."""
    return {
        "args": args.command,
        "entrypoint": None if args.entrypoint is None else ([args.entrypoint] if args.entrypoint else []),
        "env": [
            text if "=" in text else f"{text}={os.environ[text]}"
            for text in args.env
            if "=" in text or text in os.environ
        ],
        "cwd": args.workdir,
        "user": args.user,
        "hostname": args.hostname,
        "network": args.network,
        "read_only": args.read_only,
        "stop_signal": args.stop_signal,
    }
