"""The distribution process on a real bus: pulls of all platforms, copies, referrers and logins as requests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.errors import InvalidArgument, PermissionDenied
from hythe.identifiers import new_id
from hythe.oci import default_platform
from hythe.wire import distribution, images
from hythe.wire.base import Empty
from scripts.lab.images import index
from scripts.lab.registry import Registry
from tests.fixtures.secured_bus import SecuredBus
from tests.fixtures.servers import NatsServer
from tests.integration.distribution.processes import ServiceProcess, connect
from tests.unit.distribution.transfers import OTHER_ARCHITECTURE, OTHER_PLATFORM, an_image, artifact


@pytest.fixture
def secured(tmp_path: Path, start_nats: Callable[[str], NatsServer]) -> SecuredBus:
    """A bus with the keys of a stack."""
    return SecuredBus(tmp_path, start_nats)


@pytest.fixture
def service(tmp_path: Path, secured: SecuredBus) -> Iterator[ServiceProcess]:
    """A running distribution process beside metadata, with an empty directory of verifiers and of logins."""
    for name in ("verifiers", "docker"):
        (tmp_path / name).mkdir()
    metadata = ServiceProcess("metadata", tmp_path, secured)
    process = ServiceProcess(
        "distribution",
        tmp_path,
        secured,
        HYTHE_VERIFIER_DIR=str(tmp_path / "verifiers"),
        DOCKER_CONFIG=str(tmp_path / "docker"),
    )
    metadata.start()
    process.start()
    yield process
    process.end()
    metadata.end()


@pytest.fixture
async def bus(secured: SecuredBus, service: ServiceProcess) -> AsyncIterator[Bus]:
    """The bus as runtime uses it."""
    connected = await connect(service, secured, "runtime")
    yield connected
    await connected.close()


def subject(bus: Bus, noun: str, verb: str) -> str:
    """Return the subject of a request to the service."""
    return subjects.rpc("default", bus.key_name, "distribution", noun, verb)


async def operate(
    bus: Bus, verb: str, request: BaseModel, progress: type[BaseModel], result: type[BaseModel], noun: str = "image"
) -> object:
    """Carry out an operation and return its result."""
    async with bus.operate(subject(bus, noun, verb), request, progress, result, request_id=new_id()) as operation:
        async for _ in operation:
            pass
        return operation.result


async def pull(bus: Bus, reference: str, **wish: object) -> distribution.ImagePulled:
    """Pull an image."""
    request = distribution.ImagePull.model_validate({"reference": reference, **wish})
    result = await operate(bus, "pull", request, distribution.PullProgress, distribution.ImagePulled)
    assert isinstance(result, distribution.ImagePulled)
    return result


async def test_pull_of_all_platforms_lists_them(bus: Bus, registry: Registry) -> None:
    """The answer has every platform that was brought, and the image that runs here."""
    reference = registry.push(index([an_image("s", OTHER_ARCHITECTURE), an_image("t")]), "service/all:1")
    pulled = await pull(bus, reference, all_platforms=True)
    assert pulled.platforms == [OTHER_PLATFORM, str(default_platform())]
    assert pulled.image.platform == str(default_platform())


async def test_copy_and_referrers_are_answered(bus: Bus, registry: Registry) -> None:
    """An image and its signature are copied, and the signature is listed at the target."""
    image = an_image("u")
    signature = artifact("service signature", image.manifest)
    source = registry.push(image, "service/from:1")
    registry.push(signature, "service/from:signature")
    target = f"{registry.address}/service/to:1"
    copied = await operate(
        bus,
        "copy",
        images.ImageCopy(source=source, target=target),
        distribution.PushProgress,
        images.ImagePushed,
    )
    assert isinstance(copied, images.ImagePushed)
    assert (copied.digest, copied.mounted) == (image.manifest.digest, len(image.blobs))
    order = images.ImageCopy(
        source=f"{registry.address}/service/from:signature",
        target=f"{registry.address}/service/to@{signature.manifest.digest}",
    )
    await operate(bus, "copy", order, distribution.PushProgress, images.ImagePushed)
    asked = images.ImageReferrers(reference=target)
    found = await operate(bus, "referrers", asked, Empty, images.ImageReferrerList)
    assert isinstance(found, images.ImageReferrerList)
    assert found.subject == image.manifest.digest
    assert [entry.digest for entry in found.referrers] == [signature.manifest.digest]


async def test_verifier_of_the_settings_refuses_a_pull(bus: Bus, registry: Registry, tmp_path: Path) -> None:
    """A program in the directory of verifiers decides, also over the bus, and its reason is told."""
    reference = registry.push(an_image("v"), "service/verified:1")
    await pull(bus, reference)
    program = tmp_path / "verifiers" / "no"
    program.write_text("#!/bin/sh\necho unsigned\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(PermissionDenied) as raised:
        await pull(bus, reference)
    assert raised.value.cause == "unsigned"


async def test_login_is_kept_and_forgotten(bus: Bus, registry: Registry, tmp_path: Path) -> None:
    """A login goes to the file that Docker has it in, and goes away again."""
    request = images.RegistryLogin(host=f"http://{registry.address}/v2/", username="me", password="hunter2")
    kept = await operate(bus, "login", request, Empty, images.RegistryLoggedIn, noun="registry")
    assert isinstance(kept, images.RegistryLoggedIn)
    assert kept.host == registry.address
    file = tmp_path / "docker" / "config.json"
    assert list(json.loads(file.read_text())["auths"]) == [registry.address]
    for removed in (True, False):
        request_out = images.RegistryLogout(host=registry.address)
        answer = await bus.call(subject(bus, "registry", "logout"), request_out, images.RegistryLoggedOut)
        assert answer.removed is removed
    with pytest.raises(InvalidArgument):
        await bus.call(subject(bus, "registry", "logout"), images.RegistryLogout(host="x y"), images.RegistryLoggedOut)
