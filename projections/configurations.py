"""The read model of configurations, their generations and their history."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, insert, select

from eventstore import RecordedEvent, nix
from eventstore.projections import BoundStatement, Projection
from projections.models import configuration, configuration_change, configuration_generation
from projections.rows import changed, created, last_event

configurations = Projection(
    "configurations", tables=[configuration, configuration_generation, configuration_change]
)

_record = insert(configuration_change)

# The event does not contain what was activated; the row of the configuration does.
_new = ("generation", "activation", "activated_at", "version", "position")
_activate = insert(configuration_generation).from_select(
    ["configuration_id", "modules", "overlays", *_new],
    select(
        configuration.c.id,
        configuration.c.modules,
        configuration.c.overlays,
        *(bindparam(f"new_{name}", type_=configuration_generation.c[name].type) for name in _new),
    ).where(configuration.c.id == bindparam("aggregate_id")),
)


@configurations.handles
def configuration_created(
    event: nix.ConfigurationCreated, recorded: RecordedEvent
) -> list[BoundStatement]:
    """A new configuration, never activated."""
    row = created(
        configuration,
        recorded,
        name=event.name,
        modules=event.modules,
        overlays=event.overlays,
        current_generation=0,
        last_generation=0,
    )
    return [row, _change(recorded)]


@configurations.handles
def configuration_updated(
    event: nix.ConfigurationUpdated, recorded: RecordedEvent
) -> list[BoundStatement]:
    """New modules and overlays; generations are unchanged."""
    row = changed(configuration, recorded, modules=event.modules, overlays=event.overlays)
    return [row, _change(recorded)]


@configurations.handles
def configuration_activated(
    event: nix.ConfigurationActivated, recorded: RecordedEvent
) -> list[BoundStatement]:
    """A new generation with the configuration's current modules and overlays."""
    row = changed(
        configuration,
        recorded,
        current_generation=event.generation,
        last_generation=event.generation,
        activated_at=recorded.time,
    )
    values = {
        "generation": event.generation,
        "activation": event.activation,
        "activated_at": recorded.time,
        **last_event(recorded),
    }
    new = {f"new_{name}": value for name, value in values.items()}
    generation = BoundStatement(_activate, {"aggregate_id": recorded.aggregate_id} | new)
    change = _change(recorded, generation=event.generation, activation=event.activation)
    return [row, generation, change]


@configurations.handles
def configuration_rolled_back(
    event: nix.ConfigurationRolledBack, recorded: RecordedEvent
) -> list[BoundStatement]:
    """An earlier generation is the current one; the later ones still exist."""
    row = changed(
        configuration,
        recorded,
        current_generation=event.to_generation,
        activated_at=recorded.time,
    )
    change = _change(
        recorded, generation=event.to_generation, from_generation=event.from_generation
    )
    return [row, change]


def _change(recorded: RecordedEvent, **values: Any) -> BoundStatement:
    row = {
        "configuration_id": recorded.aggregate_id,
        "change": recorded.type,
        "actor": recorded.envelope.actor,
        "event_id": recorded.id,
        "changed_at": recorded.time,
    }
    return BoundStatement(_record, row | last_event(recorded) | values)
