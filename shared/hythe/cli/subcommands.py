"""What a command is, and how a group such as `hythe images` finds the one of its commands that is meant.

A group is a module with a table of its own::

    SUBCOMMANDS = {"ls": Command("images", "list images", default=True), "rm": Command("image_names", "remove images")}

Names that share one `Command` are aliases. The command with `default` is meant where no name follows the group's.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HELP = frozenset({"-h", "--help"})
VALUE_FLAGS = {
    "--root": "root",
    "--state": "state",
    "--host": "host",
    "--namespace": "namespace",
    "--cgroup-parent": "cgroup_parent",
    "--nats-url": "nats_url",
    "--nats-port": "nats_port",
    "--nats-server": "nats_server",
    "--key": "key",
    "--log-level": "log_level",
}
"""Flags of every command that give a setting, by the setting's key."""
_WITH_VALUE = frozenset((*VALUE_FLAGS, "-n", "--format", "-o", "--timeout"))
_KNOWN = _WITH_VALUE | {"--json"}


class Command:
    """One command: where its ``<function>_arguments`` and ``<function>`` functions are, and its line of help.

    Attributes:
        module: full name of the module; imported when the command is used, or when help on its group is.
        function: name of the function; by default the command's first name.
        traced: the command makes spans.
        templates: `--format` takes templates.
        formats: what `--format` takes, the default first, where that isn't table and json.
        output_file: `-o` is this command's own flag for a file, not short for `--format`.
        group: the module has a table `SUBCOMMANDS` instead of functions.
        default: of a group's commands the one that is meant when none is named.
        words: a word that names no command of the group is the first argument of this one, which is `default`.
    """

    __slots__ = (
        "default",
        "formats",
        "function",
        "group",
        "help",
        "module",
        "output_file",
        "templates",
        "traced",
        "words",
    )

    def __init__(
        self,
        module: str,
        help_line: str,
        *,
        function: str = "",
        traced: bool = False,
        templates: bool = False,
        formats: tuple[str, ...] = (),
        output_file: bool = False,
        group: bool = False,
        default: bool = False,
        words: bool = False,
    ) -> None:
        self.module = f"hythe.cli.{module}"
        self.help = help_line
        self.function = function
        self.traced = traced
        self.templates = templates
        self.formats = formats
        self.output_file = output_file
        self.group = group
        self.default = default
        self.words = words


def split_at_word(given: Sequence[str], *, any_flag: bool = False) -> tuple[list[str], str, list[str]]:
    """Return the flags of every command that come first, the first word after them, and what follows it.

    With `any_flag` other flags may come first too, if they take no value. The word is empty where there is none.
    """
    index = 0
    while index < len(given) and given[index].startswith("-"):
        if given[index] in _WITH_VALUE:
            index += 1
        elif not any_flag and given[index].partition("=")[0] not in _KNOWN:
            return list(given), "", []
        index += 1
    if index >= len(given):
        return list(given), "", []
    return list(given[:index]), given[index], list(given[index + 1 :])


def function_of(table: Mapping[str, Command], command: Command) -> str:
    """Return the name of the function of a command: the one that it says, else its first name."""
    return command.function or next(name for name, known in table.items() if known is command).replace("-", "_")


def choose(table: Mapping[str, Command], given: Sequence[str]) -> tuple[str, Command | None, list[str]]:
    """Return the name of the command that is meant, the command, and its arguments.

    The name is empty for the default command. Without a command, `given` names none: the name is the word that is no
    command's, or empty where there is none.
    """
    ahead, word, rest = split_at_word(given)
    if word in table:
        return word, table[word], [*ahead, *rest]
    default = next((command for command in table.values() if command.default), None)
    if default is None or (word and not default.words):
        return word, None, list(given)
    return "", default, list(given)


def listing(table: Mapping[str, Command]) -> str:
    """Return one line for each command: its names and what it does."""
    names: dict[Command, list[str]] = {}
    for name, command in table.items():
        names.setdefault(command, []).append(name)
    lines = [(", ".join(known), command.help) for command, known in names.items()]
    width = max(len(known) for known, _ in lines)
    return "\n".join(f"  {known:<{width}}  {text}" for known, text in lines)
