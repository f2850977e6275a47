"""A distribution service that a test makes up: it takes only requests of the real shape, and answers with real messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nats.aio.msg import Msg
from pydantic import BaseModel

from hythe.errors import HytheError, NotFound
from hythe.wire import distribution, images, runtime
from hythe.wire.base import Request
from hythe.wire.problem import to_problem
from tests.fixtures.secured_bus import Responder

DIGEST = "sha256:" + "d" * 64
ID = "sha256:" + "1234567890ab" + "c" * 52
REQUESTS: dict[str, type[Request]] = {
    "image.list": images.ImageList,
    "image.push": images.ImagePush,
    "image.copy": images.ImageCopy,
    "image.tag": images.ImageTag,
    "image.remove": images.ImageRemove,
    "image.inspect": images.ImageInspect,
    "image.history": images.ImageHistory,
    "image.check": images.ImageCheck,
    "image.usage": images.ImageUsage,
    "image.prune": images.ImagePrune,
    "image.referrers": images.ImageReferrers,
    "image.import": images.ImageImport,
    "image.export": images.ImageExport,
    "registry.login": images.RegistryLogin,
    "registry.logout": images.RegistryLogout,
    "image.pull": runtime.Pull,
}
Answer = BaseModel | HytheError | Callable[[Any], BaseModel | HytheError]


def summary(reference: str, **more: Any) -> images.ImageSummary:
    """Return one image of a listing, whole unless said otherwise."""
    fields: dict[str, Any] = {
        "digest": DIGEST,
        "id": ID,
        "platform": "linux/amd64",
        "platforms": ["linux/amd64"],
        "size_bytes": 2_000_000,
        "complete": True,
        "image_created_at": "2026-01-02T03:04:05Z",
        "created_at": "2026-11-23T20:15:00Z",
        "updated_at": "2026-11-23T20:15:00Z",
    }
    return images.ImageSummary(reference=reference, **(fields | more))


def descriptor(letter: str, size_bytes: int = 10) -> distribution.Descriptor:
    """Return a descriptor whose digest is one hex digit, repeated."""
    digest = "sha256:" + letter * 64
    return distribution.Descriptor(
        media_type="application/vnd.oci.image.manifest.v1+json", digest=digest, size_bytes=size_bytes
    )


class Distribution:
    """Answers requests by ``noun.verb``.

    Attributes:
        answers: what is answered, or a function of the request that returns it; for an operation a list, whose last one
            is the result.
        asked: the requests that came, oldest first.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Answer | list[BaseModel]] = {}
        self.asked: list[Any] = []

    async def answer(self, message: Msg, service: Responder) -> None:
        """Answer one request."""
        kind = ".".join(message.subject.split(".")[-2:])
        request = REQUESTS[kind].model_validate_json(message.data)
        self.asked.append(request)
        given = self.answers.get(kind, NotFound(f"{kind}: the test has no answer"))
        if isinstance(given, list):
            await service.say(message.reply, "accepted", {})
            for progress in given[:-1]:
                await service.say(message.reply, "progress", progress.model_dump(mode="json"))
            given = given[-1]
        elif not isinstance(given, BaseModel | HytheError):
            given = given(request)
        if isinstance(given, HytheError):
            await service.refuse(message.reply, **json.loads(to_problem(given).model_dump_json()))
        else:
            await service.say(message.reply, "done", given.model_dump(mode="json"))
