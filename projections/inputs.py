"""The read model of inputs across all flakes: which flakes use which, and at which url."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, select

from eventstore import RecordedEvent
from eventstore.nix import FlakeCreated, FlakeInputAdded, FlakeInputRemoved
from eventstore.projections import BoundStatement, Projection
from projections.models import input_use, input_user

inputs = Projection("inputs", tables=[input_user, input_use])


_columns = ("name", "url", "version", "position", "created_at")

_begin = insert(input_user)
_use = insert(input_use).from_select(
    ["flake_id", "path", *_columns],
    select(
        input_user.c.flake_id,
        input_user.c.path,
        *(bindparam(f"new_{name}", type_=input_use.c[name].type) for name in _columns),
    ).where(input_user.c.flake_id == bindparam("flake")),
)
_end_use = delete(input_use).where(
    input_use.c.flake_id == bindparam("flake"), input_use.c.name == bindparam("input")
)


@inputs.handles
def flake_created(event: FlakeCreated, recorded: RecordedEvent) -> BoundStatement:
    """A flake that may use inputs later; only its path is needed."""
    return BoundStatement(_begin, {"flake_id": recorded.aggregate_id, "path": event.path})


@inputs.handles
def input_added(event: FlakeInputAdded, recorded: RecordedEvent) -> BoundStatement:
    """One more flake uses this input at this url."""
    use = {
        "flake": recorded.aggregate_id,
        "new_name": event.name,
        "new_url": event.url,
        "new_version": recorded.version,
        "new_position": recorded.position,
        "new_created_at": recorded.time,
    }
    return BoundStatement(_use, use)


@inputs.handles
def input_removed(event: FlakeInputRemoved, recorded: RecordedEvent) -> BoundStatement:
    """The flake no longer uses the input."""
    return BoundStatement(_end_use, {"flake": recorded.aggregate_id, "input": event.name})
