"""The ways in which a `FakeRegistry` misbehaves; each function makes a fault for `FakeRegistry.break_at`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from scripts.lab.images import Blob, Image, digest_text, encode
from tests.fakes.registry import Answer, Fault, Handler


def other_bytes() -> Fault:
    """Same length, one bit changed: the bytes are not what the digest promises."""

    def fault(handler: Handler, answer: Answer) -> Answer:
        return replace(answer, body=answer.body[:-1] + bytes([answer.body[-1] ^ 1]))

    return fault


def other_content(data: bytes) -> Fault:
    """Send `data` with a matching ``Docker-Content-Digest``: consistent in itself, but not what was asked for."""

    def fault(handler: Handler, answer: Answer) -> Answer:
        return replace(answer, body=data, headers={**answer.headers, "Docker-Content-Digest": digest_text(data)})

    return fault


def lying_digest_header() -> Fault:
    """Say in ``Docker-Content-Digest`` that the content has another digest than it has."""

    def fault(handler: Handler, answer: Answer) -> Answer:
        return replace(answer, headers={**answer.headers, "Docker-Content-Digest": digest_text(b"something else")})

    return fault


def longer(extra_bytes: int = 1) -> Fault:
    """More bytes than the descriptor's size, with a Content-Length that agrees with them."""

    def fault(handler: Handler, answer: Answer) -> Answer:
        return replace(answer, body=answer.body + b"\0" * extra_bytes)

    return fault


def shorter(missing_bytes: int = 1) -> Fault:
    """Fewer bytes than the descriptor's size, with a Content-Length that agrees with them."""

    def fault(handler: Handler, answer: Answer) -> Answer:
        return replace(answer, body=answer.body[:-missing_bytes])

    return fault


def truncated(at_bytes: int) -> Fault:
    """Promise the whole body and close the connection after `at_bytes`."""

    def fault(handler: Handler, answer: Answer) -> Answer:
        return replace(answer, body=answer.body[:at_bytes], declared_bytes=len(answer.body))

    return fault


def stalled(at_bytes: int) -> Fault:
    """Send `at_bytes` of the body and then nothing, with the connection open, until the client hangs up."""

    def fault(handler: Handler, answer: Answer) -> None:
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        handler.wfile.write(answer.body[:at_bytes])
        handler.wfile.flush()
        handler.wait_for_end()

    return fault


def paced(chunk_bytes: int, pause_s: float) -> Fault:
    """Send the body in chunks with a pause after each: slow, but never silent for long."""

    def fault(handler: Handler, answer: Answer) -> None:
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        for start in range(0, len(answer.body), chunk_bytes):
            handler.wfile.write(answer.body[start : start + chunk_bytes])
            handler.wfile.flush()
            handler.server.registry.released.wait(pause_s)

    return fault


def trickling(chunk_bytes: int, pause_s: float) -> Fault:
    """Send the body in chunks of unknown total (``Transfer-Encoding: chunked``) with a pause after each."""

    def fault(handler: Handler, answer: Answer) -> None:
        handler.send_response(answer.status)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(answer.body), chunk_bytes):
            chunk = answer.body[start : start + chunk_bytes]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            handler.wfile.flush()
            handler.server.registry.released.wait(pause_s)
        handler.wfile.write(b"0\r\n\r\n")

    return fault


def endless(content_type: str = "application/octet-stream") -> Fault:
    """Send bytes of no stated length for as long as the client reads them."""

    def fault(handler: Handler, answer: Answer) -> None:
        handler.send_response(answer.status)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.close_connection = True
        while handler.command == "GET" and not handler.server.registry.released.is_set():
            handler.wfile.write(b"10000\r\n%s\r\n" % bytes(0x10000))

    return fault


def raw(data: bytes, *, again: bytes = b"", pause_s: float = 0.0) -> Fault:
    """Send `data` in the place of an answer, and `again` after each pause for as long as the client waits."""

    def fault(handler: Handler, answer: Answer) -> None:
        handler.close_connection = True
        handler.wfile.write(data)
        handler.wfile.flush()
        while again and not handler.server.registry.released.wait(pause_s):
            handler.wfile.write(again)
            handler.wfile.flush()

    return fault


def hang_up() -> Fault:
    """Close the connection without a word."""

    def fault(handler: Handler, answer: Answer) -> None:
        handler.close_connection = True

    return fault


def silent() -> Fault:
    """Take the request and say nothing, with the connection open, until the client hangs up."""

    def fault(handler: Handler, answer: Answer) -> None:
        handler.wait_for_end()

    return fault


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Answer with `code`; header names are given with ``_`` for ``-``, e.g. ``Retry_After="0"``."""

    def fault(handler: Handler, answer: Answer) -> Answer:
        return Answer(code, body, {name.replace("_", "-"): value for name, value in headers.items()})

    return fault


def redirect(location: str, code: int = 307) -> Fault:
    """Send the client to `location`; to its own path, that never ends."""
    return status(code, Location=location)


def ignore_range() -> Fault:
    """Answer 200 with the whole body to a request for a range."""

    def fault(handler: Handler, answer: Answer) -> Answer:
        whole = handler.server.registry.honest(handler.path, {})
        return replace(whole, headers={k: v for k, v in whole.headers.items() if k != "Accept-Ranges"})

    return fault


def bearer(*, never: bool = False) -> Fault:
    """Ask for a bearer token from this registry's ``/token``; with `never`, refuse every token (a 401 without end)."""

    def fault(handler: Handler, answer: Answer) -> Answer:
        if not never and handler.headers.get("Authorization", "").startswith("Bearer good:"):
            return answer
        realm = f"http://{handler.server.registry.address}/token"
        challenge = f'Bearer realm="{realm}",service="fake",scope="repository:any:pull"'
        problem = encode({"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]})
        return Answer(401, problem, {"WWW-Authenticate": challenge, "Content-Type": "application/json"})

    return fault


def both_manifest_and_index(image: Image) -> Blob:
    """Return a manifest that is an index as well: which of the two is read depends on the reader (CVE-2021-41190)."""
    both: dict[str, Any] = json.loads(image.manifest.data)
    platform = {"os": image.os, "architecture": image.architecture}
    both["manifests"] = [image.manifest.descriptor(platform=platform)]
    return Blob(encode(both), image.manifest.media_type)


def with_fields(manifest: Blob, **fields: Any) -> Blob:
    """Return `manifest` with top-level JSON fields replaced; None removes one."""
    changed = {**json.loads(manifest.data), **fields}
    return Blob(encode({k: v for k, v in changed.items() if v is not None}), manifest.media_type)
