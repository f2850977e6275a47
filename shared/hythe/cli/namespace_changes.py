"""`hythe namespace create`, `label` and `rm`."""

from __future__ import annotations

from hythe.cli import exits, output
from hythe.cli.content_words import parse_label, show_labels
from hythe.cli.each import for_each_shown
from hythe.cli.namespaces import ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser

    from hythe.cli.context import Context

_DEFAULTS = "containerd.io/defaults/snapshotter and containerd.io/defaults/runtime say what is used in it by default."


def create_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe namespace create`."""
    parser.description = f"Make a namespace; one also comes to be with the first thing in it. {_DEFAULTS}"
    parser.add_argument("name", metavar="NAME", help="letters and digits, joined by . _ or -; at most 76 characters")
    parser.add_argument("label", nargs="*", metavar="KEY=VALUE", help="labels of the namespace")


def create(context: Context) -> int:
    """Make a namespace."""
    args = context.args
    made = ask(context, "create", name=args.name, labels=dict(parse_label(text) for text in args.label))
    if context.as_json:
        output.json_line(made)
    else:
        print(output.visible(made["name"]))
    return exits.OK


def label_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe namespace label`."""
    parser.description = f"Set labels of a namespace; `KEY=` takes one away. Prints all it has then. {_DEFAULTS}"
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("label", nargs="+", metavar="KEY=VALUE")


def label(context: Context) -> int:
    """Set labels."""
    args = context.args
    labels = dict(parse_label(text) for text in args.label)
    show_labels(context, ask(context, "label", name=args.name, labels=labels))
    return exits.OK


def rm_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe namespace rm`."""
    parser.description = "Remove namespaces that have nothing in them; of others it is said what they have."
    parser.add_argument("names", nargs="+", metavar="NAME")


def rm(context: Context) -> int:
    """Remove namespaces, each even if one before could not be."""
    for_each_shown(context.args.names, lambda name: ask(context, "remove", name=name))
    return exits.OK
