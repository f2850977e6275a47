"""The entry of the command line: finds the command, imports only its module, and turns errors into lines and exit codes."""

from __future__ import annotations

import time

_START_NS = time.time_ns()

import argparse  # noqa: E402 (the clock starts before the imports)
import os  # noqa: E402
import sys  # noqa: E402
from importlib import import_module  # noqa: E402

from hythe.cli import exits  # noqa: E402
from hythe.cli.subcommands import HELP, VALUE_FLAGS, Command, choose, function_of, listing, split_at_word  # noqa: E402
from hythe.errors import DeadlineExceeded, HytheError, Internal, PermissionDenied  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hythe.cli.context import Context


class _Help(argparse.HelpFormatter):
    """Help as wide as COLUMNS says: argparse would import shutil at every start, just in case, to ask the terminal.

    A text of one line is wrapped; one of several, as of a table or an example, is left as it is.
    """

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        super().__init__(prog, max_help_position=32, width=int(columns) - 2 if columns.isdigit() else 118)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" not in text:
            return super()._fill_text(text, width, indent)
        return "\n".join(indent + line for line in text.splitlines())


COMMANDS: dict[str, Command] = {
    "up": Command("stack", "start the stack of this host and keep it running"),
    "down": Command("stack", "stop containers and services and remove what they made"),
    "status": Command("stack", "show the processes of the stack and their health"),
    "images": Command("images", "list images; `hythe images --help` says what else", group=True),
    "image": Command("images", "the same as images", group=True),
    "bundle": Command("bundles", "run directories with a config.json, carry them elsewhere", group=True),
    "content": Command("content", "look at the blobs that images are made of", group=True),
    "snapshot": Command("snapshots", "look at the snapshots that root file systems are made of", group=True),
    "snapshots": Command("snapshots", "the same as snapshot", group=True),
    "pull": Command("image_transfer", "fetch an image and unpack it", traced=True),
    "push": Command("image_transfer", "send an image to a registry", traced=True),
    "tag": Command("image_names", "give an image another name", traced=True),
    "rmi": Command("image_names", "remove images", function="rm", traced=True),
    "save": Command("image_archive", "write images into an archive", traced=True, output_file=True),
    "load": Command("image_archive", "read images from an archive", traced=True),
    "login": Command("registry_login", "keep the credentials for a registry", traced=True),
    "logout": Command("registry_login", "forget the credentials for a registry", traced=True),
    "volume": Command("volumes", "list volumes; `hythe volume --help` says what else", group=True),
    "namespace": Command("namespaces", "list namespaces; `hythe namespace --help` says what else", group=True),
    "ns": Command("namespaces", "the same as namespace", group=True),
    "lease": Command("leases", "keep content, images and snapshots from being collected", group=True),
    "run": Command("run", "run a command in a new container", traced=True),
    "ps": Command("containers", "list containers", traced=True),
    "logs": Command("logs", "show the output of a container, or the log of a service", traced=True),
    "stop": Command("containers", "stop containers: stop signal, then kill", traced=True),
    "kill": Command("containers", "send a signal to containers", traced=True),
    "rm": Command("containers", "remove containers", traced=True),
    "diff": Command("diff", "show what a container has changed of its image", traced=True),
    "commit": Command("commit", "make an image of what a container has changed", traced=True),
    "inspect": Command("containers", "show everything known about containers", traced=True),
    "cp": Command("copy", "copy files into a container, or out of one", traced=True),
    "gc": Command("garbage", "collect what nothing refers to; `hythe gc why` says what keeps something", group=True),
    "system": Command("system", "`hythe system df` shows what takes how much disk", group=True),
    "metadata": Command("metadata", "the records: backups, checks, moves, and what refers to what", group=True),
    "events": Command("events", "show what happens, as it happens", templates=True),
    "trace": Command("traces", "list traces, or show one as a waterfall"),
    "doctor": Command("doctor", "look at this machine and the stack for what is wrong"),
    "config": Command("info", "show each setting and where its value comes from"),
    "version": Command("info", "show the version"),
}

_SETTING = "setting_"
"""How the parsed flags begin that give a setting."""

