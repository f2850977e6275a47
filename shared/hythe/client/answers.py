"""What a reply means: a result, a service's error, nobody there, or silence."""

from __future__ import annotations

import json

from hythe import subjects
from hythe.client.problem import decode
from hythe.errors import DataLoss, DeadlineExceeded, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hythe.client.protocol import Frame

ERROR_HEADER = "nats-service-error"


def read_answer(frame: Frame, subject: str) -> dict[str, Any]:
    """Return the result that a service's last message holds, or raise the error that it holds."""
    if ERROR_HEADER in frame.headers:
        raise decode(frame.data)
    try:
        answer = json.loads(frame.data)
    except ValueError as error:
        raise DataLoss(
            f"read the answer of {kind_of(subject)}: not understood", cause=str(error), outcome="unknown"
        ) from error
    if not isinstance(answer, dict):
        raise DataLoss(f"read the answer of {kind_of(subject)}: not an object", outcome="unknown")
    return answer


def kind_of(subject: str) -> str:
    """Return ``service.noun.verb`` of a request's subject, or any other subject as it is."""
    parts = subject.split(".")
    return ".".join(parts[5:]) if subject.startswith(subjects.PREFIX) and len(parts) == 8 else subject


def service_of(subject: str) -> str:
    """Return the service that a request's subject addresses."""
    return kind_of(subject).partition(".")[0] if subject.startswith(subjects.PREFIX) else "nats-server"


def no_answer(subject: str, waited_s: float, service: str = "") -> DeadlineExceeded:
    """Return the error for silence: whether the request took effect is unknown."""
    service = service or service_of(subject)
    return DeadlineExceeded(
        f"ask {kind_of(subject)}: {service} did not answer within {waited_s:.1f} s",
        service=service,
        next_step=f"`hythe status` shows whether {service} runs; `hythe logs --service {service}` what it says",
    )


def not_running(subject: str, service: str = "") -> Unavailable:
    """Return the error for a request that nobody listens to: it was not executed."""
    service = service or service_of(subject)
    return Unavailable(
        f"ask {kind_of(subject)}: {service} is not running on this stack",
        service=service,
        next_step="`hythe status` shows the processes; `hythe up` starts what is missing",
    )
