"""`hythe volume create`, `rm` and `prune`."""

from __future__ import annotations

from hythe.cli import asking, exits, output
from hythe.cli.each import for_each
from hythe.cli.filters_docker import read
from hythe.cli.flag_values import one_of
from hythe.cli.volumes import ask
from hythe.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser

    from hythe.cli.context import Context


_WHAT = {
    True: "all volumes that no container uses, with all that is in them",
    False: "all volumes without a name that no container uses, with all that is in them",
}


def create_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe volume create`."""
    parser.description = "Make a volume; nothing happens if there is one of that name. Prints its name."
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="a random one by default")
    parser.add_argument(
        "-l", "--label", action="append", default=[], metavar="NAME[=VALUE]", help="label of the volume"
    )
    parser.add_argument("-d", "--driver", default="local", metavar="DRIVER", help="as in Docker; there is only `local`")


def create(context: Context) -> int:
    """Make a volume."""
    args = context.args
    one_of("--driver", args.driver, ("local",))
    labels = {name: value for name, _, value in (text.partition("=") for text in args.label)}
    made = ask(context, "create", name=args.name, labels=labels)
    if context.as_json:
        output.json_line(made)
    else:
        print(made["name"])
    return exits.OK


def rm_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe volume rm`."""
    parser.description = "Remove volumes, with all that is in them. One that a container uses is not removed."
    parser.add_argument("-f", "--force", action="store_true", help="missing ones are fine")
    parser.add_argument("names", nargs="+", metavar="VOLUME")


def rm(context: Context) -> int:
    """Remove volumes, each even if one before could not be."""

    def remove(name: str) -> None:
        try:
            ask(context, "remove", name=name)
        except NotFound:
            if not context.args.force:
                raise
        else:
            print(output.visible(name))

    for_each(context.args.names, remove)
    return exits.OK


def prune_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe volume prune`."""
    parser.description = (
        "Remove the volumes without a name that no container uses, with --all those with a name, too. Asks first."
    )
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="also volumes that have a name")
    add("-f", "--force", action="store_true", help="do not ask")
    add("--filter", action="append", default=[], metavar="KEY=VALUE", help="label=NAME[=VALUE]")
    add("--dry-run", action="store_true", help="only show what would be removed")


def prune(context: Context) -> int:
    """Remove the volumes that no container uses."""
    args = context.args
    body = {"all": args.all, "labels": read(args.filter, ("label",)).get("label", []), "dry_run": args.dry_run}
    if not args.dry_run and not args.force and not asking.agreed("volumes", _WHAT[args.all]):
        return exits.OK
    answer = context.follow(asking.bundle_subject(context, "volume", "prune"), body)
    if context.as_json:
        output.json_line(answer)
        return exits.OK
    if answer["removed"]:
        print("Would be deleted:" if args.dry_run else "Deleted Volumes:")
        print("\n".join(output.visible(name) for name in answer["removed"]) + "\n")
    print(f"Total reclaim{'able' if args.dry_run else 'ed'} space: {output.size(answer['reclaimed_bytes'])}")
    return exits.OK