RUNS = frozenset({"run", "bundle run"})
"""The commands that end with a container's own exit code."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (`hythe.cli.exits`); never raises, but for a fault of its own."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    ahead, name, rest = split_at_word(given, any_flag=True)
    if name not in COMMANDS:
        return _without_command(name, given)
    command, rest = COMMANDS[name], [*ahead, *rest]
    table, on_group = COMMANDS, ""
    if command.group:
        table = import_module(command.module).SUBCOMMANDS
        word, chosen, rest = choose(table, rest)
        if chosen is None:
            return _without_subcommand(name, command, table, word, rest)
        if not word:
            on_group = _help_on_group(name, table) if HELP.intersection(rest) else ""
        command, name = chosen, f"{name} {word}".rstrip()
    module, function = import_module(command.module), function_of(table, command)
    parser = argparse.ArgumentParser(
        prog=f"hythe {name}", description=command.help, allow_abbrev=False, formatter_class=_Help
    )
    getattr(module, f"{function}_arguments")(parser)
    parser.epilog = "\n\n".join(text for text in (parser.epilog, on_group) if text)
    add_global_flags(parser, command)
    try:
        args = parser.parse_args(rest)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else exits.USAGE
        return exits.RUN_OURS if name in RUNS and code == exits.USAGE else code
    return _run(name, command, getattr(module, function), args)


def _without_command(name: str, given: list[str]) -> int:
    """Show the help, or say that there is no such command."""
    from hythe import __version__

    if "--version" in given and not name:
        print(f"hythe {__version__}")
        return exits.OK
    parser = argparse.ArgumentParser(
        prog="hythe",
        usage="hythe [flags] COMMAND ...",
        description=f"Hythe {__version__}: containers over a message bus, every step in one trace.",
        epilog=f"commands:\n{listing(COMMANDS)}\n\n{exits.help_text()}\n\n`hythe COMMAND --help` shows the flags of a command.",
        formatter_class=_Help,
        allow_abbrev=False,
    )
    add_global_flags(parser)
    if name:
        print(f"hythe: there is no command {name!r}; `hythe --help` lists them", file=sys.stderr)
        return exits.USAGE
    return _show_help(parser, given)


def _without_subcommand(name: str, command: Command, table: Mapping[str, Command], word: str, given: list[str]) -> int:
    """Show what there is in a group, or say that there is no such command in it."""
    if word:
        print(f"hythe {name}: there is no command {word!r}; `hythe {name} --help` lists them", file=sys.stderr)
        return exits.USAGE
    parser = argparse.ArgumentParser(
        prog=f"hythe {name}",
        usage=f"hythe {name} COMMAND ...",
        description=command.help,
        epilog=_help_on_group(name, table),
        formatter_class=_Help,
        allow_abbrev=False,
    )
    add_global_flags(parser)
    return _show_help(parser, given)


def _help_on_group(name: str, table: Mapping[str, Command]) -> str:
    return f"commands:\n{listing(table)}\n\n`hythe {name} COMMAND --help` shows the flags of a command."


def _show_help(parser: argparse.ArgumentParser, given: list[str]) -> int:
    """Show help, on stdout if it was asked for, else as an answer to wrong use."""
    wanted = bool(HELP.intersection(given))
    parser.print_help(sys.stdout if wanted else sys.stderr)
    return exits.OK if wanted else exits.USAGE


def add_global_flags(parser: argparse.ArgumentParser, command: Command | None = None) -> None:
    """Add the flags that every command takes, before or after its name, as far as `command` has them."""
    group = parser.add_argument_group("flags of every command")
    for flag, key in VALUE_FLAGS.items():
        names = ("-n", flag) if flag == "--namespace" else (flag,)
        group.add_argument(*names, dest=f"{_SETTING}{key}", metavar="VALUE", help=f"setting {key} (`hythe config`)")
    names = ("--format",) if command is not None and command.output_file else ("--format", "-o")
    if command is not None and command.templates:
        text = "json, table, or a template (docs/output.md)"
        group.add_argument(*names, type=_format, default="table", metavar="FORMAT", help=text)
    else:
        formats = (command.formats if command else ()) or ("table", "json")
        group.add_argument(*names, choices=formats, default=formats[0], help="json: one object per line")
    group.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    group.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="give up after this long; outcome then unknown"
    )


def _format(text: str) -> str:
    if text not in ("table", "json") and "{{" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is neither json nor table, nor a template with {{{{.Field}}}}")
    return text


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e8:
        raise ValueError(text)
    return value


def _run(name: str, command: Command, function: Callable[[Context], int], args: argparse.Namespace) -> int:
    from hythe import settings
    from hythe.cli.context import Context

    code_of = exits.code_of_run if name in RUNS else exits.code_of
    context: Context | None = None
    failed: HytheError | None = None
    try:
        flags = {name.removeprefix(_SETTING): value for name, value in vars(args).items() if name.startswith(_SETTING)}
        loaded = settings.load(flags)
        context = Context(name, loaded, args, _START_NS, traced=command.traced)
        if args.timeout is not None:
            _limit(name, args.timeout)
        code = function(context)
        sys.stdout.flush()
    except HytheError as error:
        failed, code = error, code_of(error)
    except BrokenPipeError:
        code = _nobody_reads()
    except KeyboardInterrupt:
        code = 130
    except PermissionError as error:
        failed = PermissionDenied(
            f"hythe {name}: not permitted",
            cause=str(error),
            next_step="run it as root: what belongs to a stack is root's",
        )
        code = code_of(failed)
    except OSError as error:
        failed = Internal(f"hythe {name}: the system refused", cause=str(error))
        code = code_of(failed)
    except Exception:  # noqa: BLE001 (the process: a fault of its own is shown in full)
        sys.excepthook(*sys.exc_info())
        code = code_of(Internal(f"hythe {name}: a fault of hythe"))
    if failed is not None:
        return _fail(failed, context, code)
    if context is not None:
        context.finish(None, code)
        context.close()
    return code


def _fail(error: HytheError, context: Context | None, code: int) -> int:
    from hythe.cli.failure import render

    elapsed_s = (time.time_ns() - _START_NS) / 1e9
    stored = context.finish(error, code) if context is not None else ""
    print(render(error, elapsed_s, stored), file=sys.stderr)
    if context is not None:
        context.close()
    return code


def _limit(name: str, timeout_s: float) -> None:
    """Let the command fail when it takes longer than its user wants to wait."""
    import signal

    def give_up(number: int, frame: object) -> None:
        raise DeadlineExceeded(
            f"hythe {name}: not done within {timeout_s:g} s (--timeout)",
            next_step="what was begun goes on: look with `hythe ps` or `hythe inspect`",
        )

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)


def _nobody_reads() -> int:
    """Make the interpreter's last flush harmless after the reader of stdout has gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    return exits.BROKEN_PIPE


def entry() -> None:
    """Be the whole process: run one command and leave without taking the interpreter apart, which would cost 4 ms."""
    _open_standard_descriptors()
    code = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = code or exits.FAILED
    os._exit(code)


def _open_standard_descriptors() -> None:
    """Put /dev/null where the caller closed stdin, stdout or stderr: else a socket would take that place and get the output."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


if __name__ == "__main__":
    entry()
