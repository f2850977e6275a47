"""Subject → store → reply, for namespaces and hosts, networks and volumes, and for those who watch."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hythe import tracing
from hythe.bus.endpoint import Context
from hythe.bus.service import Service
from hythe.ports.metadata import Origin
from hythe.wire import intents, records
from hythe.wire.base import Empty, ModelT
from hythe_metadata import hosts, namespaces, networks, volumes
from hythe_metadata.hosts_seen import FRESH_S, HostsSeen
from hythe_metadata.labelled import LabelWish, RemoveWish
from hythe_metadata.records import RecordStore
from hythe_metadata.watch import ChangesWish, Watch

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class NamespaceHandlers:
    """The endpoints of namespaces, and of those who watch."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._watch = Watch(store)

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.unary("namespace", "create", records.NamespaceCreate, self.create, scope="any")
        service.unary("namespace", "get", records.NamespaceGet, self.get, scope="any")
        service.unary("namespace", "list", records.NamespaceList, self.list, scope="any")
        service.unary("namespace", "label", records.NamespaceLabel, self.label, scope="any")
        service.unary("namespace", "remove", records.NamespaceRemove, self.remove, scope="any")
        service.unary("record", "changes", records.ChangesGet, self.changes, scope="any")

    async def create(self, context: Context, request: records.NamespaceCreate) -> records.NamespaceRecord:
        """``namespace.create``."""
        wish = namespaces.CreateWish(request.name, request.labels)
        return message(records.NamespaceRecord, await self._store.change(namespaces.create(origin_of(context), wish)))

    async def get(self, context: Context, request: records.NamespaceGet) -> records.NamespaceRecord:
        """``namespace.get``."""
        return message(records.NamespaceRecord, await self._store.read(namespaces.get(request.name)))

    async def list(self, context: Context, request: records.NamespaceList) -> records.NamespacePage:
        """``namespace.list``."""
        page = await self._store.read(namespaces.list_all(request.after, request.limit, request.filters))
        found = [message(records.NamespaceRecord, record) for record in page.records]
        return records.NamespacePage(namespaces=found, next=page.next)

    async def label(self, context: Context, request: records.NamespaceLabel) -> records.NamespaceRecord:
        """``namespace.label``."""
        work = namespaces.label(origin_of(context), label_wish(request))
        return message(records.NamespaceRecord, await self._store.change(work))

    async def remove(self, context: Context, request: records.NamespaceRemove) -> Empty:
        """``namespace.remove``."""
        await self._store.change(namespaces.remove(origin_of(context), remove_wish(request)))
        return Empty()

    async def changes(self, context: Context, request: records.ChangesGet) -> records.ChangesPage:
        """``record.changes``."""
        wish = ChangesWish(request.after, request.era, request.limit, request.wait_s, frozenset(request.kinds))
        found = await self._watch.changes(wish)
        changes = [
            records.RecordChange(
                revision=change.revision,
                kind=change.key.kind,
                namespace=change.key.namespace,
                name=change.key.name,
                deleted=change.deleted,
            )
            for change in found.changes
        ]
        return records.ChangesPage(changes=changes, revision=found.revision, era=found.era)


class HostHandlers:
    """The endpoints of hosts."""

    def __init__(self, store: RecordStore, seen: HostsSeen) -> None:
        self._store = store
        self._seen = seen

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.unary("host", "register", records.HostRegister, self.register_host, scope="any")
        service.unary("host", "get", records.HostGet, self.get, scope="any")
        service.unary("host", "list", records.HostList, self.list, scope="any")
        service.unary("host", "label", records.HostLabel, self.label, scope="any")
        service.unary("host", "remove", records.HostRemove, self.remove, scope="any")

    async def register_host(self, context: Context, request: records.HostRegister) -> records.HostRecord:
        """``host.register``."""
        wish = hosts.RegisterWish(**request.model_dump())
        return self._message(await self._store.change(hosts.register(wish, self._seen)))

    async def get(self, context: Context, request: records.HostGet) -> records.HostRecord:
        """``host.get``."""
        return self._message(await self._store.read(hosts.get(request.name)))

    async def list(self, context: Context, request: records.HostList) -> records.HostPage:
        """``host.list``."""
        page = await self._store.read(hosts.list_all(request.after, request.limit, request.filters))
        return records.HostPage(hosts=[self._message(record) for record in page.records], next=page.next)

    async def label(self, context: Context, request: records.HostLabel) -> records.HostRecord:
        """``host.label``."""
        return self._message(await self._store.change(hosts.label(origin_of(context), label_wish(request))))

    async def remove(self, context: Context, request: records.HostRemove) -> Empty:
        """``host.remove``."""
        await self._store.change(hosts.remove(origin_of(context), remove_wish(request), self._seen))
        return Empty()

    def _message(self, record: hosts.HostRecord) -> records.HostRecord:
        return message(records.HostRecord, record, alive=self._seen.silent_s(record.name) <= FRESH_S)


