"""Field masks: which fields of a record an update means.

Spec: containerd, ``UpdateImageRequest.update_mask``, ``UpdateContainerRequest.update_mask``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hythe.errors import InvalidArgument

TARGET = "target"
_PREFIX = "labels."


def check_fields(fields: Sequence[str], *others: str) -> None:
    """Return if each of `fields` is ``labels``, ``labels.<key>`` or one of `others`.

    Raises:
        InvalidArgument: one is something else.
    """
    for field in fields:
        label = field == "labels" or (field.startswith(_PREFIX) and field != _PREFIX)
        if not label and field not in others:
            known = " or ".join(f"`{name}`" for name in ("labels", "labels.<key>", *others))
            raise InvalidArgument(f"update fields: {field[:100]!r} can't be updated", next_step=f"name {known}")


def changed_labels(present: Mapping[str, str], wanted: Mapping[str, str], fields: Sequence[str]) -> dict[str, str]:
    """Return labels after an update: with ``labels`` those wanted take the place of all, with ``labels.<key>`` of that one.

    A label that a mask names and that isn't wanted, or is empty, is gone. Other fields are nothing to labels.
    """
    labels = dict(present)
    for field in fields:
        if field == "labels":
            labels = dict(wanted)
        elif field.startswith(_PREFIX):
            key = field.removeprefix(_PREFIX)
            labels[key] = wanted.get(key, "")
    return {key: value for key, value in labels.items() if value}
