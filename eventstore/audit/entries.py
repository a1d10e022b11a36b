"""What an audit is about, as one kind of thing: an entry is an event, or a command."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

__all__ = ["COLUMNS", "Entry", "Kind", "Order", "Status"]

Kind = Literal["command", "event"]
Status = Literal["success", "rejected", "error"]
Order = Literal["newest", "oldest"]


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

    @property
    def order(self) -> tuple[datetime, bool, int, str]:
        """What entries are sorted by: the time; at the same one commands, and then the log's order.

        A cause comes before its effect where the clocks of those who took part agree.
        """
        is_event = self.kind == "event"
        return self.time, is_event, self.position if is_event else 0, self.id


COLUMNS = Entry.__struct_fields__
"""The names of all that an entry has."""
