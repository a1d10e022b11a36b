"""The read model of inputs across all flakes: which flakes use `nixpkgs`, and at which url."""

from __future__ import annotations

from sqlalchemy import BindParameter, bindparam, delete, exists, insert, literal, select, update

from eventstore.envelope import RecordedEvent
from eventstore.nix import FlakeCreated, FlakeInputAdded, FlakeInputRemoved
from projections.nix.models import input_source, input_use, input_user
from projections.nix.rows import last_event
from projections.projection import Bound, Projection

__all__ = ["inputs"]

inputs = Projection("inputs", tables=[input_user, input_use, input_source])


def _new(name: str) -> BindParameter[object]:
    return bindparam(f"new_{name}", type_=input_use.c[name].type)


_same_use = (
    input_use.c.flake_id == bindparam("flake"),
    input_use.c.name == bindparam("input"),
)
_same_source = (
    input_source.c.name == input_use.c.name,
    input_source.c.url == input_use.c.url,
)
_given = ("name", "url", "version", "position", "created_at")

_begin = insert(input_user)
_use = insert(input_use).from_select(
    ["flake_id", "path", *_given],
    select(input_user.c.flake_id, input_user.c.path, *map(_new, _given)).where(
        input_user.c.flake_id == bindparam("flake")
    ),
)
_first_use = insert(input_source).from_select(
    ["name", "url", "flakes", "created_at", "updated_at"],
    select(*input_use.c["name", "url"], literal(0), *input_use.c["created_at", "created_at"]).where(
        *_same_use, ~exists().where(*_same_source)
    ),
)
_count = (
    update(input_source)
    .where(*_same_source, *_same_use)
    .values(flakes=input_source.c.flakes + bindparam("more"), updated_at=bindparam("now"))
)
_end_use = delete(input_use).where(*_same_use)
_end_source = delete(input_source).where(
    input_source.c.name == bindparam("input"), input_source.c.flakes == 0
)


@inputs.handles
def flake_created(event: FlakeCreated, recorded: RecordedEvent) -> Bound:
    """A flake that may come to use inputs; only its path is of interest."""
    return Bound(_begin, {"flake_id": recorded.aggregate_id, "path": event.path})


@inputs.handles
def input_added(event: FlakeInputAdded, recorded: RecordedEvent) -> list[Bound]:
    """One more flake uses this input at this url."""
    row = {"name": event.name, "url": event.url, "created_at": recorded.time}
    new = {f"new_{name}": value for name, value in (row | last_event(recorded)).items()}
    same = {"flake": recorded.aggregate_id, "input": event.name}
    return [
        Bound(_use, {"flake": recorded.aggregate_id} | new),
        Bound(_first_use, same),
        Bound(_count, same | {"more": 1, "now": recorded.time}),
    ]


@inputs.handles
def input_removed(event: FlakeInputRemoved, recorded: RecordedEvent) -> list[Bound]:
    """One flake less uses it; an input that none uses at this url is not listed any more."""
    same = {"flake": recorded.aggregate_id, "input": event.name}
    return [
        Bound(_count, same | {"more": -1, "now": recorded.time}),
        Bound(_end_use, same),
        Bound(_end_source, {"input": event.name}),
    ]
