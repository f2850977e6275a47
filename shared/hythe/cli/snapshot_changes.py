"""`hythe snapshot prepare`, `view`, `commit`, `label`, `rm` and `cleanup`: what changes the snapshots of this host."""

from __future__ import annotations

from hythe.cli import exits, output
from hythe.cli.content_words import parse_label, show_labels
from hythe.cli.each import for_each_shown
from hythe.cli.snapshot_words import PER_HOST, ask, operate
from hythe.labels import GC_ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from hythe.cli.context import Context


def _add_labels(parser: ArgumentParser) -> None:
    parser.add_argument(
        "-l",
        "--label",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"label; repeatable. {GC_ROOT} is set, so that it isn't collected as garbage; `-l {GC_ROOT}=` leaves that out",
    )


def _labels(context: Context) -> dict[str, str]:
    return dict(parse_label(text) for text in context.args.label)


def _kept_labels(context: Context) -> dict[str, str]:
    """Return labels for what a user makes: as with `ctr`, it stays until he removes it, unless he wants no such label."""
    from hythe.clock import now_rfc3339

    labels = {GC_ROOT: now_rfc3339(), **_labels(context)}
    if not labels[GC_ROOT]:
        del labels[GC_ROOT]
    return labels


def _add_place(parser: ArgumentParser) -> None:
    _add_labels(parser)
    parser.add_argument("--target", default="", metavar="DIR", help="print the commands that mount it there")
    parser.add_argument("name", metavar="KEY")
    parser.add_argument(
        "parent", metavar="PARENT", nargs="?", default="", help="a committed snapshot; nothing by default"
    )


def prepare_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe snapshot prepare`."""
    parser.description = f"Make an active snapshot: a place to write to, on top of PARENT. {PER_HOST}"
    _add_place(parser)


def prepare(context: Context) -> int:
    """Make an active snapshot."""
    args = context.args
    _show(context, operate(context, "prepare", name=args.name, parent=args.parent, labels=_kept_labels(context)))
    return exits.OK


def view_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe snapshot view`."""
    parser.description = f"Make a view: what PARENT shows, to read only. {PER_HOST}"
    _add_place(parser)


def view(context: Context) -> int:
    """Make a view."""
    args = context.args
    _show(context, ask(context, "view", name=args.name, parent=args.parent, labels=_kept_labels(context)))
    return exits.OK


def _show(context: Context, made: dict[str, Any]) -> None:
    from hythe.cli.snapshots import show_mounts

    if context.as_json:
        output.json_line({"name": context.args.name, "mounts": made["mounts"]})
    elif context.args.target:
        show_mounts(context, made["mounts"], context.args.target)
    else:
        print(output.visible(context.args.name))


def commit_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe snapshot commit`."""
    parser.description = (
        f"Make the active snapshot KEY, which must not be mounted, the committed snapshot NAME: a layer. {PER_HOST}"
    )
    _add_labels(parser)
    parser.add_argument("name", metavar="NAME", help="what it shall be called")
    parser.add_argument("key", metavar="KEY", help="an active snapshot; there is none of that name then")


def commit(context: Context) -> int:
    """Commit an active snapshot."""
    args = context.args
    operate(context, "commit", name=args.name, key=args.key, labels=_kept_labels(context))
    if context.as_json:
        output.json_line(ask(context, "info", name=args.name))
    else:
        print(output.visible(args.name))
    return exits.OK


def label_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe snapshot label`."""
    parser.description = f"Set labels of a snapshot; `KEY=` takes one away. Prints all it has then. {PER_HOST}"
    parser.add_argument("name", metavar="KEY")
    parser.add_argument("label", nargs="+", metavar="KEY=VALUE")


def label(context: Context) -> int:
    """Set labels."""
    found = ask(context, "label", name=context.args.name, labels=_labels(context))
    show_labels(context, found)
    return exits.OK


def rm_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe snapshot rm`."""
    parser.description = (
        "Remove snapshots that nothing lies on and nothing uses. An image whose layer is removed is unpacked again when it is "
        f"needed; a container's goes with `hythe rm`. {PER_HOST}"
    )
    parser.add_argument("names", nargs="+", metavar="KEY")


def rm(context: Context) -> int:
    """Remove snapshots in the order given, each even if one before could not be."""
    for_each_shown(context.args.names, lambda name: ask(context, "remove", name=name))
    return exits.OK


def cleanup_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe snapshot cleanup`."""
    parser.description = (
        "Remove directories of snapshots that no record speaks of. Each start of the stack does so; nothing that is mounted, or "
        f"being made, is touched. {PER_HOST}"
    )


def cleanup(context: Context) -> int:
    """Remove leftovers and say how many."""
    found = operate(context, "cleanup")
    if context.as_json:
        output.json_line(found)
    else:
        print(f"removed {found['removed']} {'directory' if found['removed'] == 1 else 'directories'}")
    return exits.OK
