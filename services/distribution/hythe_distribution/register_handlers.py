"""``image.register``: an image whose blobs somebody put into this host's content gets its name."""

from __future__ import annotations

from hythe.bus.endpoint import Context
from hythe.bus.service import Service
from hythe.digest import parse_digest
from hythe.holding import Holder
from hythe.oci import Descriptor
from hythe.reference import parse_reference
from hythe.wire import images as wire
from hythe_distribution.catalogue_handlers import summary_message
from hythe_distribution.registering import Registrar


class RegisterHandlers:
    """The endpoint."""

    def __init__(self, registrar: Registrar, holder: Holder) -> None:
        self._registrar = registrar
        self._holder = holder

    def register(self, service: Service) -> None:
        """Add it to `service`."""
        service.unary("image", "register", wire.ImageRegister, self.image_register, scope="host")

    async def image_register(self, context: Context, request: wire.ImageRegister) -> wire.ImageSummary:
        """Answer ``image.register``."""
        wanted = request.target
        target = Descriptor(wanted.media_type, parse_digest(wanted.digest), wanted.size_bytes)
        reference = parse_reference(request.reference)
        async with self._holder.hold(context.namespace, context.request_id) as held:
            return summary_message(await self._registrar.register(context.namespace, reference, target, held))
