"""How the command line reads an error that a service sent; the fields are those of `hythe.wire.problem`."""

from __future__ import annotations

import json

from hythe.errors import BY_CODE, HytheError, Internal

TEXT_FIELDS = ("phase", "host", "cause", "next_step", "trace_id", "service")
OUTCOMES = ("not started", "done", "failed", "unknown")


def decode(data: bytes) -> HytheError:
    """Return the error that `data` spells; what cannot be read becomes Internal with an unknown outcome.

    Reads the same messages to the same errors as `hythe.wire.problem.from_problem`, without pydantic.
    """
    try:
        fields = json.loads(data)
        texts = {name: fields.get(name, "") for name in (*TEXT_FIELDS, "code", "message")}
        details = fields.get("details", {})
        outcome = fields.get("outcome", "unknown")
        whole = fields["code"] and all(isinstance(value, str) for value in (*texts.values(), *details.values()))
        if not whole or "message" not in fields or outcome not in OUTCOMES:
            raise ValueError("a field is missing or has another type")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Internal("read an error reply: not understood", cause=str(error), outcome="unknown")
    kind = BY_CODE.get(texts.pop("code"), Internal)
    return kind(texts.pop("message"), outcome=outcome, details=details, **texts)
