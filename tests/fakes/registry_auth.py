"""Registries that want a login: faults for `FakeRegistry.break_at`, and a token server of its own that can be elsewhere."""

from __future__ import annotations

import base64
import http.server
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from scripts.lab.images import encode
from tests.fakes.registry import Answer, Fault, Handler

USER, PASSWORD, REFRESH = "ann", "correct horse", "refresh-4711"


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to a token server; `form` is that of a POST."""

    method: str
    query: Mapping[str, list[str]]
    form: Mapping[str, list[str]]
    authorization: str


@dataclass
class Rules:
    """How a token server behaves; a test changes it at any time.

    Attributes:
        post: whether it knows POST.
        anonymous: whether it gives tokens to those who don't say who they are.
        gives_refresh: whether it gives a refresh token to those who ask for one.
        lifetime_s: what it says about its tokens; nothing for None.
        answer: what it sends in the place of all that.
    """

    post: bool = True
    anonymous: bool = False
    gives_refresh: bool = True
    lifetime_s: int | None = 300
    answer: Answer | None = None
    statuses: list[int] = field(default_factory=list)


class _TokenHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._serve(parse_qs(body.decode()))

    def _serve(self, form: dict[str, list[str]]) -> None:
        tokens = self.server.tokens
        query = parse_qs(urlsplit(self.path).query)
        asked = Asked(self.command, query, form, self.headers.get("Authorization", ""))
        answer = tokens.answer(asked)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, tokens: TokenServer) -> None:
        self.tokens = tokens
        super().__init__(("127.0.0.1", 0), _TokenHandler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is what some tests do."""


class TokenServer:
    """A token server on a free port of 127.0.0.1; use it as a context manager.

    Attributes:
        asked: every question so far, in order of arrival.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.rules = Rules()
        self.asked: list[Asked] = []
        self._server = _Server(self)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def answer(self, asked: Asked) -> Answer:
        """Return what the rules say."""
        self.asked.append(asked)
        rules = self.rules
        if rules.answer is not None:
            return rules.answer
        if rules.statuses:
            return Answer(rules.statuses.pop(0))
        if asked.method == "POST" and not rules.post:
            return Answer(405)
        known = asked.authorization == basic(USER, PASSWORD) or asked.form.get("refresh_token") == [REFRESH]
        if not known and (asked.authorization or asked.form or not rules.anonymous):
            # as some real ones do, it repeats what it was sent
            said = f"no login: {asked.authorization} {asked.form} {_plain(asked.authorization)}"
            return Answer(401, encode({"errors": [{"code": "UNAUTHORIZED", "message": said}]}))
        scopes = asked.query.get("scope") or asked.form.get("scope", [""])[0].split()
        answer: dict[str, Any] = {"token": f"good:{'+'.join(scopes)}"}
        if rules.lifetime_s is not None:
            answer["expires_in"] = rules.lifetime_s
        if rules.gives_refresh and asked.query.get("offline_token") == ["true"]:
            answer["refresh_token"] = REFRESH
        return Answer(200, encode(answer))

    def __enter__(self) -> TokenServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def basic(username: str, password: str) -> str:
    """Return the header that carries a user name and password."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _plain(authorization: str) -> str:
    return base64.b64decode(authorization.removeprefix("Basic ")).decode(errors="replace")


def wants_basic() -> Fault:
    """Ask for a user name and password; the refusal repeats what was sent."""

    def fault(handler: Handler, answer: Answer) -> Answer:
        sent = handler.headers.get("Authorization", "")
        if sent == basic(USER, PASSWORD):
            return answer
        problem = encode({"errors": [{"code": "UNAUTHORIZED", "message": f"not you: {sent} {_plain(sent)}"}]})
        return Answer(401, problem, {"WWW-Authenticate": 'Basic realm="fake"'})

    return fault


def wants_token(realm: str) -> Fault:
    """Ask for a token of the server at `realm`; any that begins with ``good:`` is taken."""

    def fault(handler: Handler, answer: Answer) -> Answer:
        if handler.headers.get("Authorization", "").startswith("Bearer good:"):
            return answer
        return Answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}",service="fake"'})

    return fault
