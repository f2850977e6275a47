"""The closed set of errors that Hythe raises, sends over the bus and shows to people."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # the command line pays for each import, also for that of typing
    from typing import ClassVar, Literal

    Outcome = Literal["not started", "done", "failed", "unknown"]


class HytheError(Exception):
    """Base of the closed error set; never raised itself.

    Every field travels over the bus (`hythe.wire.problem`) and is shown by the command line.

    Attributes:
        message: the step that failed and its object, e.g. ``commit ingest layer-3: expected 1024 bytes, got 1000``.
        phase: name of the step, e.g. ``runc create``; empty when the message says it all.
        host: host or process where it happened; empty when unknown.
        cause: text of the foreign error underneath, e.g. runc's own message.
        outcome: what is known about the effect of the request.
        next_step: what the user can do about it.
        trace_id: 32 hex digits, or empty.
        service: the service that failed or did not answer; empty when not about a service.
        details: small machine-readable facts (string to string), e.g. ``{"kind": "image"}``.
    """

    code: ClassVar[str] = "Internal"
    number: ClassVar[int] = 500
    grpc: ClassVar[int] = 13
    retryable: ClassVar[bool] = False
    default_outcome: ClassVar[Outcome] = "failed"

    def __init__(
        self,
        message: str,
        *,
        phase: str = "",
        host: str = "",
        cause: str = "",
        outcome: Outcome | None = None,
        next_step: str = "",
        trace_id: str = "",
        service: str = "",
        details: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.phase = phase
        self.host = host
        self.cause = cause
        self.outcome: Outcome = outcome or self.default_outcome
        self.next_step = next_step
        self.trace_id = trace_id
        self.service = service
        self.details = dict(details or {})

    @property
    def whole(self) -> str:
        """The message with its cause, in one line of text: what a span or a log says of it."""
        return f"{self.message}: {self.cause}" if self.cause else self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, phase={self.phase!r}, cause={self.cause!r})"


class InvalidArgument(HytheError):
    """The request itself is wrong, whatever the state of the system."""

    code, number, grpc = "InvalidArgument", 400, 3
    default_outcome = "not started"


class Unauthenticated(HytheError):
    """The other side does not know who asks."""

    code, number, grpc = "Unauthenticated", 401, 16
    default_outcome = "not started"


class PermissionDenied(HytheError):
    """The caller is known and may not do this."""

    code, number, grpc = "PermissionDenied", 403, 7
    default_outcome = "not started"


class NotFound(HytheError):
    """A thing that the request names does not exist."""

    code, number, grpc = "NotFound", 404, 5
    default_outcome = "not started"


class AlreadyExists(HytheError):
    """A thing of that name exists and was made by another request."""

    code, number, grpc = "AlreadyExists", 409, 6
    default_outcome = "not started"


class FailedPrecondition(HytheError):
    """The state of the system does not allow this now; a retry alone will not help."""

    code, number, grpc = "FailedPrecondition", 412, 9
    default_outcome = "not started"


class OutOfRange(HytheError):
    """An offset or size lies beyond the object."""

    code, number, grpc = "OutOfRange", 416, 11
    default_outcome = "not started"


class Conflict(HytheError):
    """Somebody else changed the record first, or the same request id came with another body."""

    code, number, grpc, retryable = "Conflict", 419, 10, True
    default_outcome = "not started"


class ResourceExhausted(HytheError):
    """Disk, memory or a limit is used up."""

    code, number, grpc = "ResourceExhausted", 429, 8


class DeadlineExceeded(HytheError):
    """No answer in time: whether the request took effect is unknown unless said otherwise."""

    code, number, grpc, retryable = "DeadlineExceeded", 504, 4, True
    default_outcome = "unknown"


class Unavailable(HytheError):
    """A service or server that is needed is not there now; nothing was executed."""

    code, number, grpc, retryable = "Unavailable", 503, 14, True
    default_outcome = "not started"


class Unimplemented(HytheError):
    """The operation is known and not offered here."""

    code, number, grpc = "Unimplemented", 501, 12
    default_outcome = "not started"


class DataLoss(HytheError):
    """Bytes do not match what was promised: a digest, a size, a checksum."""

    code, number, grpc = "DataLoss", 520, 15


class Internal(HytheError):
    """A fault of Hythe itself; the log of the service has the cause."""

    code, number, grpc = "Internal", 500, 13


ALL: tuple[type[HytheError], ...] = (
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    OutOfRange,
    Conflict,
    ResourceExhausted,
    DeadlineExceeded,
    Unavailable,
    Unimplemented,
    DataLoss,
    Internal,
)
BY_CODE: dict[str, type[HytheError]] = {cls.code: cls for cls in ALL}
