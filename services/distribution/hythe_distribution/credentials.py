"""Logins for registries: what they are, and the port of where they are kept."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

MIN_SECRET_LENGTH = 4  # a shorter one would be found in every word


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login for one registry; none of it is in its `repr`.

    Attributes:
        identity_token: OAuth2 refresh token; where there is one, the password is not used.
    """

    username: str = field(repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be seen anywhere, in each form in which it is sent."""
        texts = tuple(text for text in (self.password, self.identity_token) if text)
        encoded = tuple(basic_authorization(self.username, text).removeprefix("Basic ") for text in texts)
        return (*texts, *encoded)


class CredentialStore(Protocol):
    """Logins by registry, as Docker's ``config.json`` and its helpers keep them. Every call may block on a helper."""

    def find(self, host: str) -> Credentials | None:
        """Return the login for the registry `host` (``host[:port]`` as in references), or None.

        Raises:
            FailedPrecondition: the file or the helper that should know cannot be used.
        """

    def keep(self, host: str, credentials: Credentials) -> str:
        """Keep a login, in the place of any before; return where: a path, or the name of a helper.

        Raises:
            FailedPrecondition: the file or the helper cannot be used.
        """

    def forget(self, host: str) -> bool:
        """Forget a login; tell whether there was one.

        Raises:
            FailedPrecondition: the file or the helper cannot be used.
        """


def basic_authorization(username: str, password: str) -> str:
    """Return the value of an ``Authorization`` header for a user name and password.

    Spec: RFC 7617.
    """
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


def without_secrets(text: bytes, secrets: Iterable[str]) -> bytes:
    """Return what a stranger said with all `secrets` taken out: servers repeat what they were sent when they refuse it."""
    for secret in secrets:
        if len(secret) >= MIN_SECRET_LENGTH:
            text = text.replace(secret.encode(), b"***")
    return text
