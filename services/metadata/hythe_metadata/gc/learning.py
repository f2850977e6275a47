"""Bringing up to date what metadata knows of an owner's content: what changed there since the last time."""

from __future__ import annotations

from hythe import tracing
from hythe.errors import OutOfRange
from hythe_metadata import contents
from hythe_metadata.gc.owners import Owners
from hythe_metadata.gc.parties import SHARED, Parties, Party, forget_stores
from hythe_metadata.records import Key, RecordStore

PAGE = 500
"""Changes that are written in one transaction."""
FOREVER = 2**63 - 1
"""Higher than any sequence of an owner."""


async def learn_all(owners: Owners, store: RecordStore, parties: Parties) -> dict[str, int]:
    """Ask every owner of content that is there, a shared store once; return up to which sequence each holder is known now.

    Who can't tell isn't there any more for the rest of the collection.
    """
    known: dict[str, int] = {}
    for party in parties.distribution.values():
        if party.there and (holder := parties.holder(party.host)) not in known:
            with tracing.span("gc learn", hythe__host=party.host) as span, party.asked():
                known[holder] = await _learn(owners, store, party, holder)
                span.set("hythe.sequence", known[holder])
    return known


async def forget_removed(store: RecordStore, parties: Parties) -> None:
    """Forget what hosts had that were removed from the records: they may never come back to tell that it is gone.

    A shared store is forgotten when no host uses it any more, and each has been heard to use another.
    """
    hosts = set(parties.distribution)
    used = {f"{SHARED}{shared}" for shared in parties.stores.values()}
    removed = [
        holder
        for holder in await store.read(contents.owners)
        if holder not in hosts
        and holder not in used
        and not (holder.startswith(SHARED) and hosts - set(parties.stores))
    ]
    for holder in removed:
        keys = await store.read(contents.held_by(holder, FOREVER))
        for start in range(0, len(keys), PAGE):
            await store.change(contents.unhold(holder, keys[start : start + PAGE], FOREVER))
        await store.change(contents.forget_owner(holder))
    if removed:
        await store.change(forget_stores(sorted(hosts)))


async def _learn(owners: Owners, store: RecordStore, party: Party, holder: str) -> int:
    before = after = await store.read(contents.known(holder))
    try:
        page = await owners.content(party.host, after, PAGE)
    except OutOfRange:
        return await _learn_anew(owners, store, party, holder, before)
    while True:
        if page.told or page.next != after:
            await store.change(contents.learn(holder, page.told, page.next))
        after = page.next
        if not page.more:
            return after
        page = await owners.content(party.host, after, PAGE)


async def _learn_anew(owners: Owners, store: RecordStore, party: Party, holder: str, before: int) -> int:
    """Learn all that an owner has, and that it hasn't what it doesn't tell of."""
    stale = set(await store.read(contents.held_by(holder, before)))
    after, more = 0, True
    while more:
        page = await owners.content(party.host, after, PAGE)
        await store.change(contents.learn(holder, page.told, page.next, anew=True))
        stale -= {Key(contents.KIND, told.namespace, told.digest) for told in page.told if not told.gone}
        after, more = page.next, page.more
    gone = sorted(stale)
    for start in range(0, len(gone), PAGE):
        await store.change(contents.unhold(holder, gone[start : start + PAGE], before))
    return after
