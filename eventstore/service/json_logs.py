"""Logs as JSON: one object a line, with the correlation that the record belongs to."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import msgspec

from eventstore.messages.context import current
from eventstore.messages.envelope import format_timestamp


class JsonFormatter(logging.Formatter):
    """Formats records as JSON: time, level, logger, message, and a traceback as `exception`.

    While a message is handled, `correlation_id`, `message_id` and, if it is traced, `trace_id` and
    `span_id` are those of that message.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line; the time is RFC 3339 in UTC."""
        found: dict[str, str] = {
            "time": format_timestamp(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_ids_of_message(),
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            found["exception"] = record.exc_text
        return msgspec.json.encode(found).decode()


def _ids_of_message() -> dict[str, str]:
    context = current()
    if context is None:
        return {}
    found = {"correlation_id": context.identity.correlation_id, "message_id": context.identity.id}
    if context.traceparent is not None:
        _, found["trace_id"], found["span_id"], _ = context.traceparent.split("-")
    return found


def log_as_json() -> None:
    """Have the handlers of the root logger write JSON from here on."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonFormatter())
