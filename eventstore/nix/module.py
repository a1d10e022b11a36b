"""Modules: named Nix source that configurations are built from."""

from __future__ import annotations

from msgspec import structs

from eventstore import Command, Decider, Event
from eventstore.nix.rules import Source, require_existing, require_new, require_text


class CreateModule(Command, subject="module.create", creates=True):
    """Create a module; its content may be empty, its name may not."""

    name: str
    content: str


class UpdateModule(Command, subject="module.update"):
    """Replace the content of a module."""

    content: str


class DeleteModule(Command, subject="module.delete"):
    """Delete a module; its id cannot be reused."""


class ModuleCreated(Event, subject="module.created"):
    """A module was created."""

    name: str
    content: str


class ModuleUpdated(Event, subject="module.updated"):
    """A module's content changed."""

    content: str


class ModuleDeleted(Event, subject="module.deleted"):
    """A module was deleted."""


class Module(Source, frozen=True):
    """The state of a module."""


module = Decider("module", initial=Module, snapshot_every=100)


@module.decides
def create(module: Module, command: CreateModule) -> ModuleCreated:
    """Rejects with `already_exists`, `deleted` (also when created again) or `invalid` (no name)."""
    require_new("module", exists=module.exists, deleted=module.deleted)
    require_text(name=command.name)
    return ModuleCreated(name=command.name, content=command.content)


@module.decides
def update(module: Module, command: UpdateModule) -> ModuleUpdated | None:
    """Rejects with `not_found` or `deleted`; identical content yields no event."""
    require_existing("module", exists=module.exists, deleted=module.deleted)
    return None if command.content == module.content else ModuleUpdated(content=command.content)


@module.decides
def delete(module: Module, command: DeleteModule) -> ModuleDeleted:
    """Rejects with `not_found` or `deleted`."""
    require_existing("module", exists=module.exists, deleted=module.deleted)
    return ModuleDeleted()


@module.evolves
def created(module: Module, event: ModuleCreated) -> Module:
    """The module as created."""
    return Module(exists=True, name=event.name, content=event.content)


@module.evolves
def updated(module: Module, event: ModuleUpdated) -> Module:
    """The module with its new content."""
    return structs.replace(module, content=event.content)


@module.evolves
def deleted(module: Module, event: ModuleDeleted) -> Module:
    """Only the name remains."""
    return Module(deleted=True, name=module.name)
