"""The audit queries and their results.

`trace` and `search` are answered from the audit index, `history` from the log itself.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from eventstore.audit.causation_tree import CausationTree
from eventstore.audit.chain_check import ChainReport
from eventstore.audit.diff import Change
from eventstore.audit.entries import AuditEntry, Kind, Order, Status
from eventstore.messages.queries import ListQuery, Query

_Text = Annotated[str, Meta(pattern=r"^[^\x00]*\Z")]  # PostgreSQL has no text with a NUL
_Name = Annotated[str, Meta(pattern=r"^[^\x00]{1,128}\Z")]
_Instant = Annotated[datetime, Meta(tz=True)]


class TraceCorrelation(Query[CausationTree], subject="audit.trace"):
    """Get all messages that are correlated with one, as a causation tree.

    `id` is the id of a command or an event, a correlation id, or at least the first eight
    characters of one. At most `limit` messages are listed, none more than `depth` causes deep.
    """

    __label__: ClassVar[str] = "TraceStory"  # its published name

    id: _Text
    limit: Annotated[int, Meta(ge=1, le=100_000)] = 200
    depth: Annotated[int, Meta(ge=0)] | None = None


class SearchAudit(ListQuery[AuditEntry], subject="audit.search"):
    """Find events and commands that match all given filters.

    `since` is inclusive, `until` exclusive. With a `status`, only commands match. `actor` is what
    senders claimed.
    """

    kind: Kind | None = None
    type: _Text | None = None
    aggregate: _Text | None = None
    aggregate_id: _Text | None = None
    actor: _Text | None = None
    correlation_id: _Text | None = None
    causation_id: _Text | None = None
    status: Status | None = None
    since: _Instant | None = None
    until: _Instant | None = None
    order: Order = "newest"

    def __post_init__(self) -> None:
        for name, time in (("since", self.since), ("until", self.until)):
            try:
                if time is not None:
                    time.astimezone(UTC)
            except OverflowError as error:
                text = f"{name}: {time} lies outside of the years 1 to 9999 in UTC"
                raise ValueError(text) from error

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of entries that can match."""
        every: tuple[Kind, ...] = ("command",) if self.status else ("command", "event")
        return tuple(kind for kind in every if self.kind in (None, kind))


class StepView(Struct, frozen=True, kw_only=True):
    """An event, and what it changed in its aggregate's state.

    An event that an upcaster `dropped` has no data and changes nothing. `actor` is what the sender
    of its command claimed, `authenticated_as` who that was according to the server.
    """

    id: str
    type: str
    version: int
    position: int
    time: datetime
    actor: str | None
    correlation_id: str
    causation_id: str
    data: Any
    changes: tuple[Change, ...]
    dropped: bool = False
    authenticated_as: str | None = None


class StopView(Struct, frozen=True, kw_only=True):
    """The event at which the fold ended, and the reason: it cannot be read, or not be applied.

    `type` is None if not even that can be read.
    """

    type: str | None
    version: int
    position: int
    reason: str


class HistoryView(Struct, frozen=True, kw_only=True):
    """The events of an aggregate up to some version, and its state then.

    `earlier` is the number of events before the first of `steps`, `later` of those after the last.
    If the fold ended early, `stopped` is the event it ended at. `began` is the version of the
    snapshot or kept state that the fold began with: steps up to there have no changes. `chain` is
    about all events, unless it is not complete: then about those that were read. `foreign` are the
    first positions of forged messages among these.
    """

    aggregate: str
    aggregate_id: str
    version: int
    state: Any
    steps: tuple[StepView, ...]
    earlier: int
    later: int
    chain: ChainReport
    stopped: StopView | None = None
    foreign: tuple[int, ...] = ()
    began: int = 0


class GetHistory(Query[HistoryView], subject="audit.history", omit_defaults=True):
    """Get the history of an aggregate, up to a version or up to and including a time.

    All of it if neither is given; of its events, the last `limit`. All events are read, and the
    chain is verified. With `from_snapshot`, only those after a snapshot, or after a state that the
    service has kept of an earlier answer, and up to `at`. If more than `max_events` would have to
    be read, it is refused with `history_too_long`.
    """

    aggregate: _Name
    id: _Name
    at: Annotated[int, Meta(ge=0)] | _Instant | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 50
    from_snapshot: bool = False  # omitted by default, as earlier releases do not know it
    max_events: Annotated[int, Meta(ge=1)] | None = None
