"""The one reader of HYTHE_METADATA_URL: which body keeps the records, and where."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from hythe.errors import InvalidArgument

FORMS = (
    "sqlite:///FILE, redis://[USER:PASSWORD@]HOST[:PORT][/DB][?prefix=NAME], rediss:// for TLS (with ca=FILE, if you like),"
    " or unix:///SOCKET[?db=DB&prefix=NAME]"
)
PORT = 6379
PREFIX = "default"

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\]")
_PREFIX = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_DB = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class SqlitePlace:
    """A store in one file."""

    path: Path

    def __str__(self) -> str:
        return f"sqlite://{self.path}"


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """A store in Redis.

    Attributes:
        socket: path of a UNIX socket; then there is neither host nor port.
        ca: file of the certificates that the server's is signed with; the system's by default.
        prefix: tells several stores in one database apart.
    """

    host: str = ""
    port: int = PORT
    socket: str = ""
    db: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ca: str = ""
    prefix: str = PREFIX

    def __str__(self) -> str:
        """As a URL without user and password, for people."""
        if self.socket:
            return f"unix://{self.socket}?db={self.db}&prefix={self.prefix}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis{'s' if self.tls else ''}://{host}:{self.port}/{self.db}?prefix={self.prefix}"


Place = SqlitePlace | RedisPlace


def read_url(url: str, default: Path) -> Place:
    """Return where the store is that `url` names; `default` is the file if it is empty.

    Raises:
        InvalidArgument: `url` has none of the `FORMS`. What it says isn't repeated, for it may hold a password.
    """
    if not url:
        return SqlitePlace(default)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _wrong("it is no URL") from None
    if parts.fragment or "#" in url:
        raise _wrong("nothing may stand behind # (write %23 for a # in a password)")
    match parts.scheme:
        case "sqlite":
            return _sqlite(parts)
        case "unix":
            return _unix(parts)
        case "redis" | "rediss":
            return _redis(parts, port)
    raise _wrong(f"scheme {parts.scheme[:20]!r} is not known")


def _sqlite(parts: SplitResult) -> SqlitePlace:
    if parts.netloc or parts.query or not parts.path.startswith("/") or parts.path.endswith("/"):
        raise _wrong("a file is an absolute path on this host")
    return SqlitePlace(Path(unquote(parts.path)))


def _unix(parts: SplitResult) -> RedisPlace:
    options = _options(parts, {"db", "prefix"})
    if parts.hostname or not parts.path.startswith("/") or parts.path.endswith("/"):
        raise _wrong("a socket is an absolute path on this host")
    user, password = _login(parts)
    return RedisPlace(
        socket=unquote(parts.path),
        db=_db(options.get("db", "0")),
        user=user,
        password=password,
        prefix=_prefix(options.get("prefix", PREFIX)),
    )


def _redis(parts: SplitResult, port: int | None) -> RedisPlace:
    tls = parts.scheme == "rediss"
    options = _options(parts, {"prefix", "ca"} if tls else {"prefix"})
    host = parts.netloc.rpartition("@")[2]
    host = host.removesuffix(f":{port}") if port is not None else host
    if not _HOST.fullmatch(host) or port == 0:
        raise _wrong("the host is missing or is none")
    if options.get("ca", "/")[:1] != "/":
        raise _wrong("ca is an absolute path")
    user, password = _login(parts)
    return RedisPlace(
        host=host.strip("[]"),
        port=PORT if port is None else port,
        db=_db(parts.path.removeprefix("/") or "0"),
        user=user,
        password=password,
        tls=tls,
        ca=options.get("ca", ""),
        prefix=_prefix(options.get("prefix", PREFIX)),
    )


def _login(parts: SplitResult) -> tuple[str, str]:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if user and not password:
        raise _wrong("a user needs a password; a password alone is written redis://:PASSWORD@HOST")
    return user, password


def _options(parts: SplitResult, known: set[str]) -> dict[str, str]:
    try:
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        raise _wrong("what stands behind ? must be key=value, joined by &") from None
    options = dict(given)
    if len(options) != len(given) or not options.keys() <= known:
        raise _wrong(f"only {' and '.join(sorted(known))} may stand behind ?, once each")
    return options


def _db(text: str) -> int:
    if not _DB.fullmatch(text):
        raise _wrong("the database is a number")
    return int(text)


def _prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise _wrong("a prefix has up to 64 letters, digits, ., _ and -")
    return text


def _wrong(what: str) -> InvalidArgument:
    return InvalidArgument(f"read HYTHE_METADATA_URL: {what}", next_step=f"write {FORMS}")
