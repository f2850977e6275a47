"""Leases of a day for what a command brings into content without a name, as containerd's client makes them."""

from __future__ import annotations

import base64
import os
import time

from hythe.cli import output
from hythe.errors import HytheError
from hythe.labels import GC_EXPIRE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hythe.cli.context import Context
    from hythe.digest import Digest

DAY_S = 86_400


class DayLease:
    """A lease that ends by itself a day after it was made, or with `end`.

    Attributes:
        id: its name; empty until something is kept.
        until: when it ends, RFC 3339 UTC.
    """

    def __init__(self, context: Context) -> None:
        self.id = self.until = ""
        self._context = context

    def keep(self, digest: Digest) -> None:
        """Keep a blob, be it here or yet to come; to be called before it is put into content. May be repeated.

        Raises:
            Unavailable: metadata is away.
        """
        resources = [{"kind": "content", "name": str(digest)}]
        if self.id:
            self._ask("add", {"id": self.id, "resources": resources})
            return
        self.until = output.rfc3339(time.time() + DAY_S)
        lease = random_id()
        self._ask("create", {"id": lease, "labels": {GC_EXPIRE: self.until}, "resources": resources})
        self.id = lease

    def end(self) -> None:
        """End it now; where that fails, it ends by itself."""
        if self.id:
            try:
                self._ask("remove", {"id": self.id})
            except HytheError as error:
                output.warn(f"lease {self.id} is left until {self.until}: {error.message}")
            self.id = ""

    def _ask(self, verb: str, body: dict[str, object]) -> None:
        self._context.bus.call(self._context.subject("metadata", "lease", verb), body)


def random_id() -> str:
    """Return an id of a lease: nanoseconds and three random bytes, as containerd's ``leases.WithRandomID`` writes them."""
    return f"{time.time_ns() % 1_000_000_000}-{base64.urlsafe_b64encode(os.urandom(3)).decode()}"
