"""The HTTP side of archives as the distribution service has it: takes bodies, gives bodies, refuses, breaks off."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from hythe.errors import HytheError
from hythe.wire.base import Reply
from hythe.wire.problem import to_problem

Ending = Literal["whole", "broken"]


class ArchiveServer:
    """One archive to give, and one answer for those that are sent.

    Attributes:
        url: where to send requests.
        gives: the body that a GET gets, or why it gets none.
        ending: how that body ends.
        answers: what a POST is answered; nothing means that the connection is closed in place of an answer.
        refuses_early: a refusal is sent after the first chunk of a body, and the rest is not read.
        received: bodies that came whole.
        broken: how many bodies came without their end.
        headers: those of the last request.
        on_chunk: called for each chunk that is given.
    """

    def __init__(self) -> None:
        self.gives: bytes | HytheError = b""
        self.ending: Ending = "whole"
        self.answers: Reply | HytheError | None = None
        self.refuses_early = False
        self.received: list[bytes] = []
        self.broken = 0
        self.headers: Mapping[str, str] = {}
        self.on_chunk: Callable[[], None] = lambda: None
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._give(self)

            def do_POST(self) -> None:
                server._take(self)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/transfer/t1cket"

    def _give(self, handler: BaseHTTPRequestHandler) -> None:
        self.headers = dict(handler.headers)
        if isinstance(self.gives, HytheError):
            self._answer(handler, self.gives)
            return
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.close_connection = True
        try:
            for start in range(0, len(self.gives), 60_000):
                piece = self.gives[start : start + 60_000]
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.on_chunk()
            if self.ending == "whole":
                handler.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.broken += 1

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        self.headers = dict(handler.headers)
        handler.close_connection = True
        body = b""
        while size := int(handler.rfile.readline() or b"-1", 16):
            if size < 0:
                self.broken += 1
                return
            body += handler.rfile.read(size)
            handler.rfile.readline()
            if self.refuses_early:
                break
        else:
            self.received.append(body)
        if self.answers is not None:
            self._answer(handler, self.answers)

    def _answer(self, handler: BaseHTTPRequestHandler, answer: Reply | HytheError) -> None:
        found = to_problem(answer) if isinstance(answer, HytheError) else answer
        data = found.model_dump_json().encode()
        handler.send_response(answer.number if isinstance(answer, HytheError) else 200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def close(self) -> None:
        """Stop the server."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
