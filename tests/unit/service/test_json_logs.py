"""Logs as JSON: one object a line, with the correlation that the record belongs to."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from eventstore.messages.context import MessageContext
from eventstore.messages.envelope import Identity
from eventstore.service.json_logs import JsonFormatter, log_as_json
from tests.log_formats import formats_restored

EVENT = "11111111-2222-4333-8444-555555555555"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def formatted(message: str = "hello %s", **options: Any) -> dict[str, str]:
    record = logging.LogRecord("shop.order", logging.WARNING, __file__, 1, message, ("x",), None)
    for name, value in options.items():
        setattr(record, name, value)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    found: dict[str, str] = json.loads(line)
    return found


def test_a_record_is_one_object() -> None:
    found = formatted(created=0.5)
    assert found == {
        "time": "1970-01-01T00:00:00.500000Z",
        "level": "warning",
        "logger": "shop.order",
        "message": "hello x",
    }


def test_hostile_text_stays_in_its_field() -> None:
    assert formatted('\n{"level": "error"}\x1b %s')["message"] == '\n{"level": "error"}\x1b x'


def test_a_traceback_is_a_field() -> None:
    nothing: dict[str, int] = {}
    try:
        nothing["nothing"]
    except KeyError:
        found = formatted(exc_info=sys.exc_info())
    assert found["exception"].startswith("Traceback")
    assert found["exception"].endswith("KeyError: 'nothing'")


def test_while_a_message_is_handled_its_ids_are_named() -> None:
    parent = f"00-{TRACE}-b7ad6b7169203331-01"
    with MessageContext(Identity.root(EVENT), "handler", traceparent=parent).begun():
        found = formatted()
    assert found["correlation_id"] == found["message_id"] == EVENT
    assert (found["trace_id"], found["span_id"]) == (TRACE, "b7ad6b7169203331")


@pytest.fixture
def root_handler() -> Iterator[logging.Handler]:
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    with formats_restored():
        yield handler
    logging.getLogger().removeHandler(handler)


def test_all_handlers_of_the_root_logger_write_it(root_handler: logging.Handler) -> None:
    log_as_json()
    assert isinstance(root_handler.formatter, JsonFormatter)
