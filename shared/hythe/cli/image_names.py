"""`hythe tag` and `hythe rmi`: the names that point to images."""

from __future__ import annotations

from hythe.cli import collecting, exits, output
from hythe.cli.each import tried
from hythe.cli.image_words import DANGLING, familiar
from hythe.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context


def tag_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe tag`."""
    parser.description = "Give an image another name. A name that is taken points to this image from now on."
    parser.add_argument("source", metavar="SOURCE", help="reference or id of an image")
    parser.add_argument("target", metavar="TARGET", help="its new reference")


def tag(context: Context) -> int:
    """Name an image."""
    body = {"image": context.args.source, "target": context.args.target}
    answer = context.bus.call(context.subject("distribution", "image", "tag"), body)
    if context.as_json:
        output.json_line(answer)
    return exits.OK


def rm_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe rmi`."""
    parser.description = (
        "Remove images by name, or with an id all names of an image. Content that nothing keeps any more goes with the next "
        "collection; with --sync, before the command returns."
    )
    parser.add_argument(
        "-f", "--force", action="store_true", help="also with several names or in use; missing ones are fine"
    )
    collecting.sync_argument(parser)
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="reference or id")


def rm(context: Context) -> int:
    """Remove images, each even if one before could not be."""
    subject = context.subject("distribution", "image", "remove")

    def remove(image: str) -> None:
        try:
            answer = context.bus.call(subject, {"image": image, "force": context.args.force})
        except NotFound as error:
            if not context.args.force:
                raise
            output.warn(error.message)
        else:
            _show(context, answer)

    error = tried(context.args.images, remove)
    if context.args.sync:
        freed_bytes = collecting.collect(context)
        if not context.as_json:
            print(f"Freed: {output.size(freed_bytes)}")
    if error:
        raise error
    return exits.OK


def _show(context: Context, answer: dict[str, Any]) -> None:
    if context.as_json:
        output.json_line(answer)
        return
    for reference in answer["untagged"]:
        if not reference.startswith(DANGLING):
            print(f"Untagged: {output.visible(familiar(reference))}")
    for digest in answer["deleted"]:
        print(f"Deleted: {output.visible(digest)}")
