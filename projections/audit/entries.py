"""What the audit index holds, as one kind of thing: an entry is an event, or a command."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Select, Table, and_, or_, select

from eventstore.errors import ProjectionError
from projections.audit.models import audit_command, audit_event

__all__ = ["COLUMNS", "Cursor", "Entry", "Filter", "InvalidCursor", "Kind", "Order", "Status"]

Kind = Literal["command", "event"]
Status = Literal["success", "rejected", "error"]
Order = Literal["newest", "oldest"]


class InvalidCursor(ProjectionError):
    """A cursor that no search has given."""

    code = "invalid_cursor"


class Entry(Struct, frozen=True, kw_only=True):
    """An event, or a command with its outcome.

    `time` is when an event was decided, or when a command was accepted. A command's `version` and
    `position` are its aggregate's after it. `status`, `code`, `message`, `finished_at` and
    `deliveries` are a command's only, `schema_version` and `chain` an event's. What is not known
    of a command is None.
    """

    kind: Kind
    id: str
    type: str | None
    aggregate: str | None
    aggregate_id: str | None
    version: int
    position: int
    time: datetime
    actor: str | None
    correlation_id: str | None
    causation_id: str | None
    status: Status | None = None
    code: str | None = None
    message: str | None = None
    finished_at: datetime | None = None
    deliveries: int | None = None
    schema_version: int | None = None
    chain: str | None = None

    @classmethod
    def of(cls, kind: Kind, row: Mapping[str, Any]) -> Entry:
        """The entry that a row is."""
        return cls(kind=kind, **row)

    @property
    def order(self) -> tuple[datetime, int, int, str]:
        """What entries are sorted by: the time; at the same one commands, and then the log's order.

        A cause comes before its effect where the clocks of those who took part agree.
        """
        return Cursor.of(self).order


COLUMNS = tuple(field for field in Entry.__struct_fields__)
"""The names of all that an entry has."""


class Cursor(Struct, frozen=True, array_like=True):
    """A place between two entries, in the order of time."""

    time: datetime
    kind: Kind
    key: int | str

    @classmethod
    def of(cls, entry: Entry) -> Cursor:
        """The place after an entry, in whichever order one goes."""
        return cls(entry.time, entry.kind, entry.position if entry.kind == "event" else entry.id)

    @property
    def order(self) -> tuple[datetime, int, int, str]:
        """What the entry at this place is sorted by."""
        is_event = isinstance(self.key, int)
        return (
            self.time,
            int(is_event),
            self.key if isinstance(self.key, int) else 0,
            "" if isinstance(self.key, int) else self.key,
        )

    def to_text(self) -> str:
        """As a text without blanks, to be given back later."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")

    @classmethod
    def from_text(cls, text: str) -> Cursor:
        """Read what `to_text` made; raises `InvalidCursor`."""
        try:
            padded = text.encode() + b"=" * (-len(text) % 4)
            cursor = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=cls)
        except (ValueError, msgspec.MsgspecError) as error:
            raise InvalidCursor(f"{text[:80]!r} is no cursor that a search has given") from error
        if isinstance(cursor.key, int) != (cursor.kind == "event") or cursor.time.tzinfo is None:
            raise InvalidCursor(f"{text[:80]!r} is no cursor that a search has given")
        return cursor


class Filter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which entries are meant: all that fit everything that is given.

    `since` is included, `until` is not. With a `status`, only commands are meant.
    """

    kind: Kind | None = None
    type: str | None = None
    aggregate: str | None = None
    aggregate_id: str | None = None
    actor: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    status: Status | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Which kinds of entries can fit."""
        every: tuple[Kind, ...] = ("command",) if self.status else ("command", "event")
        return tuple(kind for kind in every if self.kind in (None, kind))

    def select(self, kind: Kind) -> Select[Any]:
        """The entries of one kind that fit, unsorted."""
        table = TABLES[kind]
        return select(table).where(*self._conditions(table))

    def _conditions(self, table: Table) -> list[ColumnElement[bool]]:
        names = (
            "type",
            "aggregate",
            "aggregate_id",
            "actor",
            "correlation_id",
            "causation_id",
            "status",
        )
        given = {name: getattr(self, name) for name in names}
        found = [table.c[name] == value for name, value in given.items() if value is not None]
        if self.since is not None:
            found.append(table.c.time >= self.since)
        if self.until is not None:
            found.append(table.c.time < self.until)
        return found


TABLES: Mapping[Kind, Table] = {"command": audit_command, "event": audit_event}


def ordered(query: Select[Any], kind: Kind, order: Order, after: Cursor | None) -> Select[Any]:
    """The query's entries of one kind in their order, those after a place only."""
    table = TABLES[kind]
    key = table.c.position if kind == "event" else table.c.id
    if order == "newest":
        query = query.order_by(table.c.time.desc(), key.desc())
    else:
        query = query.order_by(table.c.time, key)
    return query if after is None else query.where(_beyond(table, key, kind, order, after))


def _beyond(table: Table, key: Any, kind: Kind, order: Order, after: Cursor) -> ColumnElement[bool]:
    """What lies on the far side of a place: at its own time that hangs on kind and key."""
    later = order == "oldest"
    time = table.c.time
    past: ColumnElement[bool] = time > after.time if later else time < after.time
    if kind == after.kind:
        own = key > after.key if later else key < after.key
        return or_(past, and_(time == after.time, own))
    same_time_counts = (kind == "event") == later
    return or_(past, time == after.time) if same_time_counts else past
