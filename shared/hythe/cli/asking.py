"""What commands have in common that ask for lists, for long work, or whether the user means it."""

from __future__ import annotations

import sys

from hythe import subjects
from hythe.errors import FailedPrecondition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from hythe.cli.context import Context

    Ask = Callable[[str], dict[str, Any]]


def bundle_subject(context: Context, noun: str, verb: str, host: str = "") -> str:
    """Return the subject of a request to the bundle service of a host, the command's own by default."""
    return subjects.host_rpc(context.namespace, host or context.settings.host, "bundle", noun, verb)


def pages(ask: Ask, field: str) -> Iterator[dict[str, Any]]:
    """Yield what all pages of a list have in `field`; `ask` is called with where each begins, when it is needed."""
    after = ""
    while True:
        page = ask(after)
        yield from page[field]
        after = page.get("next", "")
        if not after:
            return


def with_progress(context: Context, subject: str, body: dict[str, Any], cancelled: str = "") -> dict[str, Any]:
    """Follow an operation to its end, with its progress on stderr, and return its result.

    When this command is interrupted, the service ends the work.

    Args:
        cancelled: what is said of it then.
    """
    from hythe.cli.progress import make_progress  # only when something takes long

    args = context.args
    try:
        with make_progress(sys.stderr, args.progress, quiet=args.quiet) as progress:
            return context.follow(subject, body, progress.message)
    except KeyboardInterrupt:
        if cancelled:
            print(f"cancelled; {cancelled}", file=sys.stderr)
        raise


def agreed(kind: str, what: str) -> bool:
    """Ask on the terminal whether `what` may be removed, things of a `kind`; anything but yes means no.

    Raises:
        FailedPrecondition: nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise FailedPrecondition(
            f"ask whether to prune {kind}: stdin is no terminal", next_step="say --force, or --dry-run to see what goes"
        )
    print(f"This removes {what}.\nAre you sure? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
