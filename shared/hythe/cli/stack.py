"""`hythe up`, `down` and `status`."""

from __future__ import annotations

from hythe.cli import exits, output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser

    from hythe.cli.context import Context


def up_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe up`."""
    parser.add_argument("-d", "--detach", action="store_true", help="return when all is ready, and keep it running")
    parser.add_argument("--allow-relaxed", dest="setting_metadata_allow_relaxed", action="store_const", const="1",
        help="take a Redis that syncs once a second (appendfsync everysec); a crash may lose its last second")  # fmt: skip


def up(context: Context) -> int:
    """Start the stack."""
    from hythe.stack.up import up as start

    return start(context.settings, detach=context.args.detach)


def down_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe down`."""
    parser.add_argument(
        "--stop-timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="from a container's stop signal to SIGKILL (10)",
    )
    parser.add_argument("--keep", action="store_true", help="leave containers running; the next `up` adopts them")


def down(context: Context) -> int:
    """Stop the stack."""
    from hythe.stack.down import down as stop

    def say(text: str) -> None:
        if context.as_json:
            output.json_line({"done": text})
        else:
            print(text, flush=True)

    stop(context.settings, keep=context.args.keep, stop_timeout_s=context.args.stop_timeout, say=say)
    return exits.OK


def status_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe status`."""


def status(context: Context) -> int:
    """Show the processes; the exit code is 0 when all are healthy, 11 when none runs, else 12."""
    from hythe.stack.status import HEALTHY, collect

    rows = collect(context.settings)
    if context.as_json:
        for row in rows:
            output.json_line(row)
    else:
        output.table(
            ("PROCESS", "PID", "HEALTH", "UPTIME", "RESTARTS", "METRICS", "NOTE"),
            [
                (
                    row["name"],
                    str(row["pid"] or "-"),
                    row["health"],
                    output.duration(row["uptime_s"]) if row["pid"] else "-",
                    str(row["restarts"]),
                    f"127.0.0.1:{row['metrics_port']}" if row["metrics_port"] else "-",
                    row["trouble"] or row["address"],
                )
                for row in rows
            ],
        )
    if all(row["health"] == HEALTHY for row in rows):
        return exits.OK
    if any(row["health"] != "dead" for row in rows):
        return exits.UNHEALTHY
    if not context.as_json:
        output.warn("the stack is not running; start it with `hythe up --detach`")
    return exits.BUS_AWAY
