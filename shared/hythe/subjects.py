"""Every bus subject of Hythe, built and parsed here and nowhere else (ARCHITECTURE §3).

The fourth token is always the namespace (``_`` where none applies). Names pass `identifiers.encode_token`, so that a
host ``a.b`` or a hostile name can never become another subject.
"""

from __future__ import annotations

from hythe.errors import InvalidArgument
from hythe.identifiers import decode_token, encode_token

PREFIX = "hythe.v1"
NO_NAMESPACE = ""
EVENT_STREAM = "HYTHE_EVENTS"
SPAN_STREAM = "HYTHE_SPANS"


class _Parts:
    """What equality, hash and repr of a subject's parts have in common; dataclasses would cost each command 8 ms."""

    __slots__: tuple[str, ...] = ()

    def _values(self) -> tuple[str, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


class RpcSubject(_Parts):
    """A request to any instance of a service; `caller` is fixed by the key's permission and so can be believed."""

    __slots__ = ("caller", "namespace", "noun", "service", "verb")

    def __init__(self, namespace: str, caller: str, service: str, noun: str, verb: str) -> None:
        self.namespace = namespace
        self.caller = caller
        self.service = service
        self.noun = noun
        self.verb = verb


class HostSubject(_Parts):
    """A request to the instance of a service on one host."""

    __slots__ = ("host", "namespace", "noun", "service", "verb")

    def __init__(self, namespace: str, host: str, service: str, noun: str, verb: str) -> None:
        self.namespace = namespace
        self.host = host
        self.service = service
        self.noun = noun
        self.verb = verb


def rpc(namespace: str, caller: str, service: str, noun: str, verb: str) -> str:
    """Subject of a request to any instance of `service` (queue group)."""
    return f"{PREFIX}.rpc.{encode_token(namespace)}.{encode_token(caller)}.{service}.{noun}.{verb}"


def rpc_of_service(service: str) -> str:
    """Subscription of `service` to all its requests."""
    return f"{PREFIX}.rpc.*.*.{service}.>"


def rpc_from(caller: str, service: str) -> str:
    """Permission of `caller` to ask `service` in any namespace."""
    return f"{PREFIX}.rpc.*.{encode_token(caller)}.{service}.>"


def rpc_verb_from(caller: str, service: str, noun: str, verb: str) -> str:
    """Permission of `caller` to ask one thing of `service` in any namespace."""
    return f"{PREFIX}.rpc.*.{encode_token(caller)}.{service}.{noun}.{verb}"


def host_rpc(namespace: str, host: str, service: str, noun: str, verb: str) -> str:
    """Subject of a request to `service` on `host`."""
    return f"{PREFIX}.host.{encode_token(namespace)}.{encode_token(host)}.{service}.{noun}.{verb}"


def host_rpc_of_service(host: str, service: str) -> str:
    """Subscription of `service` on `host` to all its requests."""
    return f"{PREFIX}.host.*.{encode_token(host)}.{service}.>"


def host_rpc_any(service: str) -> str:
    """Permission to ask `service` on any host."""
    return f"{PREFIX}.host.*.*.{service}.>"


def host_rpc_noun_any(service: str, noun: str) -> str:
    """Permission to ask `service` on any host about one kind of thing."""
    return f"{PREFIX}.host.*.*.{service}.{noun}.*"


def parse_rpc(subject: str) -> RpcSubject | HostSubject:
    """Return the parts of a request's subject.

    Raises:
        InvalidArgument: `subject` is not a request subject.
    """
    parts = subject.split(".")
    if len(parts) != 8 or parts[:2] != PREFIX.split(".") or parts[2] not in ("rpc", "host"):
        raise InvalidArgument(f"parse subject {subject!r}: not a request subject")
    kind = RpcSubject if parts[2] == "rpc" else HostSubject
    return kind(decode_token(parts[3]), decode_token(parts[4]), parts[5], parts[6], parts[7])


def event(namespace: str, host: str, noun: str, object_id: str, past: str) -> str:
    """Subject of one event, stored in `EVENT_STREAM`: ``noun`` ``object_id`` has been ``past`` (a past participle)."""
    return f"{PREFIX}.event.{encode_token(namespace)}.{encode_token(host)}.{noun}.{encode_token(object_id)}.{past}"


def events_of_namespace(namespace: str) -> str:
    """Subscription to all events of `namespace`."""
    return f"{PREFIX}.event.{encode_token(namespace)}.>"


def events_from_host(host: str) -> str:
    """Permission to publish events of `host`; with an empty host, events that belong to no host."""
    return f"{PREFIX}.event.*.{encode_token(host)}.>"


def events_of_noun(noun: str, namespace: str = "*") -> str:
    """Subscription to the events of one kind of object, in all namespaces and on all hosts."""
    token = "*" if namespace == "*" else encode_token(namespace)
    return f"{PREFIX}.event.{token}.*.{noun}.>"


def events_of_object(namespace: str, host: str, noun: str, object_id: str) -> str:
    """Filter for the events of one object."""
    return f"{PREFIX}.event.{encode_token(namespace)}.{encode_token(host)}.{noun}.{encode_token(object_id)}.*"


ALL_EVENTS = f"{PREFIX}.event.>"


class EventSubject(_Parts):
    """The parts of an event's subject."""

    __slots__ = ("host", "namespace", "noun", "object_id", "past")

    def __init__(self, namespace: str, host: str, noun: str, object_id: str, past: str) -> None:
        self.namespace = namespace
        self.host = host
        self.noun = noun
        self.object_id = object_id
        self.past = past


def parse_event(subject: str) -> EventSubject:
    """Return the parts of an event's subject.

    Raises:
        InvalidArgument: `subject` is not an event subject.
    """
    parts = subject.split(".")
    if len(parts) != 8 or parts[:3] != [*PREFIX.split("."), "event"]:
        raise InvalidArgument(f"parse subject {subject!r}: not an event subject")
    return EventSubject(decode_token(parts[3]), decode_token(parts[4]), parts[5], decode_token(parts[6]), parts[7])


def span(namespace: str, trace_id: str, *, root: bool = False) -> str:
    """Subject of one process's finished spans of one trace, stored in `SPAN_STREAM`; root spans have their own."""
    return f"{PREFIX}.span.{encode_token(namespace)}.{trace_id}" + (".root" if root else "")


def root_spans(namespace: str) -> str:
    """Filter for the root spans of `namespace`: one message a trace."""
    return f"{PREFIX}.span.{encode_token(namespace)}.*.root"


ALL_SPANS = f"{PREFIX}.span.>"


def io(namespace: str, host: str, channel: str, stream: str) -> str:
    """Subject of one stream of an io channel: ``stdout stderr end`` from the agent, ``credit stdin resize`` to it."""
    return f"{PREFIX}.io.{encode_token(namespace)}.{encode_token(host)}.{channel}.{stream}"


def io_of_channel(namespace: str, channel: str) -> str:
    """Subscription of a client to all that one of its channels brings, from whichever host."""
    return f"{PREFIX}.io.{encode_token(namespace)}.*.{channel}.*"


def io_of_host(host: str) -> str:
    """Permission of an agent to all channels of its host."""
    return f"{PREFIX}.io.*.{encode_token(host)}.>"


def io_of_namespace(namespace: str) -> str:
    """Permission of a client to the channels of `namespace`; ``*`` for all."""
    token = "*" if namespace == "*" else encode_token(namespace)
    return f"{PREFIX}.io.{token}.*.>"


def io_to_host(host: str, stream: str) -> str:
    """Subscription of an agent to one stream, ``credit`` or ``stdin``, of all channels of its host."""
    return f"{PREFIX}.io.*.{encode_token(host)}.*.{stream}"


class IoSubject(_Parts):
    """The parts of an io channel's subject."""

    __slots__ = ("channel", "host", "namespace", "stream")

    def __init__(self, namespace: str, host: str, channel: str, stream: str) -> None:
        self.namespace = namespace
        self.host = host
        self.channel = channel
        self.stream = stream


def parse_io(subject: str) -> IoSubject:
    """Return the parts of an io channel's subject.

    Raises:
        InvalidArgument: `subject` is not an io subject.
    """
    parts = subject.split(".")
    if len(parts) != 7 or parts[:3] != [*PREFIX.split("."), "io"]:
        raise InvalidArgument(f"parse subject {subject!r}: not an io subject")
    return IoSubject(decode_token(parts[3]), decode_token(parts[4]), parts[5], parts[6])


def beat(host: str) -> str:
    """Subject of the heartbeat of the agent on `host`, once a second."""
    return f"{PREFIX}.beat._.{encode_token(host)}"


ALL_BEATS = f"{PREFIX}.beat._.*"


def status(namespace: str, host: str) -> str:
    """Subject on which the agent of `host` reports each change of a container's status, numbered; not stored."""
    return f"{PREFIX}.status.{encode_token(namespace)}.{encode_token(host)}"


def statuses_from_host(host: str) -> str:
    """Permission of the agent of `host` to report status."""
    return f"{PREFIX}.status.*.{encode_token(host)}"


ALL_STATUSES = f"{PREFIX}.status.*.*"


def inbox_prefix(key_name: str) -> str:
    """Prefix of all inboxes of the key `key_name`; only that key may subscribe below it."""
    return f"_INBOX.{encode_token(key_name)}"


def is_inbox(reply: str) -> bool:
    """Tell whether a reply subject is an inbox; requests with any other reply subject are dropped (ARCHITECTURE §3 †)."""
    return reply.startswith("_INBOX.") and "*" not in reply and ">" not in reply


def may_answer(subject: str, reply: str) -> bool:
    """Tell whether the answer to a request on `subject` may go to `reply`: an inbox, and on ``rpc`` the caller's own.

    Else a caller could have a service's answer delivered to what another key waits for.
    """
    parts = subject.split(".")
    return is_inbox(reply) and (parts[2:3] != ["rpc"] or reply.split(".")[1:2] == parts[4:5])
