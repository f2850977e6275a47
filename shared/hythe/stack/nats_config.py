"""The configuration file of the bus server: loopback only, one user per key, allow-lists, nothing anonymous."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from hythe.bus.permissions import permissions_of

MAX_PAYLOAD_BYTES = 8 << 20
MAX_CONNECTIONS = 1024
AUTHENTICATION_TIMEOUT_S = 2
STORE_BYTES = 2 << 30
SPANS_BYTES = 256 << 20
MEMORY_BYTES = 64 << 20
SYNC_ALWAYS_SINCE = (2, 10)
ASYNC_PERSIST_SINCE = (2, 12)


def render(
    *,
    port: int,
    store: Path,
    host: str,
    public_keys: Mapping[str, str],
    version: tuple[int, ...],
    events_bytes: int = 0,
) -> str:
    """Return the text of the configuration; it holds public keys only.

    Args:
        port: port on 127.0.0.1.
        store: directory of JetStream.
        host: name of this host, which the agent's and bundle's permissions are bound to.
        public_keys: public key of each role.
        version: version of the server, which decides what it understands.
        events_bytes: size that the stream of events may have; the server gets room for it.
    """
    room = max(STORE_BYTES, events_bytes + 2 * SPANS_BYTES)
    sync = "\n  sync_interval: always" if version >= SYNC_ALWAYS_SINCE else ""
    return f"""\
host: "127.0.0.1"
port: {port}
server_name: {json.dumps(f"hythe-{host}")}
max_payload: {MAX_PAYLOAD_BYTES}
max_connections: {MAX_CONNECTIONS}
ping_interval: "20s"
ping_max: 2
jetstream {{
  store_dir: {json.dumps(str(store))}
  max_file_store: {room}
  max_memory_store: {MEMORY_BYTES}{sync}
}}
authorization {{ timeout: {AUTHENTICATION_TIMEOUT_S} }}
{users(public_keys, host)}"""


def users(public_keys: Mapping[str, str], host: str) -> str:
    """Return the account with one user per key; whoever has none of these keys gets nowhere."""
    lines = []
    for role, public in public_keys.items():
        allowed = permissions_of(role, role, host)
        lines.append(
            f"    {{ nkey: {public}, permissions: {{\n"
            f"      publish: {{ allow: {json.dumps(allowed.publish)} }},\n"
            f"      subscribe: {{ allow: {json.dumps(allowed.subscribe)} }}\n"
            f"    }} }}\n"
        )
    return "accounts {\n  HYTHE {\n    jetstream: enabled\n    users: [\n" + "".join(lines) + "    ]\n  }\n}\n"
