"""How a group of commands finds the one that is meant."""

from __future__ import annotations

import pytest

from hythe.cli import images
from hythe.cli.main import COMMANDS
from hythe.cli.subcommands import Command, choose, function_of, listing, split_at_word

LS = Command("x", "list", default=True)
RM = Command("x", "remove")
TABLE = {"ls": LS, "rm": RM, "remove": RM, "dry-run": Command("x", "try")}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([], ("", LS, [])),
        (["-q"], ("", LS, ["-q"])),
        (["--json"], ("", LS, ["--json"])),
        (["rm", "-f", "x"], ("rm", RM, ["-f", "x"])),
        (["remove", "x"], ("remove", RM, ["x"])),
        (["-n", "rm", "ls", "-q"], ("ls", LS, ["-n", "rm", "-q"])),
        (["--namespace=rm", "--json", "rm", "x"], ("rm", RM, ["--namespace=rm", "--json", "x"])),
        (["--filter", "rm"], ("", LS, ["--filter", "rm"])),
        (["no", "rm"], ("no", None, ["no", "rm"])),
        (["-n"], ("", LS, ["-n"])),
    ],
)
def test_command_of_a_group_is_the_first_word_after_flags_of_every_command(
    given: list[str], found: tuple[str, Command | None, list[str]]
) -> None:
    """Flags that every command has may stand before its name; without a name the default is meant."""
    assert choose(TABLE, given) == found


def test_word_that_is_no_command_goes_to_a_default_that_takes_words() -> None:
    """`hythe images busybox` lists busybox."""
    default = Command("x", "list", default=True, words=True)
    assert choose({"ls": default}, ["busybox", "-q"]) == ("", default, ["busybox", "-q"])


def test_group_without_a_default_needs_a_command() -> None:
    """What is meant is not guessed."""
    assert choose({"rm": RM}, ["--json"]) == ("", None, ["--json"])


def test_flags_before_a_command_of_hythe_itself_may_be_its_own() -> None:
    """`hythe --detach up` works as `hythe up --detach` does."""
    assert split_at_word(["--detach", "-n", "x", "up"], any_flag=True) == (["--detach", "-n", "x"], "up", [])


def test_aliases_share_one_line_and_one_function() -> None:
    """Help lists each command once, with all its names."""
    assert listing(TABLE).splitlines()[1] == "  rm, remove  remove"
    assert function_of(TABLE, RM) == "rm"
    assert function_of(TABLE, TABLE["dry-run"]) == "dry_run"


def test_commands_at_the_top_are_those_of_the_group() -> None:
    """`hythe push` and `hythe images push` are one command."""
    for name in ("pull", "push", "tag", "login", "logout"):
        ours, group = COMMANDS[name], images.SUBCOMMANDS[name]
        assert (ours.module, ours.help, ours.traced) == (group.module, group.help, group.traced)
