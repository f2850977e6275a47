"""What all requests of one push have in common, and what is believed of the answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from hythe.digest import Digest
from hythe.errors import DataLoss, HytheError
from hythe_distribution.adapters.registry.asking import Asking
from hythe_distribution.adapters.registry.bodies import stated_digest
from hythe_distribution.adapters.registry.problems import MAX_PROBLEM_BYTES, Kind, refusal
from hythe_distribution.adapters.registry.response import Response
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.hosts import Endpoint, Source

ACTIONS = ("pull", "push")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Requests to one repository, with leave to write to it, about one thing that is sent there.

    Attributes:
        step: what is being done, for error messages.
    """

    asking: Asking
    step: str
    source: Source
    cancellation: Cancellation

    def ask(
        self,
        method: str,
        path: str,
        *,
        accept: str = "*/*",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        mount_from: str = "",
        repeatable: bool | None = None,
        cancellation: Cancellation | None = None,
    ) -> Response:
        """Ask for `path` below the repository; see `Asking.ask`. `cancellation` stands in for the push's own."""
        return self.asking.ask(
            self.step,
            method,
            self.source,
            path,
            cancellation or self.cancellation,
            accept=accept,
            headers=headers,
            body=body,
            capability="push",
            actions=ACTIONS,
            mount_from=mount_from,
            repeatable=repeatable,
        )

    def ask_at(
        self,
        method: str,
        origin: Endpoint,
        location: str,
        *,
        cancellation: Cancellation | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterator[bytes] | None = None,
        body_bytes: int | None = None,
        repeatable: bool | None = None,
    ) -> Response:
        """Ask where `origin` said that it goes on; see `Asking.ask_at`. `cancellation` stands in for the push's own."""
        return self.asking.ask_at(
            self.step,
            method,
            self.source,
            origin,
            location,
            cancellation or self.cancellation,
            headers=headers,
            body=body,
            body_bytes=body_bytes,
            capability="push",
            actions=ACTIONS,
            repeatable=repeatable,
        )

    def has_blob(self, digest: Digest, size_bytes: int) -> bool:
        """Tell whether the repository has a blob.

        Raises:
            DataLoss: what it has under that digest says that it has another digest or size.
        """
        with self.ask("HEAD", f"blobs/{digest}") as response:
            if response.status == 404:
                return False
            require_status(self.step, response, (200,), "blob")
            check_digest(self.step, response, digest)
            if response.size_bytes not in (None, size_bytes):
                raise DataLoss(
                    f"{self.step}: {response.endpoint} has it with {response.size_bytes} bytes, not {size_bytes}"
                )
            return True


def require_status(step: str, response: Response, good: Collection[int], kind: Kind) -> None:
    """Return if an answer has one of the statuses in `good`.

    Raises:
        HytheError: the one that `refusal` gives for its status.
    """
    if response.status not in good:
        raise refused(step, response, kind)


def refused(step: str, response: Response, kind: Kind) -> HytheError:
    """Return the error for an answer that is none of the good ones, with the registry's own text."""
    return refusal(step, response.endpoint, response.status, response.read_front(MAX_PROBLEM_BYTES), kind)


def check_digest(step: str, response: Response, expected: Digest) -> None:
    """Return if the registry states the digest `expected`, none, or one in another algorithm than sha256.

    Raises:
        DataLoss: it states another, or one that is none.

    Spec: OCI distribution-spec, "Pulling manifests": Docker-Content-Digest.
    """
    stated = stated_digest(step, response)
    if stated not in (None, expected):
        raise DataLoss(f"{step}: {response.endpoint} says that it has {stated} instead")
