"""How the Redis body writes things down: its keys, and records, references, index entries and events as text.

All keys have one hash tag, so they lie together. Parts of a text are joined by ``\\0``, texts of a list by ``\\1``, lists by
``\\2``; none of them may be in a name. The bytes of a record's key sort as (kind, namespace, name) do, which is what ranges of
records rest on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from hythe.errors import InvalidArgument
from hythe.ports.events import OutgoingEvent
from hythe.ports.metadata import Origin
from hythe_metadata.changes import Happening
from hythe_metadata.overlay import IndexKey
from hythe_metadata.records import INTERNAL_KINDS, Change, Edge, Key, Stored

SCHEMA = 1
MAGIC = "hythe-metadata"
KEY_NAMES = (
    "store",  # hash: magic, schema, id, era, revision, mark (names the last batch), sequence of the outbox, floor, moved
    "body",  # hash by record: revision, newline, body
    "bulk",  # hash by record
    "unique",  # hash by record: its entries in the unique indexes
    "edges",  # hash by record: its references
    "names",  # sorted set of all records, by their bytes
    "index",  # hash by entry of a unique index: record
    "occupants",  # hash by namespace and kind: how many records
    "due",  # sorted set of records that may be forgotten, by the server's time in ms
    "log",  # stream, one entry for each revision: what changed
    "numbers",  # hash by object: number of its last event
    "ages",  # sorted set of those objects, by the server's time of that event in ms
    "outbox",  # stream of events that aren't sent
    "batches",  # hash by process: its last batch that was carried out, and when
    "turn",  # which process writes next, advisory
    "sender",  # which process sends events
)
CHANNEL_NAME = "changed"
"""Channel on which each change is told, with the process that made it."""
_PUT, _DELETED, _INTERNAL_PUT, _INTERNAL_DELETED = "P", "D", "p", "d"


def keys_of(prefix: str) -> tuple[str, ...]:
    """Return all keys of the store under `prefix`."""
    return tuple(f"{{hythe:{prefix}}}:{name}" for name in KEY_NAMES)


def channel_of(prefix: str) -> str:
    """Return the channel of the store under `prefix`."""
    return f"{{hythe:{prefix}}}:{CHANNEL_NAME}"


def joined(*parts: str) -> str:
    """Return parts of a name as one text.

    Raises:
        InvalidArgument: a part has a character that joins parts or texts.
    """
    text = "\0".join(parts)
    if "\1" in text or "\2" in text or text.count("\0") != len(parts) - 1:
        raise InvalidArgument(f"use metadata store: {text[:100]!r} has a control character that no name may have")
    return text


def key_text(key: Key) -> str:
    """Return the key of a record as text."""
    return joined(key.kind, key.namespace, key.name)


def key_from(text: str) -> Key:
    """Return the key of a record that `key_text` wrote."""
    return Key(*text.split("\0"))


def place_text(key: Key) -> str:
    """Return where a record counts among the occupants; empty for an internal one."""
    return "" if key.kind in INTERNAL_KINDS else joined(key.namespace, key.kind)


def index_text(entry: IndexKey) -> str:
    """Return an entry of a unique index as text."""
    return joined(*entry)


def index_texts(entries: Iterable[IndexKey]) -> str:
    """Return entries of unique indexes as one text."""
    return "\1".join(map(index_text, entries))


def index_from(text: str) -> frozenset[IndexKey]:
    """Return entries that `index_texts` wrote."""
    return frozenset((index, namespace, value) for index, namespace, value in (t.split("\0") for t in _list(text)))


def edges_text(edges: Iterable[Edge]) -> str:
    """Return references as one text."""
    return "\1".join(joined(edge.kind, edge.name, edge.via) for edge in edges)


def edges_from(text: str) -> list[Edge]:
    """Return references that `edges_text` wrote."""
    return [Edge(*edge.split("\0")) for edge in _list(text)]


def body_text(stored: Stored) -> str:
    """Return revision and body of a record as one text."""
    return f"{stored.revision}\n{stored.body}"


def stored_from(key: Key, body: str, bulk: str) -> Stored:
    """Return a record from what `body_text` wrote and its bulk."""
    revision, _, text = body.partition("\n")
    return Stored(key, int(revision), text, bulk)


def change_text(key: Key, *, deleted: bool) -> str:
    """Return an entry of the log of changes as text."""
    if key.kind in INTERNAL_KINDS:
        return (_INTERNAL_DELETED if deleted else _INTERNAL_PUT) + key_text(key)
    return (_DELETED if deleted else _PUT) + key_text(key)


def changes_from(revision: int, text: str) -> Iterator[Change]:
    """Yield what the log says of one revision, internal records left out."""
    for entry in _list(text):
        if entry[0] in (_PUT, _DELETED):
            yield Change(revision, key_from(entry[1:]), deleted=entry[0] == _DELETED)


def changed_keys(text: str) -> Iterator[Key]:
    """Yield all records that the log names for one revision, internal and forgotten ones too."""
    return (key_from(entry[1:]) for entry in _list(text))


def object_text(origin: Origin, happening: Happening) -> str:
    """Return by what events are numbered, as text."""
    return joined(origin.namespace, happening.noun, happening.object_id)


def event_text(origin: Origin, happening: Happening | OutgoingEvent, time: str) -> str:
    """Return an event, but for its number and its sequence, as text."""
    parts = (
        *(origin.namespace, happening.noun, happening.object_id, happening.past, happening.topic, time),
        *(origin.caller, origin.request_id, origin.trace_id, dict(happening.attributes)),
    )
    return json.dumps(parts, separators=(",", ":"))


def event_from(sequence: int, number: int, text: str) -> OutgoingEvent:
    """Return an event that `event_text` wrote."""
    namespace, noun, object_id, past, topic, time, caller, request_id, trace_id, attributes = json.loads(text)
    return OutgoingEvent(
        *(sequence, namespace, noun, object_id, past, topic, number, time, caller, request_id, trace_id, attributes)
    )


def stream_fields(entry: Sequence[bytes | list[bytes]]) -> tuple[int, dict[bytes, bytes]]:
    """Return the first part of the id and the fields of an entry of a stream."""
    place, flat = entry
    assert isinstance(place, bytes)
    assert isinstance(flat, list)
    return int(place.partition(b"-")[0]), dict(zip(flat[::2], flat[1::2], strict=True))


def unpacked(lengths: bytes, data: bytes) -> Iterator[str]:
    """Yield the texts that the server packed into their lengths, in bytes, and one text."""
    whole = data.decode()
    start = 0
    if len(whole) == len(data):  # one byte each
        for length in map(int, lengths.split()):
            yield whole[start : start + length]
            start += length
    else:
        for length in map(int, lengths.split()):
            yield data[start : start + length].decode()
            start += length


def separated(data: bytes) -> list[str]:
    """Return the texts that the server joined by a character that is in none of them."""
    return data.decode().split("\2") if data else []


def _list(text: str) -> list[str]:
    return text.split("\1") if text else []
