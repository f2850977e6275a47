"""Many clients at once on the bus, each with a connection of its own and one request in flight, in one process."""

from __future__ import annotations

import json
import os
import selectors
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from hythe import subjects
from hythe.bus.nkey import Key
from hythe.client.link import Link
from hythe.client.protocol import encode_publish

Ask = Callable[[int], tuple[str, str, bytes]]
"""Gives the noun, the verb and the body of the n-th request of all."""
SILENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it: seconds from the first to the last request, and of each request; answers that were refusals."""

    elapsed_s: float
    taken_s: list[float]
    refused: list[str]

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.taken_s) / self.elapsed_s


class _Client:
    def __init__(self, url: str, key: Key, key_name: str) -> None:
        self.link = Link(url, key, "bench")
        self.inbox = f"{subjects.inbox_prefix(key_name)}.{os.urandom(8).hex()}"
        self.link.send(f"SUB {self.inbox} 1\r\n".encode())
        self.sent_at = 0.0
        self.trace = os.urandom(16).hex()


class Clients:
    """`count` clients of the metadata service; close them when done."""

    def __init__(self, url: str, key: Key, key_name: str, count: int, namespace: str = "default") -> None:
        self._key_name = key_name
        self._namespace = namespace
        self._clients = [_Client(url, key, key_name) for _ in range(count)]
        self._asked = 0

    def load(self, ask: Ask, seconds: float, most: int = sys.maxsize) -> Load:
        """Let every client ask, again as soon as it is answered, for `seconds` or until `most` requests are made.

        Raises:
            TimeoutError: nobody answers.
        """
        taken: list[float] = []
        refused: list[str] = []
        with selectors.DefaultSelector() as selector:
            for client in self._clients:
                selector.register(client.link, selectors.EVENT_READ, client)
            begun = time.perf_counter()
            until, waiting, last = begun + seconds, 0, self._asked + most
            for client in self._clients[:most]:
                self._send(client, ask)
                waiting += 1
            while waiting:
                ready = selector.select(SILENCE_S)
                if not ready:
                    raise TimeoutError(f"{waiting} requests to metadata are not answered")
                for found, _ in ready:
                    client = found.data
                    for frame in client.link.receive(0) or ():
                        if frame.kind != "msg":
                            continue
                        now = time.perf_counter()
                        taken.append(now - client.sent_at)
                        if "nats-service-error" in frame.headers or frame.status:
                            refused.append(frame.headers.get("nats-service-error", str(frame.status)))
                        if now < until and self._asked < last:
                            self._send(client, ask)
                        else:
                            waiting -= 1
            return Load(time.perf_counter() - begun, taken, refused)

    def _send(self, client: _Client, ask: Ask) -> None:
        noun, verb, body = ask(self._asked)
        headers = {
            "hythe-request-id": f"{os.getpid():x}.{self._asked:x}.{client.inbox[-8:]}",
            "hythe-timeout-ms": "5000",
        }
        headers["traceparent"] = f"00-{client.trace}-{self._asked + 1:016x}-01"
        self._asked += 1
        subject = subjects.rpc(self._namespace, self._key_name, "metadata", noun, verb)
        client.sent_at = time.perf_counter()
        client.link.send(encode_publish(subject, body, headers, client.inbox))

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.link.close()


def as_json(**fields: object) -> bytes:
    """Return a body."""
    return json.dumps(fields, separators=(",", ":")).encode()
