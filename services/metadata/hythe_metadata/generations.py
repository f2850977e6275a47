"""How often collections have begun in this store: owners of content and snapshots refuse one that is older."""

from __future__ import annotations

from hythe_metadata.records import NO_NAMESPACE, Key, Transaction, View

_KEY = Key("gc", NO_NAMESPACE, "generation")


def generation(view: View) -> int:
    """Return the generation of the collection that began last, 0 for none."""
    stored = view.get(_KEY)
    return int(stored.body) if stored else 0


def begin(transaction: Transaction) -> int:
    """Begin a collection: return its generation, one that no other had or will have."""
    begun = generation(transaction) + 1
    transaction.put(_KEY, str(begun))
    return begun
