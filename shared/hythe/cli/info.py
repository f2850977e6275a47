"""`hythe config` and `hythe version`."""

from __future__ import annotations

from hythe import __version__, setting_list
from hythe.cli import exits, output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser

    from hythe.cli.context import Context


def config_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe config`."""


def config(context: Context) -> int:
    """Show each setting, its value and where it comes from; a secret is never shown."""
    values = context.settings.as_text()
    values |= {s.key: output.MASKED for s in setting_list.ALL if s.secret and values[s.key]}
    rows = [(s.key, values[s.key], context.settings.origin[s.key], s.variable, s.meaning) for s in setting_list.ALL]
    if context.as_json:
        for row in rows:
            output.json_line(dict(zip(("key", "value", "origin", "variable", "meaning"), row, strict=True)))
    else:
        output.table(("SETTING", "VALUE", "FROM", "VARIABLE", "MEANING"), rows)
    return exits.OK


def version_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe version`."""


def version(context: Context) -> int:
    """Show the version."""
    if context.as_json:
        output.json_line({"version": __version__})
    else:
        print(f"hythe {__version__}")
    return exits.OK
