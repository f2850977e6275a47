"""What a reader of a stream works with: what the stream holds, its messages, gaps in them, and how long to wait."""

from __future__ import annotations

from hythe.client.jetstream import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hythe.client.protocol import Frame
    from hythe.client.sync_bus import SyncBus


class State:
    """What a stream holds: its first and last sequence, and the server's time of the first, RFC 3339.

    An empty stream has a `first` beyond its `last`.
    """

    __slots__ = ("first", "first_time", "last")

    def __init__(self, first: int, last: int, first_time: str) -> None:
        self.first = first
        self.last = last
        self.first_time = first_time


class Message:
    """One message of a stream; `stored_ns` is the server's time, in nanoseconds since 1970."""

    __slots__ = ("data", "sequence", "stored_ns", "subject")

    def __init__(self, sequence: int, stored_ns: int, subject: str, data: bytes) -> None:
        self.sequence = sequence
        self.stored_ns = stored_ns
        self.subject = subject
        self.data = data


class Gap:
    """Sequences that the stream has no longer, or that were never read: `first` to `last`, both included."""

    __slots__ = ("first", "last")

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last

    def __repr__(self) -> str:
        return f"Gap({self.first}..{self.last})"


def state_of(bus: SyncBus, stream: str) -> State:
    """Return what `stream` holds now.

    Raises:
        NotFound: there is no such stream.
        HytheError: the server does not answer.
    """
    found = api(bus, f"STREAM.INFO.{stream}", {})["state"]
    first, last = int(found["first_seq"]), int(found["last_seq"])
    return State(first if found["messages"] else last + 1, last, str(found["first_ts"]))


class Timing:
    """How long a reader waits.

    Attributes:
        pull_s: one request for more; the server forgets a reader that makes none for as long.
        heartbeat_s: the server is heard at least so often while it has nothing to say.
        silent_s: a server that is not heard for so long hangs, or has forgotten the reader.
        away_s: a bus that is away for so long is given up.
    """

    __slots__ = ("away_s", "heartbeat_s", "pull_s", "silent_s")

    def __init__(
        self,
        *,
        pull_s: float = 30.0,
        heartbeat_s: float = 5.0,
        silent_s: float = 12.0,
        away_s: float = 60.0,
    ) -> None:
        self.pull_s = pull_s
        self.heartbeat_s = heartbeat_s
        self.silent_s = silent_s
        self.away_s = away_s


USUAL = Timing()


class Delivered:
    """A message and what its reply subject says of it: how many the consumer delivered so far, how many are left.

    Spec: NATS ADR-15: ``$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>``, with two
    tokens more in the middle since 2.11.
    """

    __slots__ = ("counted", "message", "pending")

    def __init__(self, frame: Frame) -> None:
        parts = frame.reply.split(".")
        at = 5 if len(parts) == 9 else 7
        sequence, self.counted, stored_ns, self.pending = map(int, parts[at : at + 4])
        self.message = Message(sequence, stored_ns, frame.subject, frame.data)
