"""What each key may publish and subscribe: allow-lists only, made from the subjects' own functions (ARCHITECTURE §3, §9).

Whoever may publish a command to an agent is root on its host, so every list names what that role's code really uses.
Services may publish to any inbox, for that is where replies go; every key may subscribe only its own inboxes, so nobody
reads another's answers.
"""

from __future__ import annotations

from hythe import subjects
from hythe.errors import InvalidArgument

SERVICES = ("metadata", "distribution", "bundle", "runtime", "agent")
OWNERS = ("distribution", "bundle")
"""Services that keep what is collected, each on its host."""
ADMIN = "admin"
STREAMS = "streams"
"""The key that `hythe up` makes streams with: a stream may republish to any subject, so nobody else may change one."""
ROLES = (*SERVICES, ADMIN, STREAMS)

_ANY_INBOX = "_INBOX.>"
_EVENTS_READ = f"$JS.API.STREAM.MSG.GET.{subjects.EVENT_STREAM}"
_API_READ = ("STREAM.INFO", "STREAM.MSG.GET")
_API_MAKE = ("STREAM.INFO", "STREAM.CREATE", "STREAM.UPDATE")


class Permissions:
    """The subjects that one key may publish and those that it may subscribe."""

    __slots__ = ("publish", "subscribe")

    def __init__(self, publish: list[str], subscribe: list[str]) -> None:
        self.publish = publish
        self.subscribe = subscribe


def permissions_of(role: str, key_name: str, host: str) -> Permissions:
    """Return what the key `key_name`, which acts as `role` on `host`, may do.

    Raises:
        InvalidArgument: `role` is none of `ROLES`.
    """
    own_inbox = f"{subjects.inbox_prefix(key_name)}.>"
    if role == ADMIN:
        return Permissions(_admin_publishes(key_name), [own_inbox, subjects.io_of_namespace("*"), subjects.ALL_EVENTS])
    if role == STREAMS:
        return Permissions(_stream_api(_API_MAKE), [own_inbox])
    if role not in SERVICES:
        raise InvalidArgument(f"make permissions: {role!r} is none of {', '.join(ROLES)}")
    publish, subscribe = _service_lists(role, key_name, host)
    return Permissions(
        [_ANY_INBOX, subjects.ALL_SPANS, subjects.events_from_host(host), _EVENTS_READ, *publish],
        [own_inbox, *_discovery(role), *subscribe],
    )


def _service_lists(role: str, key_name: str, host: str) -> tuple[list[str], list[str]]:
    if role == "metadata":
        return (
            [subjects.events_from_host(""), *(subjects.host_rpc_noun_any(owner, "gc") for owner in OWNERS)],
            [subjects.rpc_of_service("metadata"), subjects.ALL_BEATS],
        )
    if role == "distribution":
        return (
            [
                *(
                    subjects.rpc_verb_from(key_name, "metadata", "image", verb)
                    for verb in ("get", "put", "list", "remove")
                ),
                subjects.rpc_verb_from(key_name, "metadata", "container", "list"),
                *_leases(key_name),
            ],
            [subjects.rpc_of_service("distribution"), subjects.host_rpc_of_service(host, "distribution")],
        )
    if role == "bundle":
        return (
            [subjects.host_rpc_of_service(host, "distribution"), *_leases(key_name)],
            [subjects.host_rpc_of_service(host, "bundle")],
        )
    if role == "runtime":
        return (
            [
                subjects.rpc_from(key_name, "metadata"),
                subjects.rpc_from(key_name, "distribution"),
                subjects.host_rpc_any("agent"),
                subjects.host_rpc_any("bundle"),
            ],
            [subjects.rpc_of_service("runtime"), subjects.ALL_BEATS, subjects.ALL_STATUSES],
        )
    return (
        [
            subjects.beat(host),
            subjects.statuses_from_host(host),
            subjects.io_of_host(host),
            subjects.host_rpc_of_service(host, "bundle"),
            subjects.rpc(subjects.NO_NAMESPACE, key_name, "metadata", "host", "register"),
        ],
        [subjects.host_rpc_of_service(host, "agent"), subjects.io_of_host(host)],
    )


def _leases(key_name: str) -> list[str]:
    """Return what keeps an operation's own things: it can't list the leases of others, whose ids are random."""
    return [
        subjects.rpc_verb_from(key_name, "metadata", "content", "refer"),
        *(subjects.rpc_verb_from(key_name, "metadata", "lease", verb) for verb in ("renew", "remove")),
    ]


def _discovery(service: str) -> list[str]:
    """Subscriptions for NATS micro's discovery: questions to all, to this service, to one of its instances."""
    return [
        subject
        for verb in ("PING", "INFO", "STATS")
        for subject in (f"$SRV.{verb}", f"$SRV.{verb}.hythe-{service}", f"$SRV.{verb}.hythe-{service}.*")
    ]


def _admin_publishes(key_name: str) -> list[str]:
    streams = (subjects.EVENT_STREAM, subjects.SPAN_STREAM)
    return [
        *(subjects.rpc_from(key_name, service) for service in ("runtime", "distribution", "metadata")),
        *(subjects.host_rpc_any(service) for service in ("distribution", "bundle")),
        subjects.io_of_namespace("*"),
        subjects.ALL_SPANS,
        "$SRV.>",
        *_stream_api(_API_READ),
        *(f"$JS.API.CONSUMER.{call}.{stream}.>" for stream in streams for call in ("CREATE", "DELETE", "MSG.NEXT")),
        *(f"$JS.API.CONSUMER.CREATE.{stream}" for stream in streams),
    ]


def _stream_api(calls: tuple[str, ...]) -> list[str]:
    return [f"$JS.API.{call}.{stream}" for stream in (subjects.EVENT_STREAM, subjects.SPAN_STREAM) for call in calls]
