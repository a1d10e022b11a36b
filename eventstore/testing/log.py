"""The log of a scenario: messages as they are after they were stored, without a server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from eventstore.errors import InvalidPayload
from eventstore.messages.envelope import Envelope, Identity, derive_id, format_timestamp
from eventstore.messages.events import LogEvent, RecordedEvent
from eventstore.messages.fidelity import difference
from eventstore.messages.opaque import OpaqueEvent
from eventstore.messages.subjects import AggregateId, check_aggregate_id
from eventstore.messages.types import Command, Event

START = datetime(2026, 1, 1, tzinfo=UTC)
"""When commands are decided by default; also the time of the event at position 1.

Each further event is a second later.
"""

CORRELATION = "00000000-0000-4000-8000-000000000001"
"""The correlation id of all events."""

L = TypeVar("L", bound=LogEvent)
M = TypeVar("M", Event, Command)


def round_trip(message: M) -> M:
    """A message, encoded and decoded; raises `InvalidPayload` if that loses something."""
    decoded = msgspec.json.decode(msgspec.json.encode(message), type=type(message))
    if lost := difference(message, decoded):
        raise InvalidPayload(f"payload of {type(message).__name__}: {lost}")
    return decoded


def with_events(
    log: tuple[L, ...],
    aggregate_id: AggregateId,
    events: Iterable[Event],
    *,
    actor: str | None = None,
    time: datetime | None = None,
) -> tuple[L | RecordedEvent, ...]:
    """A log and further events of one aggregate; raises `InvalidId`, and what `round_trip` does."""
    own_id = check_aggregate_id(aggregate_id)
    longer: tuple[L | RecordedEvent, ...] = log
    for data in events:
        longer += (next_event(longer, own_id, data, actor=actor, time=time),)
    return longer


def next_event(
    log: Sequence[LogEvent],
    aggregate_id: str,
    data: Event,
    *,
    actor: str | None = None,
    time: datetime | None = None,
) -> RecordedEvent:
    """An event as it would be recorded at the end of a log; raises what `round_trip` does."""
    cls = type(data)
    about = next_record(
        *(log, cls.__aggregate__, aggregate_id, cls.__name__),
        schema_version=cls.__schema_version__,
        actor=actor,
        time=time,
    )
    return RecordedEvent(**about, data=round_trip(data), payload=msgspec.json.encode(data))


def next_opaque(
    log: Sequence[LogEvent],
    aggregate: str,
    aggregate_id: str,
    data: OpaqueEvent,
    *,
    actor: str | None = None,
    time: datetime | None = None,
) -> RecordedEvent:
    """An opaque event at the end of a log; raises `InvalidMessage` for an illegal one."""
    own = data.checked().own_headers
    about = next_record(
        *(log, aggregate, aggregate_id, data.type),
        actor=actor,
        time=time,
        content_type=data.content_type,
        opaque=own,
    )
    return RecordedEvent(**about, data=data, payload=data.payload)


def next_record(
    log: Sequence[LogEvent],
    aggregate: str,
    aggregate_id: str,
    type_name: str,
    *,
    schema_version: int = 1,
    actor: str | None = None,
    time: datetime | None = None,
    **more: Any,
) -> dict[str, Any]:
    """All but the data of an event at the end of a log; `more` is for its envelope."""
    position = len(log) + 1
    key = (aggregate, aggregate_id)
    version = 1 + Counter((each.aggregate, each.aggregate_id) for each in log)[key]
    envelope = Envelope(
        identity=Identity(derive_id(CORRELATION, str(position)), CORRELATION, CORRELATION),
        type=type_name,
        domain="test",
        timestamp=format_timestamp(time or START + timedelta(seconds=position - 1)),
        aggregate_id=aggregate_id,
        schema_version=schema_version,
        version=version,
        actor=actor,
        **more,
    )
    return {
        "envelope": envelope,
        "aggregate": aggregate,
        "aggregate_id": aggregate_id,
        "version": version,
        "position": position,
        "headers": envelope.to_headers(),
    }
