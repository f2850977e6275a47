"""A request before it is known which server gets it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hythe import __version__
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.retry import TRIES

SAFE = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked, on behalf of whose work.

    Attributes:
        step: what is being done, for error messages.
        headers: for every server that a redirect leads to, so without credentials.
        body: bytes can be sent again; an iterator only once.
        repeatable: sending it twice does no harm.
        retry_statuses: whether 408, 429 and 5xx are reasons to ask again.
    """

    step: str
    method: str
    headers: Mapping[str, str]
    body: bytes | Iterator[bytes] | None = field(repr=False)
    repeatable: bool
    retry_statuses: bool
    cancellation: Cancellation = field(repr=False)

    @property
    def sends(self) -> int:
        """How often it may be sent."""
        return TRIES if self.repeatable and not isinstance(self.body, Iterator) else 1


def call_of(
    step: str,
    method: str,
    cancellation: Cancellation,
    accept: str,
    headers: Mapping[str, str] | None,
    body: bytes | Iterator[bytes] | None,
    body_bytes: int | None,
    repeatable: bool | None,
    retry_statuses: bool,
) -> Call:
    """Return a call with the headers that every request has; see `Asking.ask` for the arguments."""
    always = {"Accept": accept, "Accept-Encoding": "identity", "User-Agent": f"hythe/{__version__}"}
    if body_bytes is not None:
        always["Content-Length"] = str(body_bytes)
    harmless = method in SAFE if repeatable is None else repeatable
    return Call(step, method, merged(always, headers or {}), body, harmless, retry_statuses, cancellation)


def merged(*headers: Mapping[str, str]) -> dict[str, str]:
    """Return all headers; of two with the same name, in whatever case, the later one counts."""
    found: dict[str, tuple[str, str]] = {}
    for each in headers:
        found.update({name.lower(): (name, value) for name, value in each.items()})
    return dict(found.values())
