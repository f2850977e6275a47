"""A connection to Redis that says what is known when it breaks, and brings the functions of the store along."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from redis import connection, exceptions

from hythe_metadata.adapters.redis_errors import away, translate
from hythe_metadata.adapters.redis_keys import keys_of
from hythe_metadata.adapters.store_url import RedisPlace

TIMEOUT_S = 2.0
"""Longest wait for a connection, and for an answer."""

Command = tuple[str | bytes | int, ...]


def _library() -> tuple[str, str]:
    text = Path(__file__).with_name("redis_functions.lua").read_text()
    name = f"hythe_metadata_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return name, f"#!lua name={name}\n{text.replace('NAME_', f'{name}_')}"


LIBRARY_NAME, LIBRARY = _library()


class AnswerLost(Exception):
    """What was sent may have been carried out, or may still be; the text says what happened to the connection."""


class Link:
    """One connection, made when it is needed and again after it broke; for one thread at a time."""

    def __init__(self, place: RedisPlace, name: str = "", check: Callable[[Link], None] | None = None) -> None:
        """`name` is what Redis lists the connection as; `check` looks at the server whenever a connection was made."""
        self.place = place
        self._connection = _connection(place, name)
        self._check = check
        self._keys = keys_of(place.prefix)
        self._connected = False

    def call(self, function: str, *arguments: str | bytes | int, read_only: bool = False) -> Command:
        """Return the command that calls a function of the store with all its keys."""
        verb = "FCALL_RO" if read_only else "FCALL"
        return (verb, f"{LIBRARY_NAME}_{function}", len(self._keys), *self._keys, *arguments)

    def ask(self, step: str, *commands: Command) -> list[Any]:
        """Send commands at once and return their answers.

        Raises:
            Unavailable: there is no connection, or Redis is still loading; nothing was carried out.
            AnswerLost: the connection broke before all answers were there.
            HytheError: Redis refused one of the commands; the others were carried out.
        """
        replies = self._exchange(step, commands)
        if any(_function_missing(reply) for reply in replies):
            loaded = self._exchange(step, [("FUNCTION", "LOAD", "REPLACE", LIBRARY)])[0]
            if isinstance(loaded, exceptions.RedisError):
                raise translate(loaded, step, self.place)
            again = [index for index, reply in enumerate(replies) if _function_missing(reply)]
            for index, reply in zip(again, self._exchange(step, [commands[i] for i in again]), strict=True):
                replies[index] = reply
        for reply in replies:
            if isinstance(reply, exceptions.RedisError):
                raise translate(reply, step, self.place)
        return replies

    def question(self, step: str, *commands: Command) -> list[Any]:
        """As `ask`, for commands that may be sent twice: a connection that broke is made again once.

        Raises:
            Unavailable: Redis is away.
            HytheError: Redis refused.
        """
        fresh = not self._connected
        try:
            return self.ask(step, *commands)
        except AnswerLost as lost:
            if fresh or isinstance(lost.__cause__, exceptions.TimeoutError):
                raise away(step, self.place, lost) from lost
        try:
            return self.ask(step, *commands)
        except AnswerLost as lost:
            raise away(step, self.place, lost) from lost

    def read(self, timeout_s: float) -> Any:
        """Return what Redis sends unasked, None if nothing came in time.

        Raises:
            Unavailable: the connection broke.
        """
        try:
            if not self._connection.can_read(timeout_s):
                return None
            return self._connection.read_response()
        except (exceptions.RedisError, OSError) as error:
            self.close()
            raise away("listen to metadata store", self.place, error) from error

    def connect(self, step: str) -> None:
        """Have a connection.

        Raises:
            Unavailable: Redis is away.
            FailedPrecondition: it doesn't let us in, or isn't as the check wants it.
        """
        if self._connected:
            return
        try:
            self._connection.connect()
        except (exceptions.RedisError, OSError) as error:
            self.close()
            if isinstance(error, exceptions.RedisError):
                raise translate(error, step, self.place) from error
            raise away(step, self.place, error) from error
        self._connected = True
        if self._check is not None:
            try:
                self._check(self)
            except BaseException:
                self.close()
                raise

    def renew(self, step: str) -> None:
        """Have a connection that wasn't broken while nobody used it: what is sent over a dead one is in doubt for nothing.

        Raises:
            HytheError: as `connect` says.
        """
        try:
            if self._connected and self._connection.can_read(0):
                self.close()
        except (exceptions.RedisError, OSError):
            self.close()
        self.connect(step)

    def close(self) -> None:
        """Give the connection back; the next question makes another."""
        self._connected = False
        self._connection.disconnect()

    def _exchange(self, step: str, commands: Sequence[Command]) -> list[Any]:
        self.connect(step)
        try:
            self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
            return [self._reply() for _ in commands]
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
            self.close()
            raise AnswerLost(str(error)) from error
        except BaseException:
            self.close()  # answers that nobody read would be taken for those of the next question
            raise

    def _reply(self) -> Any:
        try:
            return self._connection.read_response()
        except (exceptions.BusyLoadingError, exceptions.AuthenticationError) as error:
            return error  # refusals, though redis-py counts them as broken connections
        except (exceptions.ConnectionError, exceptions.TimeoutError):
            raise
        except exceptions.ResponseError as error:
            return error


def _function_missing(reply: object) -> bool:
    return isinstance(reply, exceptions.ResponseError) and "Function not found" in str(reply)


def _connection(place: RedisPlace, name: str) -> Any:
    kinds: Any = connection  # redis-py's own types don't fit its own classes
    options: dict[str, Any] = {
        "db": place.db,
        "username": place.user or None,
        "password": place.password or None,
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "protocol": 2,
        "client_name": name or None,
    }
    if place.socket:
        return kinds.UnixDomainSocketConnection(path=place.socket, **options)
    if place.tls:
        return kinds.SSLConnection(host=place.host, port=place.port, ssl_ca_certs=place.ca or None, **options)
    return kinds.Connection(host=place.host, port=place.port, **options)
