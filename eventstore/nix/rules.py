"""Rules shared by several kinds of aggregates, and the state shared by modules and overlays.

Each violation raises `Rejected` with one of the stable codes that `eventstore.nix` lists.
"""

from __future__ import annotations

from msgspec import Struct

from eventstore import Rejected


class Source(Struct, frozen=True):
    """A named piece of Nix source; when deleted, only its name remains."""

    exists: bool = False
    deleted: bool = False
    name: str = ""
    content: str = ""


def require_new(kind: str, *, exists: bool, deleted: bool = False) -> None:
    """Raise `Rejected` with `already_exists` or `deleted` unless the aggregate can be created."""
    if deleted:
        raise Rejected("deleted", f"this {kind} was deleted; its id is not used again")
    if exists:
        raise Rejected("already_exists", f"this {kind} already exists")


def require_existing(kind: str, *, exists: bool, deleted: bool = False) -> None:
    """Raise `Rejected` with `not_found` or `deleted` unless the aggregate exists."""
    if deleted:
        raise Rejected("deleted", f"this {kind} was deleted")
    if not exists:
        raise Rejected("not_found", f"this {kind} does not exist; create it first")


def require_text(**fields: str | None) -> None:
    """Raise `Rejected` with `invalid`, naming the field, if one is empty or blank.

    None, an absent optional field, is accepted.
    """
    for name, value in fields.items():
        if value is not None and not value.strip():
            raise Rejected("invalid", f"{name} must not be empty")
