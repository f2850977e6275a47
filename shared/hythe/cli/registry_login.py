"""`hythe login` and `hythe logout`: credentials for registries, which the distribution service keeps."""

from __future__ import annotations

import sys

from hythe.cli import exits, output
from hythe.errors import FailedPrecondition, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hythe.cli.context import Context

DEFAULT_HOST = "docker.io"
MAX_PASSWORD_BYTES = 64 << 10


def login_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe login`."""
    parser.description = "Try a user name and password or token with a registry, and keep them if it takes them."
    parser.epilog = "example:\n  hythe login -u me --password-stdin registry.example < token"
    add = parser.add_argument
    add("-u", "--username", default="", metavar="USER", help="asked for by default")
    add("-p", "--password", default=None, metavar="PASS", help="better not: others see it in the list of processes")
    add("--password-stdin", action="store_true", help="read it from stdin")
    add("--plain-http", action="store_true", help="speak HTTP without TLS to the registry")
    add("registry", metavar="HOST", nargs="?", default=DEFAULT_HOST, help=f"host[:port] ({DEFAULT_HOST})")


def login(context: Context) -> int:
    """Log in to a registry."""
    args = context.args
    username, password = _credentials(args)
    body = {"host": args.registry, "username": username, "password": password, "plain_http": args.plain_http}
    answer = context.operate("distribution", "registry", "login", body)
    if context.as_json:
        output.json_line(answer)
    else:
        print(f"Login Succeeded\nkept in {output.visible(answer['kept_in'])}")
    return exits.OK


def _credentials(args: Namespace) -> tuple[str, str]:
    """Return user name and password from the flags, stdin or the terminal.

    Raises:
        InvalidArgument: flags contradict each other, or one of the two is empty.
        FailedPrecondition: something must be asked, and there is no terminal.
    """
    if args.password is not None and args.password_stdin:
        raise InvalidArgument("read the password: --password and --password-stdin exclude each other")
    if args.password_stdin and not args.username:
        raise InvalidArgument("read the password: --password-stdin needs --username")
    if args.password is not None:
        output.warn("a password on the command line is seen by others on this machine; use --password-stdin")
    username = args.username or _ask_username(args.registry)
    if args.password_stdin:
        password = _read_password()
    else:
        password = args.password if args.password is not None else _ask_password(username)
    for name, value in (("user name", username), ("password", password)):
        if not value:
            raise InvalidArgument(f"read the {name}: it is empty")
    return username, password


def _read_password() -> str:
    data = sys.stdin.buffer.read(MAX_PASSWORD_BYTES + 1)
    if len(data) > MAX_PASSWORD_BYTES:
        raise InvalidArgument(f"read the password from stdin: longer than {MAX_PASSWORD_BYTES} bytes")
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise InvalidArgument("read the password from stdin: it is no UTF-8") from None


def _ask_username(host: str) -> str:
    _check_terminal()
    print(f"Username for {output.visible(host)}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def _ask_password(username: str) -> str:
    from getpass import getpass  # only where somebody is asked

    _check_terminal()
    return getpass(f"Password for {username}: ", sys.stderr)


def _check_terminal() -> None:
    if not sys.stdin.isatty():
        raise FailedPrecondition(
            "ask for user name and password: stdin is no terminal", next_step="say --username and --password-stdin"
        )


def logout_arguments(parser: ArgumentParser) -> None:
    """Flags of `hythe logout`."""
    parser.description = "Forget the user name and password for a registry."
    parser.add_argument(
        "registry", metavar="HOST", nargs="?", default=DEFAULT_HOST, help=f"host[:port] ({DEFAULT_HOST})"
    )


def logout(context: Context) -> int:
    """Log out of a registry."""
    body = {"host": context.args.registry}
    answer = context.bus.call(context.subject("distribution", "registry", "logout"), body)
    host = output.visible(answer["host"])
    if context.as_json:
        output.json_line(answer)
    else:
        print(f"Removed the login for {host}" if answer["removed"] else f"Not logged in to {host}")
    return exits.OK
