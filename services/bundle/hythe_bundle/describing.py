"""What a container's bundle says: its record and config.json, made from an image and wishes, or from somebody's directory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hythe import tracing
from hythe.digest import Digest, digest_of
from hythe_bundle import command, foreign, host_facts, mounts, names, spec
from hythe_bundle.content import Origin
from hythe_bundle.foreign import ForeignDisk
from hythe_bundle.host_facts import Found, Host
from hythe_bundle.image_facts import ImageFacts
from hythe_bundle.images import UnpackedImage
from hythe_bundle.mounts import BoundFile
from hythe_bundle.volumes import ResolvedMount, VolumePlaces
from hythe_bundle.wishes import Wishes

RECORD = "record.json"
CONFIG = foreign.CONFIG


@dataclass(frozen=True, slots=True)
class BundleRequest:
    """What a bundle is asked to be.

    Attributes:
        image: root manifest or index; None where `directory` takes its place.
        directory: absolute path of a bundle that others made, which is run in place of an image.
        request: the request as it came, JSON; kept in the record, and compared when the id comes again.
    """

    id: str
    namespace: str
    origin: Origin
    image: Digest | None
    wishes: Wishes
    cgroup_path: str
    request: str
    directory: str = ""

    @property
    def digest(self) -> str:
        """Digest of the request."""
        return str(digest_of(self.request.encode()))


class Descriptions:
    """Makes the files of bundles by name, all but the list of mounts."""

    def __init__(self, facts: ImageFacts, host: Host, volumes: VolumePlaces, disk: ForeignDisk) -> None:
        self._facts = facts
        self._host = host
        self._volumes = volumes
        self._disk = disk

    async def of_image(self, wanted: BundleRequest, image: UnpackedImage, path: Path) -> dict[str, str]:
        """Return the files of the bundle of an image that will lie at `path`; its volumes are there then.

        When it fails, volumes may have been made: `VolumePlaces.abandon` undoes them.

        Raises:
            InvalidArgument, FailedPrecondition, NotFound: a wish or the image's config can't be fulfilled.
            HytheError: see `VolumePlaces.resolve`.
        """
        host, wishes = self._host.facts(), wanted.wishes
        bound = names.bound(wishes, path, host)
        request = await self._request(wanted.id, wishes, image, wanted.cgroup_path, bound)
        config = await self._make(request, create=False)  # what can't be fulfilled is refused before anything is made
        volumes = await self._resolve(wanted, image)
        if volumes or any(wish.create for wish in wishes.mounts):
            config = await self._make(replace(request, volumes=volumes), create=True)
        about = {
            "reference": wanted.origin.reference,
            "digest": str(wanted.image),
            "manifest": str(image.manifest),
            "config": str(image.config.digest),
            "chain_id": image.chain_id,
        }
        facts = {"image": about, "volumes": self._volumes.names_of(wanted.id)}
        record = _record(wanted, facts, config["process"]["args"], command.stop_signal(wishes, image.config))
        return {RECORD: record, CONFIG: compact(config)} | names.texts(wishes, wanted.id, host)

    async def of_directory(self, wanted: BundleRequest, others: AsyncIterator[Mapping[str, Any]]) -> dict[str, str]:
        """Return the files of the bundle of a container that is run from somebody's directory.

        Args:
            others: records of the bundles that there are.

        Raises:
            HytheError: see `foreign.read` and `foreign.check_apart`.
        """
        with tracing.span("read bundle", hythe__bundle=wanted.directory):
            found = await asyncio.to_thread(foreign.read, self._disk, wanted.directory)
        async for other in others:
            foreign.check_apart(found, other)
        config = foreign.adopt(found, wanted.id, wanted.namespace, "/" + wanted.cgroup_path.strip("/"))
        stop_signal = command.signal_of(wanted.wishes.stop_signal or found.config.stop_signal)
        return {
            RECORD: _record(wanted, foreign.facts(found), found.config.args, stop_signal),
            CONFIG: compact(config),
        }

    async def configure(
        self, container_id: str, wishes: Wishes, image: UnpackedImage, cgroup_path: str
    ) -> dict[str, Any]:
        """Return the config.json of an image alone: no files of the bundle are bound over the image's, and no volumes.

        Raises:
            InvalidArgument, FailedPrecondition, NotFound: a wish or the image's config can't be fulfilled.
        """
        return await self._make(await self._request(container_id, wishes, image, cgroup_path, ()), create=False)

    async def _request(
        self,
        container_id: str,
        wishes: Wishes,
        image: UnpackedImage,
        cgroup_path: str,
        bound: Sequence[BoundFile],
    ) -> spec.SpecRequest:
        trace: dict[str, str] = {}
        tracing.inject(trace)
        return spec.SpecRequest(
            container_id=container_id,
            wishes=wishes,
            config=image.config,
            user=await self._facts.user(wishes.user or image.config.user, image.chain_id, wishes.groups),
            cgroup_path=cgroup_path,
            bound=bound,
            with_32_bit=await self._facts.has_32_bit(image.chain_id),
            trace=trace,
        )

    async def _make(self, request: spec.SpecRequest, *, create: bool) -> dict[str, Any]:
        found = Found()
        if host_facts.needs_look(request.wishes):
            found = await asyncio.to_thread(host_facts.find, request.wishes, self._host, create=create)
        return spec.make(request, self._host.facts(), found)

    async def _resolve(self, wanted: BundleRequest, image: UnpackedImage) -> tuple[ResolvedMount, ...]:
        """Return the mounts of the volumes of request and image."""
        volumes = tuple(wish for wish in wanted.wishes.mounts if wish.type == "volume")
        of_image = mounts.image_volumes(wanted.wishes, image.config)
        if not volumes and not of_image:
            return ()
        shared = wanted.wishes.namespaces
        return await self._volumes.resolve(wanted.namespace, wanted.id, image.chain_id, volumes, of_image, shared)


def _record(wanted: BundleRequest, facts: Mapping[str, Any], args: Sequence[str], stop_signal: str) -> str:
    return compact(
        {
            "id": wanted.id,
            "namespace": wanted.namespace,
            **facts,
            "args": list(args),
            "stop_signal": stop_signal,
            "request": json.loads(wanted.request),
            "request_digest": wanted.digest,
        }
    )


def compact(value: object) -> str:
    """Return a document of a bundle as JSON."""
    return json.dumps(value, separators=(",", ":"))
