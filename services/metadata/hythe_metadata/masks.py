"""Field masks: which fields of a record an update means.

Spec: containerd, ``UpdateImageRequest.update_mask``, ``UpdateContainerRequest.update_mask``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hythe.errors import InvalidArgument

_PREFIX = "labels."


def changed_labels(present: Mapping[str, str], wanted: Mapping[str, str], fields: Sequence[str]) -> dict[str, str]:
    """Return labels after an update: with ``labels`` those wanted take the place of all, with ``labels.<key>`` of that one.

    A label that a mask names and that isn't wanted, or is empty, is gone.

    Raises:
        InvalidArgument: a field isn't one that can be updated.
    """
    labels = dict(present)
    for field in fields:
        if field == "labels":
            labels = dict(wanted)
        elif field.startswith(_PREFIX) and field != _PREFIX:
            key = field.removeprefix(_PREFIX)
            labels[key] = wanted.get(key, "")
        else:
            raise InvalidArgument(
                f"update fields: {field[:100]!r} can't be updated", next_step="name `labels` or `labels.<key>`"
            )
    return {key: value for key, value in labels.items() if value}
