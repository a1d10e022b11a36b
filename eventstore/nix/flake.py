"""Flakes: where they are, and which inputs they have."""

from __future__ import annotations

from msgspec import Struct, structs

from eventstore import Command, Decider, Event, Rejected
from eventstore.nix.rules import require_existing, require_new, require_text

__all__ = [
    "AddFlakeInput",
    "CreateFlake",
    "Flake",
    "FlakeCreated",
    "FlakeInputAdded",
    "FlakeInputRemoved",
    "FlakeUpdated",
    "RemoveFlakeInput",
    "UpdateFlake",
    "flake",
]


class CreateFlake(Command, subject="flake.create", creates=True):
    """Make a flake known, perhaps one made from a template."""

    path: str
    description: str
    template: str | None = None


class UpdateFlake(Command, subject="flake.update"):
    """Lock inputs anew: those named, or all where `inputs` is absent."""

    inputs: list[str] | None = None


class AddFlakeInput(Command, subject="flake.add_input"):
    """Add an input under a name of its own."""

    name: str
    url: str


class RemoveFlakeInput(Command, subject="flake.remove_input"):
    """Remove an input."""

    name: str


class FlakeCreated(Event, subject="flake.created"):
    """A flake became known."""

    path: str
    description: str
    template: str | None = None


class FlakeUpdated(Event, subject="flake.updated"):
    """The named inputs were locked anew."""

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
    """Rejects with `already_exists`, or with `invalid` where the path is empty."""
    require_new("flake", exists=flake.exists)
    require_text(path=command.path)
    return FlakeCreated(
        path=command.path, description=command.description, template=command.template
    )


@flake.decides
def update(flake: Flake, command: UpdateFlake) -> FlakeUpdated | None:
    """Rejects with `not_found` or `input_unknown`.

    The event names each input once, in the order of their addition, however the command named
    them. Where there is nothing to update (no names given, or no inputs at all) there is no event.
    """
    require_existing("flake", exists=flake.exists)
    wanted = flake.inputs if command.inputs is None else command.inputs
    for name in wanted:
        _require_input(flake, name)
    inputs = [name for name in flake.inputs if name in wanted]
    return FlakeUpdated(inputs=inputs) if inputs else None


@flake.decides
def add_input(flake: Flake, command: AddFlakeInput) -> FlakeInputAdded | None:
    """Rejects with `not_found`, `invalid` (empty name or url) or `input_exists`.

    The same name with the same url again changes nothing: no event.
    """
    require_existing("flake", exists=flake.exists)
    require_text(name=command.name, url=command.url)
    known = flake.inputs.get(command.name)
    if known == command.url:
        return None
    if known is not None:
        raise Rejected("input_exists", f"input {command.name!r} already exists, with url {known}")
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
    """No change: what an input is locked to is the lock file's matter, not this state's."""
    return flake


@flake.evolves
def input_added(flake: Flake, event: FlakeInputAdded) -> Flake:
    """The new input comes last."""
    return structs.replace(flake, inputs={**flake.inputs, event.name: event.url})


@flake.evolves
def input_removed(flake: Flake, event: FlakeInputRemoved) -> Flake:
    """The others keep their order."""
    left = {name: url for name, url in flake.inputs.items() if name != event.name}
    return structs.replace(flake, inputs=left)


def _require_input(flake: Flake, name: str) -> None:
    if name not in flake.inputs:
        known = ", ".join(flake.inputs) or "none"
        raise Rejected("input_unknown", f"input {name!r} is unknown; known: {known}")
