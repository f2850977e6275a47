"""What a ``hosts.toml`` says: containerd's description of the servers that stand in for a registry."""

from __future__ import annotations

import posixpath
import re
import tomllib
from typing import NoReturn, cast
from urllib.parse import urlsplit

from hythe.errors import FailedPrecondition
from hythe_distribution.hosts import endpoint_of_url
from hythe_distribution.mirrors import ALL_CAPABILITIES, API, SYSTEM_TRUST, Capability, Entry, Trust

MAX_HOSTS = 64
MAX_HEADERS = 64
MAX_DIAL_TIMEOUT_S = 300.0

_DURATION_PART = re.compile(r"(\d{1,9}(?:\.\d{0,9})?)(ns|us|µs|ms|s|m|h)")
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_USER = re.compile(r"[^/]*@")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")


def parse_hosts_file(raw: bytes, path: str) -> tuple[Entry, ...]:
    """Return the servers that the ``hosts.toml`` at `path` describes, in its order; the registry's own is the last.

    Keys that containerd doesn't know either are passed over, as there.

    Raises:
        FailedPrecondition: it is no TOML or a key breaks its rule; the message names file and key.

    Spec: containerd, docs/hosts.md.
    """
    try:
        table = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
        _refuse(path, "", "is no TOML", str(error)[:200])
    hosts = table.get("host", {})
    if not isinstance(hosts, dict) or not all(isinstance(host, dict) for host in hosts.values()):
        _refuse(path, "host", 'is no table of servers: write [host."https://…"]')
    if len(hosts) > MAX_HOSTS:
        _refuse(path, "host", f"has more than {MAX_HOSTS} servers")
    # a password that stands in a URL by mistake is not repeated in an error
    keys = {url: f'host."{_USER.sub("", url)[:200]}"' for url in hosts}
    entries = [_Reader(path, keys[url], host).entry(url) for url, host in hosts.items()]
    server = table.get("server", "")
    if not isinstance(server, str):
        _refuse(path, "server", "is no text")
    return (*entries, _Reader(path, "server", table).entry(server))


class _Reader:
    """Reads the table of one server."""

    def __init__(self, path: str, key: str, table: dict[str, object]) -> None:
        self._path = path
        self._key = key
        self._table = table

    def entry(self, url: str) -> Entry:
        override = self._flag("override_path")
        trust = Trust(self._authorities(), self._clients(), self._flag("skip_verify"), self._path)
        entry = Entry(
            base="" if override else API,
            capabilities=self._capabilities(),
            headers=self._headers(),
            trust=trust if trust.special else SYSTEM_TRUST,
            dial_timeout_s=self._dial_timeout_s(),
        )
        if not url:
            if self._key != "server":
                _refuse(self._path, self._key, "is no URL")
            return entry
        try:
            split = urlsplit(url if "://" in url else f"https://{url}")
            endpoint = endpoint_of_url(split)
        except ValueError:
            endpoint = None
        if endpoint is None or split.username is not None or split.query or split.fragment:
            _refuse(self._path, self._key, "is no URL of a server: write https://HOST[:PORT][/PATH]")
        if not _PATH.fullmatch(split.path):
            _refuse(self._path, self._key, "has a path with characters that must be escaped")
        path = posixpath.normpath(split.path).rstrip("/").replace("//", "/") if split.path else ""
        if not override and not path.endswith(API):
            path += API
        return Entry(endpoint, path, entry.capabilities, entry.headers, entry.trust, entry.dial_timeout_s)

    def _flag(self, name: str) -> bool:
        value = self._table.get(name, False)
        if not isinstance(value, bool):
            self._refuse(name, "is neither true nor false")
        return value

    def _capabilities(self) -> frozenset[Capability]:
        values = self._texts("capabilities")
        for value in values:
            if value.lower() not in ALL_CAPABILITIES:
                self._refuse("capabilities", f"has {value[:50]!r}, which is none of pull, resolve and push")
        return frozenset(cast("Capability", value.lower()) for value in values) or ALL_CAPABILITIES

    def _headers(self) -> tuple[tuple[str, str], ...]:
        table = self._table.get("header", {})
        if not isinstance(table, dict):
            self._refuse("header", "is no table")
        headers: list[tuple[str, str]] = []
        for name, value in table.items():
            values = [value] if isinstance(value, str) else value
            if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
                self._refuse(f"header.{name[:50]}", "is neither a text nor a list of texts")
            if not _HEADER_NAME.fullmatch(name) or not all(_HEADER_VALUE.fullmatch(each) for each in values):
                self._refuse(f"header.{name[:50]!r}", "is no HTTP header")
            headers.append((name, ", ".join(values)))
        if len(headers) > MAX_HEADERS:
            self._refuse("header", f"has more than {MAX_HEADERS} headers")
        return tuple(headers)

    def _authorities(self) -> tuple[str, ...]:
        return tuple(self._file("ca", name) for name in self._texts("ca"))

    def _clients(self) -> tuple[tuple[str, str], ...]:
        value = self._table.get("client", [])
        pairs: list[tuple[str, str]] = []
        for item in [value] if isinstance(value, str) else value if isinstance(value, list) else [None]:
            pair = [item, ""] if isinstance(item, str) else item
            if not isinstance(pair, list) or not 1 <= len(pair) <= 2 or not all(isinstance(each, str) for each in pair):
                self._refuse("client", "is neither a file nor a list of files or of pairs of certificate and key")
            certificate, key = [*pair, ""][:2]
            pairs.append((self._file("client", certificate), self._file("client", key) if key else ""))
        return tuple(pairs)

    def _dial_timeout_s(self) -> float | None:
        value = self._table.get("dial_timeout", "")
        if value == "":
            return None
        if not isinstance(value, str) or not re.fullmatch(f"(?:{_DURATION_PART.pattern})+", value):
            self._refuse("dial_timeout", "is no duration: write for example 3s or 500ms")
        seconds = sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION_PART.findall(value))
        if not 0 < seconds <= MAX_DIAL_TIMEOUT_S:
            self._refuse("dial_timeout", f"is not above 0 and at most {MAX_DIAL_TIMEOUT_S:g} s")
        return seconds

    def _texts(self, name: str) -> list[str]:
        value = self._table.get(name, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            self._refuse(name, "is neither a text nor a list of texts")
        return values

    def _file(self, key: str, name: str) -> str:
        if not name or "\0" in name:
            self._refuse(key, "names no file")
        return posixpath.join(posixpath.dirname(self._path), name)

    def _refuse(self, name: str, reason: str) -> NoReturn:
        _refuse(self._path, name if self._key == "server" else f"{self._key}.{name}", reason)


def _refuse(path: str, key: str, reason: str, cause: str = "") -> NoReturn:
    raise FailedPrecondition(
        f"read {path}: {key} {reason}" if key else f"read {path}: it {reason}",
        cause=cause,
        next_step="mend the file; it is read again with the next request",
    )
