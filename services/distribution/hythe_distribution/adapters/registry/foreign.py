"""Foreign layers: fetched from where their descriptor says, which a stranger wrote, so as from a stranger."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from hythe.errors import HytheError, NotFound, PermissionDenied
from hythe.oci import Descriptor
from hythe_distribution.adapters.registry.asking import Asking
from hythe_distribution.adapters.registry.bodies import Blob, body_of, range_header
from hythe_distribution.adapters.registry.connections import Route
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import endpoint_of_url

MAX_URLS = 8

_TARGET = re.compile(r"/[\x21-\x7e]*")


def open_foreign(
    asking: Asking, descriptor: Descriptor, cancellation: Cancellation, offset: int, loopback: bool
) -> Blob:
    """Begin to read a blob from the first of its URLs that has it; see `hythe_distribution.registry.Registry.open_foreign`.

    Args:
        loopback: whether URLs on this host are allowed, and with plain HTTP there.

    Raises:
        NotFound: none of its first eight URLs has it.
        PermissionDenied: all lead where they may not.
        HytheError: what the last one failed with, see `body_of` and `Asking.ask_stranger`.
    """
    failure: HytheError = NotFound(f"fetch {descriptor.digest}: its descriptor names no URL", details={"kind": "blob"})
    for url in descriptor.urls[:MAX_URLS]:
        try:
            return _open(asking, url, descriptor, cancellation, offset, loopback)
        except HytheError as error:
            cancellation.check()
            failure = error
    raise failure


def _open(
    asking: Asking, url: str, descriptor: Descriptor, cancellation: Cancellation, offset: int, loopback: bool
) -> Blob:
    route, target = _checked(url, descriptor, loopback)
    step = f"fetch {descriptor.digest} from {route.endpoint}"
    wanted = range_header(step, descriptor, offset, None)
    response = asking.ask_stranger(step, route, target, cancellation, wanted)
    try:
        return body_of(step, response, descriptor, wanted, "blob")
    except BaseException:
        response.close()
        raise


def _checked(url: str, descriptor: Descriptor, loopback: bool) -> tuple[Route, str]:
    step = f"fetch {descriptor.digest}"
    try:
        split = urlsplit(url)
        endpoint = endpoint_of_url(split)
    except ValueError:
        endpoint = None
    target = (split.path or "/") + (f"?{split.query}" if split.query else "") if endpoint else ""
    if endpoint is None or split.username is not None or not _TARGET.fullmatch(target):
        raise PermissionDenied(f"{step}: its descriptor names a place that is no URL of a server")
    here = loopback and endpoint.loopback
    if endpoint.scheme != "https" and not here:
        raise PermissionDenied(f"{step}: its descriptor names a place without TLS", cause=str(endpoint))
    return Route(endpoint, "stranger on loopback" if here else "stranger"), target