class IntentHandlers:
    """The endpoints of networks and volumes."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store

    def register(self, service: Service) -> None:
        """Add all endpoints to `service`."""
        service.unary("network", "create", intents.NetworkCreate, self.network_create, scope="any")
        service.unary("network", "get", intents.NetworkGet, self.network_get, scope="any")
        service.unary("network", "list", intents.NetworkList, self.network_list, scope="any")
        service.unary("network", "label", intents.NetworkLabel, self.network_label, scope="any")
        service.unary("network", "remove", intents.NetworkRemove, self.network_remove, scope="any")
        service.unary("volume", "record", intents.VolumeRecordPut, self.volume_record, scope="any")
        service.unary("volume", "get", intents.VolumeRecordGet, self.volume_get, scope="any")
        service.unary("volume", "list", intents.VolumeRecordList, self.volume_list, scope="any")
        service.unary("volume", "label", intents.VolumeRecordLabel, self.volume_label, scope="any")
        service.unary("volume", "remove", intents.VolumeRecordRemove, self.volume_remove, scope="any")

    async def network_create(self, context: Context, request: intents.NetworkCreate) -> intents.NetworkRecord:
        """``network.create``."""
        wish = networks.NetworkWish(**request.model_dump())
        return message(intents.NetworkRecord, await self._store.change(networks.create(origin_of(context), wish)))

    async def network_get(self, context: Context, request: intents.NetworkGet) -> intents.NetworkRecord:
        """``network.get``."""
        return message(intents.NetworkRecord, await self._store.read(networks.get(request.name)))

    async def network_list(self, context: Context, request: intents.NetworkList) -> intents.NetworkPage:
        """``network.list``."""
        page = await self._store.read(networks.list_all(request.after, request.limit, request.filters))
        found = [message(intents.NetworkRecord, record) for record in page.records]
        return intents.NetworkPage(networks=found, next=page.next)

    async def network_label(self, context: Context, request: intents.NetworkLabel) -> intents.NetworkRecord:
        """``network.label``."""
        work = networks.label(origin_of(context), label_wish(request))
        return message(intents.NetworkRecord, await self._store.change(work))

    async def network_remove(self, context: Context, request: intents.NetworkRemove) -> Empty:
        """``network.remove``."""
        await self._store.change(networks.remove(origin_of(context), remove_wish(request)))
        return Empty()

    async def volume_record(self, context: Context, request: intents.VolumeRecordPut) -> intents.VolumeRecord:
        """``volume.record``."""
        wish = volumes.VolumeWish(**request.model_dump())
        return message(intents.VolumeRecord, await self._store.change(volumes.record(origin_of(context), wish)))

    async def volume_get(self, context: Context, request: intents.VolumeRecordGet) -> intents.VolumeRecord:
        """``volume.get``."""
        return message(intents.VolumeRecord, await self._store.read(volumes.get(context.namespace, request.name)))

    async def volume_list(self, context: Context, request: intents.VolumeRecordList) -> intents.VolumeRecordPage:
        """``volume.list``."""
        listed = volumes.list_all(context.namespace, request.after, request.limit, request.filters)
        page = await self._store.read(listed)
        found = [message(intents.VolumeRecord, record) for record in page.records]
        return intents.VolumeRecordPage(volumes=found, next=page.next)

    async def volume_label(self, context: Context, request: intents.VolumeRecordLabel) -> intents.VolumeRecord:
        """``volume.label``."""
        work = volumes.label(origin_of(context), label_wish(request))
        return message(intents.VolumeRecord, await self._store.change(work))

    async def volume_remove(self, context: Context, request: intents.VolumeRecordRemove) -> Empty:
        """``volume.remove``."""
        await self._store.change(volumes.remove(origin_of(context), remove_wish(request)))
        return Empty()


def message(model: type[ModelT], record: DataclassInstance, **more: Any) -> ModelT:
    """Return the message form of a record, whose fields have the same names."""
    return model.model_validate({**asdict(record), **more})


def origin_of(context: Context) -> Origin:
    """Return who asks, as far as it can be believed."""
    caller = context.asker.caller or context.caller  # who asked first, where a service asks for somebody
    return Origin(context.namespace, caller, context.request_id, tracing.trace_id())


def label_wish(
    request: records.NamespaceLabel | records.HostLabel | intents.NetworkLabel | intents.VolumeRecordLabel,
) -> LabelWish:
    """Return the wish of a request for labels."""
    return LabelWish(request.name, request.labels, request.if_revision)


def remove_wish(
    request: records.NamespaceRemove | records.HostRemove | intents.NetworkRemove | intents.VolumeRecordRemove,
) -> RemoveWish:
    """Return the wish of a request that a record shall go."""
    return RemoveWish(request.name, request.if_revision)
