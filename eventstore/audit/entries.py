"""Audit entries: events and commands in one form."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

Kind = Literal["command", "event"]
Status = Literal["success", "rejected", "error"]
Order = Literal["newest", "oldest"]


class AuditEntry(Struct, frozen=True, kw_only=True):
    """An event, or a command with its outcome.

    `time` is when an event was decided, or when a command was accepted. A command's `version` and
    `position` are its aggregate's after it. Only commands have `status`, `code`, `message`,
    `finished_at` and `deliveries`, only events `schema_version` and `chain`. Unknown fields of a
    command are None.
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
        """The sort key: the time; at the same time commands first, then events in log order.

        A cause precedes its effect as far as the clocks of the processes agree.
        """
        is_event = self.kind == "event"
        return self.time, is_event, self.position if is_event else 0, self.id
