"""Machine configurations: their modules, overlays and generations."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct, structs

from eventstore import Command, Decider, Event, Rejected
from eventstore.nix.rules import require_existing, require_new, require_text

Activation = Literal["switch", "boot", "test"]
"""How a configuration is activated, as `nixos-rebuild` names it."""


class CreateConfiguration(Command, subject="config.create", creates=True):
    """Create a configuration from modules and overlays."""

    name: str
    modules: list[str]
    overlays: list[str] = msgspec.field(default_factory=list)


class UpdateConfiguration(Command, subject="config.update"):
    """Replace the modules, the overlays or both; an absent list is unchanged."""

    modules: list[str] | None = None
    overlays: list[str] | None = None


class ActivateConfiguration(Command, subject="config.activate"):
    """Activate the configuration as a new generation."""

    activation: Activation


class RollbackConfiguration(Command, subject="config.rollback"):
    """Go back to an earlier generation: the previous one if `generation` is absent."""

    generation: int | None = None


class ConfigurationCreated(Event, subject="config.created"):
    """A configuration was created."""

    name: str
    modules: list[str]
    overlays: list[str]


class ConfigurationUpdated(Event, subject="config.updated"):
    """The configuration has these modules and overlays; both lists are complete."""

    modules: list[str]
    overlays: list[str]


class ConfigurationActivated(Event, subject="config.activated"):
    """The configuration was activated as this generation."""

    generation: int
    activation: Activation


class ConfigurationRolledBack(Event, subject="config.rolled_back"):
    """The configuration went back to an earlier generation."""

    from_generation: int
    to_generation: int


class Configuration(Struct, frozen=True):
    """The state of a configuration.

    Generations 1 to `last_generation` exist; `current_generation` is the active one. Both are 0
    before the first activation.
    """

    exists: bool = False
    name: str = ""
    modules: tuple[str, ...] = ()
    overlays: tuple[str, ...] = ()
    current_generation: int = 0
    last_generation: int = 0


configuration = Decider("config", initial=Configuration, snapshot_every=100)


@configuration.decides
def create(configuration: Configuration, command: CreateConfiguration) -> ConfigurationCreated:
    """Rejects with `already_exists`, or with `invalid` if a name is empty.

    The order of modules and overlays is preserved. They are names that Nix resolves, not aggregates
    that have to exist here.
    """
    require_new("configuration", exists=configuration.exists)
    require_text(name=command.name)
    _require_names(command.modules, command.overlays)
    return ConfigurationCreated(
        name=command.name, modules=command.modules, overlays=command.overlays
    )


@configuration.decides
def update(
    configuration: Configuration, command: UpdateConfiguration
) -> ConfigurationUpdated | None:
    """Rejects with `not_found`, or with `invalid` if a name is empty.

    Absent lists are unchanged; if nothing changes there is no event.
    """
    require_existing("configuration", exists=configuration.exists)
    modules = list(configuration.modules) if command.modules is None else command.modules
    overlays = list(configuration.overlays) if command.overlays is None else command.overlays
    _require_names(modules, overlays)
    if (tuple(modules), tuple(overlays)) == (configuration.modules, configuration.overlays):
        return None
    return ConfigurationUpdated(modules=modules, overlays=overlays)


@configuration.decides
def activate(
    configuration: Configuration, command: ActivateConfiguration
) -> ConfigurationActivated:
    """Rejects with `not_found`.

    Each activation, of any kind, creates the generation after the last one ever created, so no
    number is used twice after a rollback.
    """
    require_existing("configuration", exists=configuration.exists)
    return ConfigurationActivated(
        generation=configuration.last_generation + 1, activation=command.activation
    )


@configuration.decides
def rollback(
    configuration: Configuration, command: RollbackConfiguration
) -> ConfigurationRolledBack:
    """Rejects with `not_found`, `never_activated` or `generation_unknown`.

    Without a `generation` it goes to the one before the current one. Earlier means a smaller number
    than the current one, so a rollback of a rollback goes further back, never forward.
    """
    require_existing("configuration", exists=configuration.exists)
    current = configuration.current_generation
    if current == 0:
        raise Rejected("never_activated", "this configuration was never activated")
    target = current - 1 if command.generation is None else command.generation
    if not 1 <= target < current:
        raise Rejected(
            "generation_unknown", f"there is no generation {target} before the current, {current}"
        )
    return ConfigurationRolledBack(from_generation=current, to_generation=target)


@configuration.evolves
def created(configuration: Configuration, event: ConfigurationCreated) -> Configuration:
    """A configuration without generations."""
    return Configuration(
        exists=True,
        name=event.name,
        modules=tuple(event.modules),
        overlays=tuple(event.overlays),
    )


@configuration.evolves
def updated(configuration: Configuration, event: ConfigurationUpdated) -> Configuration:
    """The new modules and overlays, which are not active yet."""
    return structs.replace(
        configuration, modules=tuple(event.modules), overlays=tuple(event.overlays)
    )


@configuration.evolves
def activated(configuration: Configuration, event: ConfigurationActivated) -> Configuration:
    """The new generation is the current one and the last one."""
    return structs.replace(
        configuration, current_generation=event.generation, last_generation=event.generation
    )


@configuration.evolves
def rolled_back(configuration: Configuration, event: ConfigurationRolledBack) -> Configuration:
    """Only the current generation changes; later ones still exist."""
    return structs.replace(configuration, current_generation=event.to_generation)


def _require_names(modules: list[str], overlays: list[str]) -> None:
    for name in modules:
        require_text(modules=name)
    for name in overlays:
        require_text(overlays=name)
