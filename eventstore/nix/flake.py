"""Flakes: their paths and their inputs."""

from __future__ import annotations

from msgspec import Struct, structs

from eventstore import Command, Decider, Event, Rejected
from eventstore.nix.rules import require_existing, require_new, require_text


class CreateFlake(Command, subject="flake.create", creates=True):
    """Register a flake, optionally one created from a template."""

    path: str
    description: str
    template: str | None = None


class UpdateFlake(Command, subject="flake.update"):
    """Update the lock of the named inputs, or of all inputs if `inputs` is absent."""

    inputs: list[str] | None = None


class AddFlakeInput(Command, subject="flake.add_input"):
    """Add an input under a new name."""

    name: str
    url: str


class RemoveFlakeInput(Command, subject="flake.remove_input"):
    """Remove an input."""

    name: str


class FlakeCreated(Event, subject="flake.created"):
    """A flake was registered."""

    path: str
    description: str
    template: str | None = None


class FlakeUpdated(Event, subject="flake.updated"):
    """The lock of the named inputs was updated."""

    inputs: list[str]


class FlakeInputAdded(Event, subject="flake.input_added"):
    """An input was added."""

    name: str
    url: str


class FlakeInputRemoved(Event, subject="flake.input_removed"):
    """An input was removed."""

    name: str


class Flake(Struct, frozen=True):
    """The state of a flake; `inputs` maps names to urls, in the order of their addition."""

    exists: bool = False
    path: str = ""
    description: str = ""
    template: str | None = None
    inputs: dict[str, str] = {}


flake = Decider("flake", initial=Flake, snapshot_every=100)


@flake.decides
def create(flake: Flake, command: CreateFlake) -> FlakeCreated:
    """Rejects with `already_exists`, or with `invalid` if the path is empty."""
    require_new("flake", exists=flake.exists)
    require_text(path=command.path)
    return FlakeCreated(
        path=command.path, description=command.description, template=command.template
    )


@flake.decides
def update(flake: Flake, command: UpdateFlake) -> FlakeUpdated | None:
    """Rejects with `not_found` or `input_unknown`.

    The event names each input once, in the order of addition, however the command named them.
    With nothing to update (no names given, or no inputs at all) there is no event.
    """
    require_existing("flake", exists=flake.exists)
    names = flake.inputs if command.inputs is None else command.inputs
    for name in names:
        _require_input(flake, name)
    inputs = [name for name in flake.inputs if name in names]
    return FlakeUpdated(inputs=inputs) if inputs else None


@flake.decides
def add_input(flake: Flake, command: AddFlakeInput) -> FlakeInputAdded | None:
    """Rejects with `not_found`, `invalid` (empty name or url) or `input_exists`.

    Adding the same name with the same url again is idempotent: no event.
    """
    require_existing("flake", exists=flake.exists)
    require_text(name=command.name, url=command.url)
    url = flake.inputs.get(command.name)
    if url == command.url:
        return None
    if url is not None:
        raise Rejected("input_exists", f"input {command.name!r} already exists, with url {url}")
    return FlakeInputAdded(name=command.name, url=command.url)


@flake.decides
def remove_input(flake: Flake, command: RemoveFlakeInput) -> FlakeInputRemoved:
    """Rejects with `not_found` or `input_unknown`."""
    require_existing("flake", exists=flake.exists)
    _require_input(flake, command.name)
    return FlakeInputRemoved(name=command.name)


@flake.evolves
def created(flake: Flake, event: FlakeCreated) -> Flake:
    """A flake without inputs."""
    return Flake(
        exists=True, path=event.path, description=event.description, template=event.template
    )


@flake.evolves
def updated(flake: Flake, event: FlakeUpdated) -> Flake:
    """No change: the lock file says what an input is locked to, the state does not."""
    return flake


@flake.evolves
def input_added(flake: Flake, event: FlakeInputAdded) -> Flake:
    """The new input comes last."""
    return structs.replace(flake, inputs={**flake.inputs, event.name: event.url})


@flake.evolves
def input_removed(flake: Flake, event: FlakeInputRemoved) -> Flake:
    """The others keep their order."""
    remaining = {name: url for name, url in flake.inputs.items() if name != event.name}
    return structs.replace(flake, inputs=remaining)


def _require_input(flake: Flake, name: str) -> None:
    if name not in flake.inputs:
        known = ", ".join(flake.inputs) or "none"
        raise Rejected("input_unknown", f"input {name!r} is unknown; known: {known}")
