"""Requests that speak with registries beside pulls: sending, copying, asking about images, and logging in."""

from __future__ import annotations

from hythe.bus.endpoint import Context, Progress
from hythe.bus.service import Service
from hythe.holding import Holder
from hythe.reference import parse_reference
from hythe.wire import images as wire
from hythe_distribution.convert import platform_of, push_message, pushed_message
from hythe_distribution.copying import Copier, CopyOrder
from hythe_distribution.login import Logins
from hythe_distribution.push import Order, Pusher
from hythe_distribution.referrers import Referrers


class TransferHandlers:
    """Their endpoints."""

    def __init__(self, pusher: Pusher, copier: Copier, referrers: Referrers, logins: Logins, holder: Holder) -> None:
        self._pusher = pusher
        self._copier = copier
        self._referrers = referrers
        self._logins = logins
        self._holder = holder

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.operation("image", "push", wire.ImagePush, self.image_push, scope="any", abandoned="cancel")
        service.operation("image", "copy", wire.ImageCopy, self.image_copy, scope="any", abandoned="cancel")
        service.operation(
            "image", "referrers", wire.ImageReferrers, self.image_referrers, scope="any", abandoned="cancel"
        )
        service.operation("registry", "login", wire.RegistryLogin, self.registry_login, scope="any", abandoned="cancel")
        service.unary("registry", "logout", wire.RegistryLogout, self.registry_logout, scope="any")

    async def image_push(self, context: Context, request: wire.ImagePush, progress: Progress) -> wire.ImagePushed:
        """Answer ``image.push``."""
        order = Order(
            request.image,
            request.target,
            platform_of(request.platform),
            request.all_platforms,
            request.plain_http,
            request.referrers,
        )
        async with self._holder.hold(context.namespace, context.request_id) as held:
            pushed = await self._pusher.push(context.namespace, order, held, lambda news: progress(push_message(news)))
        return pushed_message(pushed)

    async def image_copy(self, context: Context, request: wire.ImageCopy, progress: Progress) -> wire.ImagePushed:
        """Answer ``image.copy``."""
        order = CopyOrder(
            parse_reference(request.source),
            parse_reference(request.target),
            platform_of(request.platform),
            request.all_platforms,
            request.source_plain_http,
            request.target_plain_http,
            request.referrers,
        )
        async with self._holder.hold(context.namespace, context.request_id) as held:
            copied = await self._copier.copy(context.namespace, order, held, lambda news: progress(push_message(news)))
        return pushed_message(copied)

    async def image_referrers(
        self, context: Context, request: wire.ImageReferrers, progress: Progress
    ) -> wire.ImageReferrerList:
        """Answer ``image.referrers``."""
        subject, found = await self._referrers.about(
            parse_reference(request.reference),
            platform_of(request.platform),
            request.plain_http,
            request.artifact_type,
        )
        return wire.ImageReferrerList(
            subject=str(subject),
            referrers=[
                wire.Referrer(
                    digest=str(entry.digest),
                    media_type=entry.media_type,
                    artifact_type=entry.artifact_type,
                    size_bytes=entry.size_bytes,
                    annotations=dict(entry.annotations),
                )
                for entry in found
            ],
        )

    async def registry_login(
        self, context: Context, request: wire.RegistryLogin, progress: Progress
    ) -> wire.RegistryLoggedIn:
        """Answer ``registry.login``."""
        kept = await self._logins.log_in(request.host, request.username, request.password, request.plain_http)
        return wire.RegistryLoggedIn(host=kept.host, kept_in=kept.kept_in)

    async def registry_logout(self, context: Context, request: wire.RegistryLogout) -> wire.RegistryLoggedOut:
        """Answer ``registry.logout``."""
        host, removed = await self._logins.log_out(request.host)
        return wire.RegistryLoggedOut(host=host, removed=removed)
