"""`hythe run`: a new container whose output, end and exit code are this command's own."""

from __future__ import annotations

import os
import signal
import sys

from hythe.cli import exits, output
from hythe.cli.container_flags import container_arguments, spec_of
from hythe.cli.missing_flags import missing_arguments
from hythe.cli.signals import Signals
from hythe.client.attachment import Attachment
from hythe.client.io_channel import IoChannel
from hythe.client.io_input import Input
from hythe.errors import DeadlineExceeded, HytheError, InvalidArgument, ResourceExhausted, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from hythe.cli.context import Context
    from hythe.cli.progress import Progress
    from hythe.client.operation import Operation

DETACHED_FIELDS = ("id", "name", "namespace", "host", "status", "run", "pid", "created_at", "started_at")
INSISTED = 3
GONE_READER_STOP_S = 1.0


def run_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe run`."""
    parser.usage = f"{parser.prog} [flags] IMAGE [COMMAND ...]"
    parser.add_argument("image", metavar="IMAGE", help="reference of the image")
    command = parser.add_argument(
        "command", metavar="COMMAND", nargs="...", help="command and its arguments, in place of the image's"
    )
    command.required = False  # none is enough for "...", which argparse does not see
    add = parser.add_argument_group("this run").add_argument
    add("--rm", action="store_true", help="remove the container and all it has when it ends")
    add("--name", default="", help="name of the container; the first 12 digits of its id by default")
    add("-i", "--interactive", action="store_true", help="give it this command's stdin")
    add("-d", "--detach", action="store_true", help="print its id once it runs, and leave it running")
    add("--pull", choices=("missing", "always", "never"), default="missing", help="when to fetch the image")
    add("--plain-http", action="store_true", help="the registry speaks HTTP without TLS")
    add("--trace", action="store_true", help="show the trace of this run on stderr afterwards")
    container_arguments(parser)
    missing_arguments(parser)


def run(context: Context) -> int:
    """Run the container and end as it ends."""
    args = context.args
    container = os.urandom(16).hex()
    if args.detach and args.interactive:
        raise InvalidArgument("check the command line: --interactive needs the command to stay; leave out --detach")
    return start(context, container, request_body(container, args))


def start(context: Context, container: str, body: dict[str, Any]) -> int:
    """Make the request ``runtime.container.run`` and end as the container ends; its arguments are those of `hythe run`."""
    args = context.args
    context.note(container__id=container, container__image__name=args.image)
    subject = context.subject("runtime", "container", "run")
    code = (_detached if args.detach else _attached)(context, subject, body, container)
    if args.trace:
        _show_trace(context, code)
    return code


def request_body(container: str, args: Namespace) -> dict[str, Any]:
    """Return the request ``runtime.container.run`` (`hythe.wire.runtime.Run`) but for its io channel.

    Raises:
        InvalidArgument: a flag has a bad value.
    """
    return {
        "id": container,
        "name": args.name,
        "image": args.image,
        "spec": {**spec_of(args), "stdin": args.interactive, "auto_remove": args.rm},
        "host": args.setting_host or "",
        "wait": not args.detach,
        "pull": args.pull,
        "plain_http": args.plain_http,
    }


def _detached(context: Context, subject: str, body: dict[str, Any], container: str) -> int:
    result: dict[str, Any] = {}
    with context.bus.begin(subject, body, request_id=container) as operation, _Fetching() as fetching:
        for state, payload in operation.follow():
            if state == "progress":
                fetching.show(payload)
            else:
                result = payload
    _warn_all(result)
    if context.as_json:
        output.json_line({name: result["status"][name] for name in DETACHED_FIELDS})
    else:
        print(container)
    return exits.OK


def _attached(context: Context, subject: str, body: dict[str, Any], container: str) -> int:
    with Signals() as signals:  # before the request: no signal may end the command once a container may come of it
        return _Attached(context, subject, body, container, signals).wait()


def _warn_all(result: dict[str, Any]) -> None:
    for text in result.get("warnings", []):
        output.warn(str(text))


class _Fetching:
    """Shows the layers of an image that is fetched first; nothing is imported as long as none is."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def __enter__(self) -> _Fetching:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def show(self, payload: dict[str, Any]) -> None:
        """Show a layer, if this progress is about one."""
        if not payload.get("layer_digest"):
            return
        if self._progress is None:
            from hythe.cli.progress import make_progress  # only when something is fetched

            self._progress = make_progress(sys.stderr)
        self._progress.layer(
            payload["layer_digest"], payload["layer_state"], payload["done_bytes"], payload["total_bytes"]
        )

    def end(self) -> None:
        """Leave the terminal to the container."""
        if self._progress is not None:
            self._progress.end()
            self._progress = None


class _Attached:
    """A run whose command stays: streams, signals, exit code."""

    def __init__(self, context: Context, subject: str, body: dict[str, Any], container: str, signals: Signals) -> None:
        self._context = context
        self._container = container
        self._channel = IoChannel(context.bus, context.namespace, source=Input(0) if context.args.interactive else None)
        self._fetching = _Fetching()
        self._signals = signals
        self._passed_on = 0
        self._running = False
        self._told = False
        self._stopping = False
        self._asked: list[Operation] = []
        request = {**body, "io": self._channel.opening}
        self._operation = context.bus.begin(subject, request, request_id=container)
        self._attachment = Attachment(context.bus, self._operation, self._channel)

    def wait(self) -> int:
        """Follow the container to its end and return its exit code.

        Raises:
            HytheError: it could not be run, or its end or output could not be learnt.
        """
        try:
            while not self._attachment.finished:
                self._attachment.turn(self._signals.wakeup, read_stdin=self._running)
                self._take_progress()
                self._pass_signals_on()
                self._look_after()
            return self._end()
        finally:
            self._fetching.end()
            for operation in (self._operation, *self._asked):
                operation.__exit__()
            self._channel.close()

    def _take_progress(self) -> None:
        operation = self._operation
        while operation.progress:
            self._note(operation.progress.popleft())
        if operation.result is not None:
            self._note(operation.result)

    def _note(self, payload: dict[str, Any]) -> None:
        status = payload.get("status")
        if not status:
            self._fetching.show(payload)
            return
        self._channel.host = self._channel.host or str(status["host"])
        if not self._running:
            self._running = True
            self._fetching.end()

    def _pass_signals_on(self) -> None:
        """Before the start one signal is kept and a second one gives up; later the third and all that follow kill."""
        pending = self._signals.pending
        if pending and not self._running:
            self._before_start(pending)
            return
        while pending:
            number = pending.pop(0)
            self._passed_on += 1
            name = "SIGKILL" if self._passed_on >= INSISTED else signal.Signals(number).name
            self._ask("kill", {"key": self._container, "signal": name})

    def _before_start(self, pending: list[int]) -> None:
        if len(pending) > 1:
            raise DeadlineExceeded(
                f"run {self._context.args.image}: left by {signal.Signals(pending[0]).name} before the container started",
                next_step=f"if it starts yet, `hythe rm -f {self._container[:12]}` removes it",
            )
        if not self._told:
            self._told = True
            self._fetching.end()
            output.warn(f"{signal.Signals(pending[0]).name} will be passed on at the start; once more leaves at once")

    def _look_after(self) -> None:
        """Note what became of questions; end a container whose output nobody takes any more."""
        for operation in self._asked[:]:
            operation.check()
            if operation.done:
                self._asked.remove(operation)
                operation.__exit__()
                if operation.error is not None and not self._operation.done:
                    output.warn(operation.error.message)
        if self._channel.nobody_reads and self._running and not self._stopping:
            self._stopping = True
            self._ask("stop", {"key": self._container, "timeout_s": GONE_READER_STOP_S})

    def _ask(self, verb: str, body: dict[str, Any]) -> None:
        """Ask runtime something about this container without waiting for it."""
        subject = self._context.subject("runtime", "container", verb)
        try:
            self._asked.append(self._context.bus.begin(subject, body))
        except Unavailable as lost:
            self._operation.resume(lost)

    def _end(self) -> int:
        result = self._operation.result
        assert result is not None
        _warn_all(result)
        if self._channel.gap:
            output.warn(f"a part of the output is lost: {self._channel.gap}")
        if self._channel.failure is not None:
            raise ResourceExhausted(
                "write the container's output: not all of it could be written",
                cause=str(self._channel.failure),
                outcome="done",
                next_step="`hythe logs` may still have it, unless --rm was given",
            )
        status = result["status"]
        code = status.get("exit_code")
        if code is None:
            reason = status.get("reason") or "nobody could learn its exit code"
            raise Unavailable(f"run {self._context.args.image}: {reason}", outcome="unknown", host=status["host"])
        return int(code)


def _show_trace(context: Context, code: int) -> None:
    """Print the waterfall of this run on stderr; that it cannot be read is a warning, not a failure of the run."""
    from hythe.cli.traces import show_own  # only when asked for

    try:
        show_own(context, code)
    except HytheError as error:
        output.warn(f"the trace cannot be shown: {error.message}")
