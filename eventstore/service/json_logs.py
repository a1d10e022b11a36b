"""How a service logs: lines with times, or JSON objects with the correlation they belong to."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import msgspec

from eventstore.messages.context import current
from eventstore.messages.envelope import format_timestamp


class TimedFormatter(logging.Formatter):
    """Formats records as text, after the time (RFC 3339 in UTC) and the level."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """The time of a record."""
        return format_timestamp(datetime.fromtimestamp(record.created, UTC))


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
    _format_by(JsonFormatter())


def log_times() -> None:
    """Have the handlers of the root logger write times from here on."""
    _format_by(TimedFormatter())


def _format_by(formatter: logging.Formatter) -> None:
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)
