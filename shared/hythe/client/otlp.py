"""Sends the command's own spans to an OTLP/HTTP collector, where one is set; services use the OpenTelemetry exporter.

Spec: OTLP 1.x, "OTLP/HTTP", JSON Protobuf encoding: ids in hex, 64-bit numbers as text.
"""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

TIMEOUT_S = 0.5
_KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}


def export(endpoint: str, message: bytes) -> bool:
    """Send a span message (`hythe.client.root_span`) to ``<endpoint>/v1/traces``; tell whether the collector took it.

    Takes half a second at most, and never raises: tracing fails no command.
    """
    target = urlsplit(f"{endpoint.rstrip('/')}/v1/traces")
    kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(target.netloc, timeout=TIMEOUT_S)
        try:
            body = json.dumps(encode(json.loads(message))).encode()
            connection.request("POST", target.path, body, {"Content-Type": "application/json"})
            return 200 <= connection.getresponse().status < 300
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError):
        return False


def encode(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a span message as OTLP's ``ExportTraceServiceRequest`` in JSON."""
    resource = {"service.name": f"hythe-{message['service']}", "host.name": message["host"]}
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeSpans": [{"scope": {"name": "hythe"}, "spans": [_span(span) for span in message["spans"]]}],
            }
        ]
    }


def _span(span: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "traceId": span["trace_id"],
        "spanId": span["span_id"],
        "parentSpanId": span["parent_span_id"],
        "name": span["name"],
        "kind": _KINDS[span["kind"]],
        "startTimeUnixNano": str(span["start_ns"]),
        "endTimeUnixNano": str(span["end_ns"]),
        "attributes": _attributes(span["attributes"]),
        "status": {"code": 2, "message": span["status_message"]} if span["status"] == "error" else {},
    }


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}
