"""Messages of the log on one line each: text for people, or JSON for programs."""

from __future__ import annotations

import msgspec

from eventstore.cli.times import exact_moment
from eventstore.messages.events import LogEvent, UnreadEvent
from eventstore.messages.headers import JSON
from eventstore.messages.text import decoded, encodable, printable
from eventstore.messages.undecodable import UNDECODABLE
from eventstore.store.foreign import ForeignMessage


def event_line(event: LogEvent) -> str:
    """An event for people; if it cannot be read, with the reason."""
    error = event.error if isinstance(event, UnreadEvent) else None
    return printable(
        f"{event.position:>6}  {exact_moment(event.time)}  {event.envelope.type} "
        f"{event.aggregate} {event.aggregate_id} v{event.version}  {decoded(event.payload)}"
        + ("" if error is None else f"  (unreadable: {error})")
    )


def event_json(event: LogEvent) -> str:
    """An event as it is stored, headers included, as a JSON object.

    An opaque payload that is not JSON is in Base64.
    """
    error = event.error if isinstance(event, UnreadEvent) else None
    stored = {
        "position": event.position,
        "aggregate": event.aggregate,
        "aggregate_id": event.aggregate_id,
        "version": event.version,
        "type": event.envelope.type,
        "headers": dict(event.headers),
        **_data_of(event),
        **({} if error is None else {"unreadable": str(error)}),
    }
    return msgspec.json.encode(stored).decode()


def _data_of(event: LogEvent) -> dict[str, object]:
    if event.envelope.opaque is not None and event.envelope.content_type != JSON:
        return {"base64": event.payload}
    return {"data": payload_data(event.payload or b"{}")}  # another writer may leave {} out


def foreign_line(message: ForeignMessage) -> str:
    """A foreign message for people."""
    text = decoded(message.payload)
    return printable(f"{message.position:>6}  {message.subject}: {message.reason}  {text}")


def foreign_json(message: ForeignMessage) -> str:
    """A foreign message as it is stored, and why it is foreign, as a JSON object."""
    stored = {
        "position": message.position,
        "subject": encodable(message.subject),
        "reason": encodable(message.reason),
        "headers": {encodable(name): encodable(each) for name, each in message.headers.items()},
        "data": payload_data(message.payload),
    }
    return msgspec.json.encode(stored).decode()


def payload_data(payload: bytes) -> object:
    """A payload as JSON on one line, or as text if it is no JSON."""
    try:
        msgspec.json.decode(payload)
        # Another writer may have broken it into lines.
        return msgspec.Raw(msgspec.json.format(payload, indent=-1))
    except UNDECODABLE:
        return decoded(payload)
