"""`hythe bundle`: the table of its commands, and bundles created, listed, shown and removed."""

from __future__ import annotations

import json
import time

from hythe.cli import asking, exits, output
from hythe.cli.bundle_words import absolute, ask, container_of, is_directory, long_arguments, operate, subject
from hythe.cli.each import for_each_shown
from hythe.cli.subcommands import Command
from hythe.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context

LS = Command("bundles", "list bundles: those of containers, and directories made here", traced=True, default=True)
RM = Command("bundles", "remove bundle directories that were made here", traced=True)
SUBCOMMANDS: dict[str, Command] = {
    "ls": LS,
    "list": LS,
    "create": Command("bundles", "make a bundle directory of an image", traced=True),
    "run": Command("bundle_run", "run a bundle directory in a new container", traced=True),
    "inspect": Command("bundles", "show everything known about bundles", traced=True),
    "pack": Command(
        "bundle_pack", "write a bundle as an archive, or push it to a registry", traced=True, output_file=True
    ),
    "unpack": Command("bundle_pack", "make a bundle directory of an archive", traced=True),
    "pull": Command("bundle_pack", "make a bundle directory of what was pushed to a registry", traced=True),
    "rm": RM,
    "remove": RM,
}


def create_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe bundle create`."""
    from hythe.cli.container_flags import container_arguments

    parser.usage = f"{parser.prog} [flags] IMAGE DIR [COMMAND ...]"
    parser.description = (
        "Make the new directory DIR with config.json, rootfs/ and hythe.json, of an image that is fetched if it is missing. "
        "`hythe bundle run DIR` and `runc run -b DIR ID` start it, here or wherever it is carried to."
    )
    container_arguments(parser)
    parser.add_argument("--plain-http", action="store_true", help="the registry speaks HTTP without TLS")
    long_arguments(parser)
    parser.add_argument("image", metavar="IMAGE", help="reference of the image")
    parser.add_argument("directory", metavar="DIR", help="a directory that isn't there, or an empty one")
    command = parser.add_argument(
        "command", metavar="COMMAND", nargs="...", help="command and arguments, in place of the image's"
    )
    command.required = False  # none is enough for "...", which argparse does not see


def create(context: Context) -> int:
    """Create a bundle."""
    from hythe.cli.container_flags import spec_of

    args = context.args
    directory = absolute(args.directory)
    body = {
        "directory": directory,
        "image": _image(context, args.image),
        "spec": spec_of(args),
        "plain_http": args.plain_http,
    }
    made = operate(context, "create", body)
    if context.as_json:
        output.json_line(made)
    else:
        print(output.visible(made["directory"]))
    return exits.OK


def _image(context: Context, name: str) -> dict[str, str]:
    """Return an image's reference and digest; one that isn't here is pulled first."""
    try:
        found = context.bus.call(context.subject("distribution", "image", "inspect"), {"image": name})
        return {"reference": found["summary"]["reference"], "digest": found["target"]["digest"]}
    except NotFound as error:
        if error.details.get("kind") not in ("", None, "image"):
            raise
    args = context.args
    body = {"reference": name, "host": context.settings.host, "plain_http": args.plain_http}
    result = asking.with_progress(context, context.subject("runtime", "image", "pull"), body)["image"]
    return {"reference": result["reference"], "digest": result["target"]["digest"]}


def ls_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe bundle ls`."""
    parser.add_argument("-q", "--quiet", action="store_true", help="only paths")


def ls(context: Context) -> int:
    """List bundles."""
    rows = list(asking.pages(lambda after: ask(context, "list", {"after": after}), "bundles"))
    if context.args.quiet:
        for row in rows:
            print(output.visible(row["path"]))
    elif context.as_json:
        for row in rows:
            output.json_line(row)
    else:
        now = time.time()
        output.table(
            ("PATH", "KIND", "IMAGE", "CREATED", "CONTAINER"),
            [
                (
                    row["path"] + (" (gone)" if row["missing"] else ""),
                    row["kind"],
                    row["image"],
                    output.since(row["created_at"], now),
                    ",".join(row["containers"]),
                )
                for row in rows
            ],
        )
    return exits.OK


def inspect_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe bundle inspect`."""
    parser.description = "Show record, config.json and mounts of bundles, as JSON."
    parser.add_argument(
        "bundles", nargs="+", metavar="DIR|CONTAINER", help="a directory has a slash in its name, or is here"
    )


def inspect(context: Context) -> int:
    """Show bundles."""
    for key in context.args.bundles:
        if is_directory(key):
            found = ask(context, "inspect", {"directory": absolute(key)})
        else:
            container, host = container_of(context, key)
            found = ask(context, "inspect", {"id": container}, host)
        shown = {**found, "config": json.loads(found["config"]), "record": _json(found["record"])}
        print(output.json_text(shown, indent=None if context.as_json else 2))
    return exits.OK


def _json(text: str) -> Any:
    """Return the record as an object; as text where somebody made it that Hythe isn't."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text


def rm_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe bundle rm`."""
    parser.description = "Remove directories that `hythe bundle create`, `unpack` or `pull` made here; no others."
    parser.add_argument("directories", nargs="+", metavar="DIR")


def rm(context: Context) -> int:
    """Remove bundle directories, each even if one before could not be."""

    def remove(text: str) -> None:
        context.follow(subject(context, "remove"), {"directory": absolute(text)})

    for_each_shown(context.args.directories, remove)
    return exits.OK
