"""Which names are allowed, how ids are made, and how a name becomes one subject token."""

from __future__ import annotations

import os
import re

from hythe.errors import InvalidArgument

_NAMESPACE = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
_CONTAINER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ID = re.compile(r"[0-9a-f]{32}")
_ESCAPE = re.compile(rb"=([0-9A-F]{2})")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
MAX_NAME_LENGTH = 76
MAX_HOST_BYTES = 253


def new_id() -> str:
    """Return a fresh id of 128 random bits as 32 lower-case hex digits; never reused (ARCHITECTURE §6)."""
    return os.urandom(16).hex()


def check_id(value: str, what: str = "id") -> str:
    """Return `value` if it is an id as made by `new_id`.

    Raises:
        InvalidArgument: it is not 32 lower-case hex digits.
    """
    if not _ID.fullmatch(value):
        raise InvalidArgument(f"check {what} {value!r}: expected 32 lower-case hex digits")
    return value


def check_namespace(value: str) -> str:
    """Return `value` if it is a namespace name by containerd's rule (letters and digits joined by one of ``._-``).

    Raises:
        InvalidArgument: it is empty, longer than 76 characters or breaks the rule.
    """
    return _check(value, _NAMESPACE, "namespace")


def check_identifier(value: str, what: str) -> str:
    """Return `value` if it is an identifier by the rule of namespaces (`check_namespace`).

    Raises:
        InvalidArgument: it is empty, longer than 76 characters or breaks the rule.
    """
    return _check(value, _NAMESPACE, what)


def check_container_name(value: str, what: str = "container name") -> str:
    """Return `value` if it is a container name by Docker's rule: ``[A-Za-z0-9][A-Za-z0-9_.-]*``, at most 76 characters.

    Raises:
        InvalidArgument: it is empty, too long or breaks the rule.
    """
    return _check(value, _CONTAINER_NAME, what)


def is_host(value: str) -> bool:
    """Tell whether `value` can be the name of a host: it can be a directory, and has at most 253 bytes."""
    fits = 0 < len(value.encode(errors="replace")) <= MAX_HOST_BYTES
    return fits and "/" not in value and not value.startswith(".") and value.isprintable()


def _check(value: str, rule: re.Pattern[str], what: str) -> str:
    if len(value) > MAX_NAME_LENGTH:
        raise InvalidArgument(f"check {what}: longer than {MAX_NAME_LENGTH} characters")
    if not rule.fullmatch(value):
        raise InvalidArgument(f"check {what} {value!r}: only letters, digits and . _ - between them are allowed")
    return value


def encode_token(value: str) -> str:
    """Return `value` as one NATS subject token; injective, so different names never share a subject.

    Letters, digits and ``-`` stay; every other UTF-8 byte becomes ``=XX``; the empty string becomes ``_``.
    """
    if not value:
        return "_"
    return "".join(chr(b) if b in _PLAIN else f"={b:02X}" for b in value.encode())


def decode_token(token: str) -> str:
    """Return the name that `encode_token` made `token` from.

    Raises:
        InvalidArgument: `token` is not the encoding of any name.
    """
    if token == "_":
        return ""
    try:
        value = _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), token.encode()).decode()
    except ValueError as error:
        raise InvalidArgument(f"decode subject token {token!r}: {error}") from error
    if encode_token(value) != token:
        raise InvalidArgument(f"decode subject token {token!r}: not an encoding of {value!r}")
    return value
