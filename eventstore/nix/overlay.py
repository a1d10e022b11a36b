"""Overlays: named Nix source that changes the packages a configuration sees."""

from __future__ import annotations

from msgspec import structs

from eventstore import Command, Decider, Event
from eventstore.nix.rules import Source, require_existing, require_new, require_text


class CreateOverlay(Command, subject="overlay.create", creates=True):
    """Create an overlay; its content may be empty, its name may not."""

    name: str
    content: str


class UpdateOverlay(Command, subject="overlay.update"):
    """Replace the content of an overlay."""

    content: str


class DeleteOverlay(Command, subject="overlay.delete"):
    """Delete an overlay; its id cannot be reused."""


class OverlayCreated(Event, subject="overlay.created"):
    """An overlay was created."""

    name: str
    content: str


class OverlayUpdated(Event, subject="overlay.updated"):
    """An overlay's content changed."""

    content: str


class OverlayDeleted(Event, subject="overlay.deleted"):
    """An overlay was deleted."""


class Overlay(Source, frozen=True):
    """The state of an overlay."""


overlay = Decider("overlay", initial=Overlay, snapshot_every=100)


@overlay.decides
def create(overlay: Overlay, command: CreateOverlay) -> OverlayCreated:
    """Rejects with `already_exists`, `deleted` (also when created again) or `invalid` (no name)."""
    require_new("overlay", exists=overlay.exists, deleted=overlay.deleted)
    require_text(name=command.name)
    return OverlayCreated(name=command.name, content=command.content)


@overlay.decides
def update(overlay: Overlay, command: UpdateOverlay) -> OverlayUpdated | None:
    """Rejects with `not_found` or `deleted`; identical content yields no event."""
    require_existing("overlay", exists=overlay.exists, deleted=overlay.deleted)
    return None if command.content == overlay.content else OverlayUpdated(content=command.content)


@overlay.decides
def delete(overlay: Overlay, command: DeleteOverlay) -> OverlayDeleted:
    """Rejects with `not_found` or `deleted`."""
    require_existing("overlay", exists=overlay.exists, deleted=overlay.deleted)
    return OverlayDeleted()


@overlay.evolves
def created(overlay: Overlay, event: OverlayCreated) -> Overlay:
    """The overlay as created."""
    return Overlay(exists=True, name=event.name, content=event.content)


@overlay.evolves
def updated(overlay: Overlay, event: OverlayUpdated) -> Overlay:
    """The overlay with its new content."""
    return structs.replace(overlay, content=event.content)


@overlay.evolves
def deleted(overlay: Overlay, event: OverlayDeleted) -> Overlay:
    """Only the name remains."""
    return Overlay(deleted=True, name=overlay.name)
