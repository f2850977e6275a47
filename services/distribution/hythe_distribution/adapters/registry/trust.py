"""TLS contexts: whom to believe and what to show, by what a ``hosts.toml`` says, read again when its files change."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

from hythe.errors import FailedPrecondition
from hythe_distribution.mirrors import Trust

MAX_CONTEXTS = 256

_Stamp = tuple[tuple[int, int, int], ...]


class Contexts:
    """One TLS context for each way of trusting; safe to use from several threads."""

    def __init__(self, default: ssl.SSLContext | None) -> None:
        """Make none yet; `default` is for servers that nothing special is said about, by default this host's certificates."""
        self._default = default
        self._lock = threading.Lock()
        self._contexts: dict[Trust, tuple[_Stamp, ssl.SSLContext]] = {}

    def context(self, trust: Trust) -> ssl.SSLContext:
        """Return the context to speak TLS by `trust`.

        Raises:
            FailedPrecondition: a file that it names cannot be used; the message names it, its key and who names it.
        """
        with self._lock:
            if not trust.special:
                if self._default is None:
                    self._default = ssl.create_default_context()
                return self._default
            stamp = _stamp(trust)
            known = self._contexts.get(trust)
            if known is None or known[0] != stamp:
                if len(self._contexts) >= MAX_CONTEXTS:
                    self._contexts.clear()
                known = self._contexts[trust] = (stamp, _make(trust))
            return known[1]


def _make(trust: Trust) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for authority in trust.authorities:
        try:
            context.load_verify_locations(authority)
        except OSError as error:  # SSLError is one
            raise _unusable(trust, "ca", authority, error) from error
    for certificate, key in trust.clients:
        try:
            # an empty password keeps OpenSSL from asking for one at a terminal
            context.load_cert_chain(certificate, key or None, password="")
        except (OSError, ValueError) as error:
            raise _unusable(trust, "client", f"{certificate} {key}".strip(), error) from error
    if trust.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _unusable(trust: Trust, key: str, names: str, error: Exception) -> FailedPrecondition:
    cause = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return FailedPrecondition(
        f"read {trust.file}: {key} {names} cannot be used",
        cause=str(cause),
        next_step="give a readable PEM file there, with a key that needs no password",
    )


def _stamp(trust: Trust) -> _Stamp:
    """Return what changes when one of the files is replaced."""
    stamps = []
    for name in (*trust.authorities, *(name for pair in trust.clients for name in pair if name)):
        try:
            status = Path(name).stat()
        except (OSError, ValueError):
            stamps.append((0, 0, 0))
        else:
            stamps.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(stamps)
