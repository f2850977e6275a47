"""The one table from what a registry or its connection does wrong to the closed error set."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from hythe.errors import (
    FailedPrecondition,
    HytheError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from hythe_distribution.hosts import Endpoint

MAX_PROBLEM_BYTES = 64 * 1024
Kind = Literal["image", "blob"]


@contextmanager
def connecting(step: str, endpoint: Endpoint) -> Iterator[None]:
    """Run a block that talks to `endpoint`; what goes wrong on the way there or back becomes an error.

    Raises:
        Unavailable: no such host, no connection, broken, timed out, or not HTTP.
        FailedPrecondition: its certificate is not trusted.
        PermissionDenied: a stranger leads to an address where it may not lead.
    """
    try:
        yield
    except PermissionDenied as error:
        raise PermissionDenied(
            f"{step}: {error.message}", cause=error.cause, next_step="if it is right, name that server in a hosts.toml"
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise FailedPrecondition(
            f"{step}: the certificate of {endpoint} is not trusted",
            cause=error.verify_message,
            next_step="name its authority as `ca` in a hosts.toml, or add it to this host's certificates and restart the service",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unavailable(step, endpoint, error) from error


def _unavailable(step: str, endpoint: Endpoint, error: OSError | http.client.HTTPException) -> Unavailable:
    details = {"kind": "registry", "registry": str(endpoint)}
    if isinstance(error, ssl.SSLError):
        hint = "if it speaks plain HTTP, use --plain-http"
        return Unavailable(
            f"{step}: no TLS with {endpoint}", cause=error.reason or str(error), next_step=hint, details=details
        )
    if isinstance(error, TimeoutError):
        cause = "timed out"
    elif isinstance(error, socket.gaierror):
        cause = error.strerror or "no such host"
    elif isinstance(error, http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
        cause = "the answer is not HTTP"
    else:
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Unavailable(
        f"{step}: cannot reach {endpoint}",
        cause=cause,
        next_step=f"check the registry's name and that it runs: curl {endpoint}/v2/",
        details=details,
    )


def broken(step: str, endpoint: Endpoint, received_bytes: int, error: Exception) -> Unavailable:
    """Return the error for an answer that ended before its end or fell silent."""
    cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        return stalled(step, endpoint, received_bytes, cause)
    return _unfinished(f"{step}: {endpoint} broke off after {received_bytes} bytes", endpoint, cause)


def stalled(step: str, endpoint: Endpoint, received_bytes: int, cause: str) -> Unavailable:
    """Return the error for an answer that brings nothing, or next to nothing, any more."""
    return _unfinished(f"{step}: {endpoint} stalled after {received_bytes} bytes", endpoint, cause)


def _unfinished(message: str, endpoint: Endpoint, cause: str) -> Unavailable:
    details = {"kind": "registry", "registry": str(endpoint)}
    return Unavailable(message, cause=cause, outcome="failed", next_step="try again", details=details)


def must_wait(step: str, endpoint: Endpoint, status: int, body: bytes, wait_s: float) -> ResourceExhausted:
    """Return the error for an answer that asks to come back later than anybody would wait."""
    return ResourceExhausted(
        f"{step}: {endpoint} asks to wait {min(wait_s, 1e9):.0f} s before the next request",
        cause=registry_text(body) or _status_text(status),
        next_step="try again then",
        details={"kind": "registry", "registry": str(endpoint)},
    )


def may_pass(error: HytheError) -> bool:
    """Tell whether an error of `connecting` may be gone in a moment: not that a server isn't there, or speaks otherwise."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLError):
        return isinstance(cause, ssl.SSLEOFError)
    if isinstance(cause, socket.gaierror):
        return cause.errno == socket.EAI_AGAIN
    return isinstance(cause, OSError)


def was_silent(error: HytheError) -> bool:
    """Tell whether an error of `connecting` says that nothing came for the whole time that was waited."""
    cause = error.__cause__
    return isinstance(cause, TimeoutError) or (isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_AGAIN)


def was_unreachable(error: HytheError) -> bool:
    """Tell whether an error of `connecting` says that there is no way to the server, or no word from it."""
    cause = error.__cause__
    lost = isinstance(cause, ConnectionResetError | BrokenPipeError)
    return isinstance(error, Unavailable) and isinstance(cause, OSError) and not lost


def refusal(step: str, endpoint: Endpoint, status: int, body: bytes, kind: Kind) -> HytheError:
    """Return the error for an answer with another status than 200.

    Args:
        body: what the registry says about it, at most 64 KiB of it.
        kind: what was asked for.
    """
    cause = registry_text(body) or _status_text(status)
    if status == 404:
        hint = "check its name and tag" if kind == "image" else "push the image again: its registry has lost a part"
        return NotFound(f"{step}: {endpoint} has no such {kind}", cause=cause, next_step=hint, details={"kind": kind})
    if status == 401:
        return Unauthenticated(
            f"{step}: {endpoint} wants a login, or has no such image",
            cause=cause,
            next_step="check its name, or log in: hythe login",
        )
    if status == 403:
        return PermissionDenied(f"{step}: {endpoint} refuses", cause=cause, next_step="check its name")
    if status == 429:
        return ResourceExhausted(
            f"{step}: {endpoint} has had too many requests", cause=cause, next_step="wait a while, then try again"
        )
    if status >= 500 or status == 408:
        return Unavailable(
            f"{step}: {endpoint} fails",
            cause=cause,
            next_step="try again later",
            details={"kind": "registry", "registry": str(endpoint)},
        )
    return InvalidArgument(f"{step}: {endpoint} does not understand the request", cause=cause)


def _status_text(status: int) -> str:
    return f"HTTP {status} {http.client.responses.get(status, '')}".strip()


def registry_text(body: bytes) -> str:
    """Return the text of a registry's error document, fit to be shown on a terminal; empty if it isn't one.

    Spec: OCI distribution-spec, "Error Codes".
    """
    try:
        errors = json.loads(body)["errors"]
        texts = [f"{error.get('code', '')}: {error.get('message', '')}" for error in errors]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    text = "; ".join(texts[:3])
    return "".join(c if c.isprintable() else " " for c in text)[:300]
