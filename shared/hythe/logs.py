"""Service logs: one JSON object a line on stderr, each with the trace id of what is being done."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from hythe import tracing


class JsonFormatter(logging.Formatter):
    """Formats a record as ``{"time", "level", "service", "message", "trace_id", …}``; extra fields come from ``extra=``."""

    _standard = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "message": record.getMessage(),
        }
        trace_id = tracing.trace_id()
        if trace_id:
            line["trace_id"] = trace_id
        line.update({k: v for k, v in vars(record).items() if k not in self._standard})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(service: str, level: str) -> None:
    """Send the log records of this process to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("nats").setLevel("WARNING")
