"""Who takes part in a collection: the owners of each known host, how far each has come, and what its absence forbids."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from hythe import tracing
from hythe.errors import DeadlineExceeded, HytheError, Unavailable
from hythe.gc_trust import StoreMark
from hythe_metadata.gc.owners import Begun, Owners, Sweep
from hythe_metadata.gc.report import OwnerReport
from hythe_metadata.records import NO_NAMESPACE, Key, Read, RecordStore, Transaction, View, Work

SHARED = "shared:"


@dataclass(slots=True)
class Party:
    """An owner on a host in a collection; `begun` is None until it has answered."""

    report: OwnerReport
    begun: Begun | None = None
    failed: bool = False

    @property
    def host(self) -> str:
        """Name of its host."""
        return self.report.host

    @property
    def there(self) -> bool:
        """Whether it has begun, and answered whatever it was asked since."""
        return self.begun is not None and not self.failed

    def sweep(self, generation: int, *, dry_run: bool) -> Sweep:
        """Return what its sweeps belong to."""
        assert self.begun is not None
        return Sweep(generation, self.begun.instance, dry_run or not self.begun.trusted)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Run a block that asks it something; an error ends its part in the collection, and goes no further."""
        try:
            yield
        except HytheError as error:
            self.failed = True
            away = isinstance(error, Unavailable | DeadlineExceeded)
            self.report.fail("unreachable" if away else "refused", error.message)


@dataclass(slots=True)
class Parties:
    """The owners of all hosts. `stores`: the shared content store that each host is known to use, empty for one of its own."""

    distribution: dict[str, Party] = field(default_factory=dict)
    bundle: dict[str, Party] = field(default_factory=dict)
    stores: dict[str, str] = field(default_factory=dict)

    def all(self) -> Iterable[Party]:
        """Return everyone, by host."""
        return sorted(
            (*self.distribution.values(), *self.bundle.values()), key=lambda party: (party.host, party.report.owner)
        )

    def holder(self, host: str) -> str:
        """Return the name that the content of a host has in metadata's hints: that of the host, or of a shared store."""
        party = self.distribution[host]
        assert party.begun is not None
        return f"{SHARED}{party.begun.shared}" if party.begun.shared else host

    def sharers(self, holder: str) -> list[Party]:
        """Return those of whom content is swept: one host, or all that use a shared store, as far as they are there."""
        return [party for host, party in self.distribution.items() if party.there and self.holder(host) == holder]

    def keeps_content(self, holder: str) -> str:
        """Return why nothing of a content store may be swept, empty if it may.

        What a silent host uses of it isn't known: neither what its operations have looked at, nor what its snapshots refer to.
        A bundle that doesn't trust this store keeps all its snapshots, and so what they refer to.
        """
        if not holder.startswith(SHARED):
            return self._silent(holder)
        store = holder.removeprefix(SHARED)
        for host in self.distribution:
            if self.stores.get(host, store) == store and (reason := self._silent(host)):
                return f"{reason}, which shares this store"
        return ""

    def _silent(self, host: str) -> str:
        for owner, party in (("distribution", self.distribution.get(host)), ("bundle", self.bundle.get(host))):
            if party is None or not party.there:
                return f"no answer of {owner} on {host}"
        begun = self.bundle[host].begun
        return f"bundle on {host} doesn't trust this store" if begun is not None and not begun.trusted else ""


async def begin(owners: Owners, store: RecordStore, hosts: Sequence[str], mark: StoreMark, *, confirm: bool) -> Parties:
    """Begin a collection at all owners at once; with `confirm` those that don't trust the store are told to."""
    parties = Parties()
    for host in hosts:
        parties.distribution[host] = Party(OwnerReport(host, "distribution"))
        parties.bundle[host] = Party(OwnerReport(host, "bundle"))
    with tracing.span("gc begin", hythe__hosts=len(hosts)):
        await asyncio.gather(*(_begin(owners, party, mark, confirm=confirm) for party in parties.all()))
    parties.stores = await store.read(known_stores(hosts))
    told = {host: party.begun.shared for host, party in parties.distribution.items() if party.begun is not None}
    changed = {host: shared for host, shared in told.items() if parties.stores.get(host) != shared}
    if changed:
        await store.change(_note_stores(changed))
        parties.stores.update(changed)
    return parties


async def _begin(owners: Owners, party: Party, mark: StoreMark, *, confirm: bool) -> None:
    host, owner = party.host, party.report.owner
    with party.asked():
        begun = await owners.begin(host, owner, mark)
        if confirm and not begun.trusted:
            await owners.trust(host, owner, mark)
            begun = await owners.begin(host, owner, mark)
        party.begun = begun
        if not begun.trusted:
            party.report.state, party.report.reason = "untrusted", begun.reason


def known_hosts(view: View) -> list[str]:
    """Return the names of all hosts that have registered."""
    return [stored.key.name for stored in view.scan("host", NO_NAMESPACE)]


def known_stores(hosts: Sequence[str]) -> Read[dict[str, str]]:
    """Return what reads which content store each host was heard to use; those that were never heard are missing."""

    def read(view: View) -> dict[str, str]:
        found = {host: view.get(_store_key(host)) for host in hosts}
        return {host: stored.body for host, stored in found.items() if stored is not None}

    return read


def forget_stores(hosts: Sequence[str]) -> Work[None]:
    """Forget which content store each host was heard to use that isn't one of `hosts` any more."""
    kept = {_store_key(host) for host in hosts}

    def work(transaction: Transaction) -> None:
        for stored in list(transaction.scan("gc", NO_NAMESPACE, prefix=_store_key("").name)):
            if stored.key not in kept:
                transaction.delete(stored.key)

    return work


def _note_stores(stores: dict[str, str]) -> Work[None]:
    def work(transaction: Transaction) -> None:
        for host, shared in stores.items():
            transaction.put(_store_key(host), shared)

    return work


def _store_key(host: str) -> Key:
    return Key("gc", NO_NAMESPACE, f"store {host}")
