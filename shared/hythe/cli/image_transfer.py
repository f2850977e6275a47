"""`hythe pull`, `push` and `images copy`: images between registries and this host."""

from __future__ import annotations

from hythe.cli import asking, exits, output
from hythe.cli.progress import MODES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context


def pull_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe pull`."""
    parser.description = "Fetch an image and unpack it on this host. Prints REFERENCE@DIGEST; progress goes to stderr."
    add = parser.add_argument
    add("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="instead of the host's own")
    add("--all-platforms", action="store_true", help="fetch the image for every platform; unpack the host's own")
    add("--no-unpack", action="store_true", help="only fetch it")
    add("--plain-http", action="store_true", help="speak HTTP without TLS to the registry")
    add("--foreign-layers", choices=("refuse", "fetch"), default="refuse",
        help="layers that the image has elsewhere: refuse the image, or fetch them from where it says")  # fmt: skip
    _shared_arguments(parser)
    add("reference", metavar="IMAGE")


def push_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe push`."""
    parser.description = "Send an image to the registry that its name, or TARGET, names. Prints REFERENCE@DIGEST."
    add = parser.add_argument
    add("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="send the image for this platform alone")
    add("--all-platforms", action="store_true", help="refuse unless every platform of the image is here")
    add("--plain-http", action="store_true", help="speak HTTP without TLS to the registry")
    _shared_arguments(parser)
    add("image", metavar="IMAGE", help="reference or id")
    add("target", metavar="TARGET", nargs="?", default="", help="reference to send it to; the image's own by default")


def copy_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe images copy`."""
    parser.description = "Copy an image from registry to registry by way of this host. Gives it no name here."
    add = parser.add_argument
    add("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="copy the image for this platform alone")
    add("--all-platforms", action="store_true", help="copy the image for every platform")
    add("--source-plain-http", action="store_true", help="speak HTTP without TLS to the registry of SOURCE")
    add("--target-plain-http", action="store_true", help="speak HTTP without TLS to the registry of TARGET")
    add("--plain-http", action="store_true", help="both of these")
    _shared_arguments(parser)
    add("source", metavar="SOURCE", help="reference to copy")
    add("target", metavar="TARGET", help="reference to copy it to")


def _shared_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--referrers", action="store_true", help="with what the registry has about it: signatures, SBOMs")
    add("--progress", choices=MODES, default="auto", help="how progress is shown on stderr (auto)")
    add("-q", "--quiet", action="store_true", help="show no progress")


def pull(context: Context) -> int:
    """Pull an image."""
    args = context.args
    body = {
        "reference": args.reference,
        "platform": args.platform,
        "all_platforms": args.all_platforms,
        "host": context.settings.host,
        "unpack": not args.no_unpack,
        "plain_http": args.plain_http,
        "foreign_layers": args.foreign_layers,
        "referrers": args.referrers,
    }
    result = _operate(context, "runtime", "pull", body, "what was fetched is kept for the next pull")
    image = result["image"]
    if context.as_json:
        more = {name: result.get(name, []) for name in ("platforms", "referrers")}
        output.json_line({**image, "fetched_bytes": result["fetched_bytes"], **more})
    else:
        print(output.visible(f"{image['reference']}@{image['target']['digest']}"))
    return exits.OK


def push(context: Context) -> int:
    """Push an image."""
    args = context.args
    body = {
        "image": args.image,
        "target": args.target,
        "platform": args.platform,
        "all_platforms": args.all_platforms,
        "plain_http": args.plain_http,
        "referrers": args.referrers,
    }
    return _sent(context, "push", body)


def copy(context: Context) -> int:
    """Copy an image between registries."""
    args = context.args
    body = {
        "source": args.source,
        "target": args.target,
        "platform": args.platform,
        "all_platforms": args.all_platforms,
        "source_plain_http": args.source_plain_http or args.plain_http,
        "target_plain_http": args.target_plain_http or args.plain_http,
        "referrers": args.referrers,
    }
    return _sent(context, "copy", body)


def _sent(context: Context, verb: str, body: dict[str, Any]) -> int:
    result = _operate(context, "distribution", verb, body, "what the registry has already is not sent again")
    if context.as_json:
        output.json_line(result)
    else:
        print(output.visible(f"{result['reference']}@{result['digest']}"))
    return exits.OK


def _operate(context: Context, service: str, verb: str, body: dict[str, Any], kept: str) -> dict[str, Any]:
    return asking.with_progress(context, context.subject(service, "image", verb), body, kept)
