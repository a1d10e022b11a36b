"""The projection that indexes every event, of whatever type and domain.

One that an upcaster has read as nothing at all is not among them.
"""

from __future__ import annotations

from sqlalchemy import insert

from eventstore.envelope import RecordedEvent
from eventstore.messages import Event
from projections.audit.models import audit_event
from projections.projection import Bound, Projection

__all__ = ["audit"]

audit = Projection("audit", tables=[audit_event])

_add = insert(audit_event)


@audit.handles
def indexed(_event: Event, recorded: RecordedEvent) -> Bound | None:
    """A row for the event as it was written, though it may be read as several."""
    if recorded.part:
        return None
    envelope = recorded.envelope
    return Bound(
        _add,
        {
            "position": recorded.position,
            "id": envelope.identity.id,
            "type": envelope.type,
            "aggregate": recorded.aggregate,
            "aggregate_id": recorded.aggregate_id,
            "version": recorded.version,
            "schema_version": envelope.schema_version,
            "time": recorded.time,
            "actor": envelope.actor,
            "correlation_id": envelope.identity.correlation_id,
            "causation_id": envelope.identity.causation_id,
            "chain": envelope.chain,
        },
    )
