"""How commands show a list: names alone, JSON lines, a table, or a template for each row."""

from __future__ import annotations

from hythe.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from hythe.cli.context import Context

    Row = dict[str, Any]


def show(
    context: Context,
    rows: Iterable[Row],
    name: str,
    fields: Callable[[Row, float], dict[str, str]],
    headers: Mapping[str, str],
    columns: Sequence[str],
) -> None:
    """Show `rows` as the flags of the command want: with ``-q`` and as JSON each as soon as it is there.

    Args:
        name: the field that ``-q`` prints.
        fields: makes of a row what `--format` and the table know, by the time now in seconds.
        headers, columns: see `show_fields`.
    """
    if context.args.quiet:
        for row in rows:
            print(output.visible(row[name]))
    elif context.as_json:
        for row in rows:
            output.json_line(row)
    else:
        import time  # only for those who print ages

        now_s = time.time()
        show_fields(context.args, [fields(row, now_s) for row in rows], headers, columns)


def show_fields(
    args: Namespace, rows: Sequence[dict[str, str]], headers: Mapping[str, str], columns: Sequence[str]
) -> None:
    """Show rows as `--format` wants: a table of `columns`, or the template for each; `headers` are those of all fields."""
    if args.format == "table":
        output.table([headers[name] for name in columns], [[row[name] for name in columns] for row in rows])
    else:
        from hythe.cli import templates  # only when one is given

        templates.show(args.format, rows, headers)
