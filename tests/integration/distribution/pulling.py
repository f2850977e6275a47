"""What the tests of the registry client share: an image, and how its parts are asked for."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from hythe.digest import parse_digest
from hythe.oci import Descriptor
from hythe_distribution.adapters.registry.client import HttpRegistry
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.credentials import Credentials
from hythe_distribution.hosts import Source
from hythe_distribution.registry import Body
from scripts.lab.images import Blob, Image, ImageBuilder, Layer
from tests.fakes.registry import FakeRegistry

NEVER = Cancellation()
MANIFEST = r"/v2/app/manifests/"
BLOB = r"/v2/app/blobs/"


class Logins:
    """A body of `hythe_distribution.credentials.CredentialStore` in memory, which only gives."""

    def __init__(self, kept: Mapping[str, Credentials]) -> None:
        self.kept = dict(kept)

    def find(self, host: str) -> Credentials | None:
        """See `hythe_distribution.credentials.CredentialStore.find`."""
        return self.kept.get(host)

    def keep(self, host: str, credentials: Credentials) -> str:
        """See `hythe_distribution.credentials.CredentialStore.keep`."""
        self.kept[host] = credentials
        return "memory"

    def forget(self, host: str) -> bool:
        """See `hythe_distribution.credentials.CredentialStore.forget`."""
        return self.kept.pop(host, None) is not None


def some_image(layers: int = 1) -> Image:
    """Return an image with layers of some 100 KB."""
    builder = ImageBuilder()
    for i in range(layers):
        builder = builder.layer(Layer().file(f"data{i}", bytes(range(256)) * 400), "none")
    return builder.build()


def source_at(registry: FakeRegistry, image: Image | None = None) -> Source:
    """Return the repository ``app`` of a registry, which has `image` as its tag ``1``."""
    if image is not None:
        registry.serve(image, "app:1")
    return Source(registry.address, "app")


def descriptor(blob: Blob, *urls: str) -> Descriptor:
    """Return the descriptor of a blob."""
    return Descriptor(blob.media_type, parse_digest(blob.digest), len(blob.data), urls=urls)


def fetch(client: HttpRegistry, source: Source, blob: Blob, cancellation: Cancellation = NEVER) -> bytes:
    """Read a blob to its end, unverified as the port gives it."""
    with client.open(source, descriptor(blob), cancellation) as body:
        return read(body)


def read(body: Body) -> bytes:
    """Read a body to its end."""
    data = bytearray()
    buffer = memoryview(bytearray(65536))
    while count := body.readinto(buffer):
        data += buffer[:count]
    return bytes(data)


@contextmanager
def swallowing() -> Iterator[int]:
    """Run a block with the port of a server that accepts nothing: its full backlog stands for a host that swallows packets."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield int(full.getsockname()[1])
