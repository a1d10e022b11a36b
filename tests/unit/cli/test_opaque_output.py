"""Opaque events on one line: for people, and byte for byte for programs."""

from __future__ import annotations

import json
from base64 import b64decode

from eventstore.cli.output.events import event_json, event_line
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Envelope, Identity
from eventstore.messages.events import RecordedEvent
from eventstore.messages.headers import JSON, Header
from eventstore.messages.opaque import OpaqueEvent


def recorded(event: OpaqueEvent) -> RecordedEvent:
    envelope = Envelope(
        identity=Identity.root(),
        type=event.type,
        domain="d",
        timestamp="2026-01-01T00:00:00.000000Z",
        aggregate_id="a",
        content_type=event.content_type,
        opaque=event.own_headers,
    )
    headers = {**envelope.to_headers(), Header.AGGREGATE_VERSION: "1"}
    codec = Codec("d", (), (), aggregates=["account"])
    (read,) = codec.recorded("d.log.account.a", headers, event.payload, 1)
    return read


def test_bytes_are_shown_whole() -> None:
    event = recorded(OpaqueEvent(type="com.example:Picture", payload=b"\x00\xff\x1b[0m"))
    assert "com.example:Picture account a v1" in event_line(event)
    assert "\x1b" not in event_line(event)
    shown = json.loads(event_json(event))
    assert b64decode(shown["base64"]) == event.payload
    assert "data" not in shown


def test_json_is_shown_as_json() -> None:
    event = OpaqueEvent(type="x", payload=b'{"a": 1}', content_type=JSON)
    assert json.loads(event_json(recorded(event)))["data"] == {"a": 1}
