"""`hythe ps`, `stop`, `kill`, `rm` and `inspect`: containers by id, name or unique prefix of the id."""

from __future__ import annotations

import sys
import time

from hythe.cli import exits, output
from hythe.cli.each import for_each
from hythe.errors import FailedPrecondition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable
    from typing import Any

    from hythe.cli.context import Context


def ps_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe ps`."""
    parser.add_argument("-a", "--all", action="store_true", help="ended ones too")
    parser.add_argument("-q", "--quiet", action="store_true", help="only ids")
    parser.add_argument("--no-trunc", action="store_true", help="show whole ids and commands")
    parser.add_argument(
        "--at", default="", metavar="TIME", help="as it was then, by the stored events: 10m, 2h, RFC 3339"
    )
    parser.add_argument(
        "--diff", nargs=2, metavar=("A", "B"), help="what changed from time A to time B, by the stored events"
    )


def ps(context: Context) -> int:
    """List containers."""
    args = context.args
    if args.at or args.diff:
        from hythe.cli.ps_at import ps_at  # only for those who look back

        return ps_at(context)
    answer = context.bus.call(context.subject("runtime", "container", "list"), {"all": args.all})
    _warn(answer)
    show_containers(context, [container_row(item) for item in answer["containers"]], time.time())
    return exits.OK


def show_containers(context: Context, rows: list[dict[str, Any]], now: float) -> None:
    """Print rows of containers as `ps` does; `now` is the time that spans are counted back from."""
    args = context.args
    if args.quiet:
        for row in rows:
            print(row["id"] if args.no_trunc else row["id"][:12])
    elif context.as_json:
        for row in rows:
            output.json_line(row)
    else:
        if not rows and sys.stderr.isatty():
            print(f"no {'' if args.all else 'running '}containers in namespace {context.namespace}", file=sys.stderr)
        output.table(
            ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "HOST", "NAMES"),
            [_cells(row, now, whole=args.no_trunc) for row in rows],
        )


def _warn(answer: dict[str, Any]) -> None:
    for text in answer.get("warnings", ()):
        output.warn(text)


def container_row(item: dict[str, Any]) -> dict[str, Any]:
    """Return a container as `ps` and `inspect` show it to programs; fields in docs/output.md."""
    record, status = item.get("record") or {}, item.get("status") or {}
    either = status or record
    spec = record.get("spec") or {}
    return {
        "id": either["id"],
        "name": record.get("name") or status.get("name", ""),
        "namespace": either["namespace"],
        "host": either["host"],
        "image": either["image"]["reference"],
        "image_digest": either["image"].get("digest") or "",
        "command": status.get("command") or spec.get("args") or [],
        "status": status.get("status") or ("unknown" if item.get("stale") else record.get("phase", "unknown")),
        "desired": record.get("desired", ""),
        "pid": status.get("pid") or None,
        "exit_code": status.get("exit_code"),
        "reason": status.get("reason", ""),
        "run": status.get("run", 0),
        "created_at": record.get("created_at") or status.get("created_at", ""),
        "started_at": status.get("started_at", ""),
        "finished_at": status.get("finished_at", ""),
        "auto_remove": bool(spec.get("auto_remove") or status.get("auto_remove")),
        "labels": spec.get("labels") or status.get("labels") or {},
        "claimed": bool(record),
        "stale": bool(item.get("stale")),
    }


def _cells(row: dict[str, Any], now: float, *, whole: bool) -> tuple[str, ...]:
    command = " ".join(row["command"])
    if not whole and len(command) > 24:
        command = command[:23] + "…"
    return (
        row["id"] if whole else row["id"][:12],
        row["image"],
        f'"{command}"',
        output.since(row["created_at"], now),
        _state(row, now),
        row["host"],
        row["name"],
    )


def _state(row: dict[str, Any], now: float) -> str:
    if row["status"] == "running":
        text = f"Up {output.since(row['started_at'], now).removesuffix(' ago')}"
    elif row["status"] == "exited":
        code = "?" if row["exit_code"] is None else row["exit_code"]
        text = f"Exited ({code}) {output.since(row['finished_at'], now)}"
    else:
        text = str(row["status"]).capitalize()
    return text + ("" if row["claimed"] else " (unclaimed)") + (" (stale)" if row["stale"] else "")


def stop_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe stop`."""
    parser.add_argument("-t", "--time", type=float, default=None, metavar="SECONDS", help="before SIGKILL")
    parser.add_argument("containers", metavar="CONTAINER", nargs="+")


def stop(context: Context) -> int:
    """Stop containers; prints what was asked for, one a line."""
    timeout_s = context.args.time
    return _each(context, lambda key: _operate(context, "stop", {"key": key, "timeout_s": timeout_s}))


def kill_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe kill`."""
    parser.add_argument("-s", "--signal", default="SIGKILL", metavar="SIGNAL", help="name or number (default SIGKILL)")
    parser.add_argument("containers", metavar="CONTAINER", nargs="+")


def kill(context: Context) -> int:
    """Send a signal to containers; prints what was asked for, one a line."""
    subject, number = context.subject("runtime", "container", "kill"), context.args.signal
    return _each(context, lambda key: context.bus.call(subject, {"key": key, "signal": number}))


def rm_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe rm`."""
    parser.add_argument("-f", "--force", action="store_true", help="kill running ones first")
    parser.add_argument("containers", metavar="CONTAINER", nargs="+")


def rm(context: Context) -> int:
    """Remove containers and all that they have; prints what was asked for, one a line."""
    force = context.args.force

    def remove(key: str) -> dict[str, Any]:
        try:
            return _operate(context, "remove", {"key": key, "force": force})
        except FailedPrecondition as error:
            if not force:
                error.next_step = f"`hythe stop {key}` first, or `hythe rm -f {key}`"
            raise

    return _each(context, remove)


def _operate(context: Context, verb: str, body: dict[str, Any]) -> dict[str, Any]:
    return context.operate("runtime", "container", verb, body)


def _each(context: Context, act: Callable[[str], dict[str, Any]]) -> int:
    """Do one thing to each container named; all are tried."""

    def act_and_tell(key: str) -> None:
        _warn(act(key))
        print(key)

    for_each(context.args.containers, act_and_tell)
    return exits.OK


def inspect_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe inspect`."""
    parser.add_argument("container", metavar="CONTAINER")


def inspect(context: Context) -> int:
    """Show all that is known of a container, as one JSON object."""
    item = context.bus.call(context.subject("runtime", "container", "inspect"), {"key": context.args.container})
    whole = {**container_row(item), "spec": (item.get("record") or {}).get("spec")}
    if context.as_json:
        output.json_line(whole)
    else:
        print(output.json_text(whole, indent=2))
    return exits.OK
