"""Logins for registries: what they are, and the port of where they are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login for one registry; none of it is in its `repr`.

    Attributes:
        identity_token: OAuth2 refresh token; where there is one, the password is not used.
    """

    username: str = field(repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


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
