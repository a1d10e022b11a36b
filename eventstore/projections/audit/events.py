"""The projection that indexes every event, of any type and domain, as it is stored.

It includes events that an upcaster drops, and those that this code cannot read.
"""

from __future__ import annotations

from sqlalchemy import insert

from eventstore.messages.events import StoredEvent
from eventstore.projections.audit.models import audit_event
from eventstore.projections.projection import BoundStatement, Projection

audit = Projection("audit", version=2, tables=[audit_event])
"""The projection that has a row for every event of the log."""

_add = insert(audit_event)


@audit.handles
def indexed(stored: StoredEvent) -> BoundStatement:
    """A row for the event as it was written."""
    envelope = stored.envelope
    return BoundStatement(
        _add,
        {
            "position": stored.position,
            "id": envelope.identity.id,
            "type": envelope.type,
            "aggregate": stored.aggregate,
            "aggregate_id": stored.aggregate_id,
            "version": stored.version,
            "schema_version": envelope.schema_version,
            "time": stored.time,
            "actor": envelope.actor,
            "correlation_id": envelope.identity.correlation_id,
            "causation_id": envelope.identity.causation_id,
            "chain": envelope.chain,
        },
    )
