"""The read model of flakes and their inputs."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, update

from eventstore import RecordedEvent
from eventstore.nix import FlakeCreated, FlakeInputAdded, FlakeInputRemoved, FlakeUpdated
from eventstore.projections import BoundStatement, Projection
from projections.models import flake, flake_input
from projections.rows import changed, created, last_event

flakes = Projection("flakes", tables=[flake, flake_input])

_add = insert(flake_input)
_relock = update(flake_input).where(
    flake_input.c.flake_id == bindparam("aggregate_id"), flake_input.c.name == bindparam("input")
)
_remove = delete(flake_input).where(
    flake_input.c.flake_id == bindparam("aggregate_id"), flake_input.c.name == bindparam("input")
)


@flakes.handles
def flake_created(event: FlakeCreated, recorded: RecordedEvent) -> BoundStatement:
    """A new flake, without inputs."""
    return created(
        flake,
        recorded,
        path=event.path,
        description=event.description,
        template=event.template,
    )


@flakes.handles
def flake_updated(event: FlakeUpdated, recorded: RecordedEvent) -> list[BoundStatement]:
    """The lock of the named inputs was updated."""
    row = {"aggregate_id": recorded.aggregate_id, "updated_at": recorded.time}
    values = row | last_event(recorded)
    relocked = [BoundStatement(_relock, values | {"input": name}) for name in event.inputs]
    return [changed(flake, recorded), *relocked]


@flakes.handles
def input_added(event: FlakeInputAdded, recorded: RecordedEvent) -> list[BoundStatement]:
    """One more input."""
    time = recorded.time
    row = {
        "flake_id": recorded.aggregate_id,
        "name": event.name,
        "url": event.url,
        "created_at": time,
        "updated_at": time,
        "version": recorded.version,
        "position": recorded.position,
    }
    return [changed(flake, recorded), BoundStatement(_add, row)]


@flakes.handles
def input_removed(event: FlakeInputRemoved, recorded: RecordedEvent) -> list[BoundStatement]:
    """One input less."""
    named = {"aggregate_id": recorded.aggregate_id, "input": event.name}
    return [changed(flake, recorded), BoundStatement(_remove, named)]
