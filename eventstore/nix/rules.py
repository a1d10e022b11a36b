"""Rules that more than one kind of aggregate holds, and the state that modules and overlays share.

Each breach raises `Rejected` with one of the stable codes that `eventstore.nix` lists.
"""

from __future__ import annotations

from msgspec import Struct

from eventstore import Rejected

__all__ = ["Source", "require_existing", "require_new", "require_text"]


class Source(Struct, frozen=True):
    """A named piece of Nix source; a deleted one keeps its name, not its content."""

    exists: bool = False
    deleted: bool = False
    name: str = ""
    content: str = ""


def require_new(what: str, *, exists: bool, deleted: bool = False) -> None:
    """Raise `Rejected` with `already_exists` or `deleted` unless `what` can be created."""
    if deleted:
        raise Rejected("deleted", f"this {what} was deleted; its id is not used again")
    if exists:
        raise Rejected("already_exists", f"this {what} already exists")


def require_existing(what: str, *, exists: bool, deleted: bool = False) -> None:
    """Raise `Rejected` with `not_found` or `deleted` unless `what` is there."""
    if deleted:
        raise Rejected("deleted", f"this {what} was deleted")
    if not exists:
        raise Rejected("not_found", f"this {what} does not exist; create it first")


def require_text(**fields: str | None) -> None:
    """Raise `Rejected` with `invalid`, naming the field, where one is empty or only space.

    None is an optional field that was left out, and passes.
    """
    for name, value in fields.items():
        if value is not None and not value.strip():
            raise Rejected("invalid", f"{name} must not be empty")
