"""The queries of an audit, and what they are answered with.

`trace` and `search` are answered from the audit index, `history` from the log itself.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from eventstore.audit.causation_tree import CausationTree
from eventstore.audit.chain_check import ChainReport
from eventstore.audit.diff import Change
from eventstore.audit.entries import Entry, Kind, Order, Status
from eventstore.messages.queries import ListQuery, Query

__all__ = ["GetHistory", "HistoryView", "SearchAudit", "StepView", "StopView", "TraceStory"]

_Text = Annotated[str, Meta(pattern=r"^[^\x00]*\Z")]  # PostgreSQL knows no text with a NUL
_Name = Annotated[str, Meta(pattern=r"^[^\x00]{1,128}\Z")]
_Instant = Annotated[datetime, Meta(tz=True)]


def _check_instant(name: str, time: datetime | None) -> None:
    try:
        if time is not None:
            time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{name}: {time} lies outside of the years 1 to 9999 in UTC") from error


class TraceStory(Query[CausationTree], subject="audit.trace"):
    """Tell the story that a message belongs to, as a tree of causes.

    `id` is that of a command or an event, a correlation id, or at least the first eight characters
    of one. At most `limit` messages are told, none of them more than `depth` causes deep.
    """

    id: _Text
    limit: Annotated[int, Meta(ge=1, le=100_000)] = 200
    depth: Annotated[int, Meta(ge=0)] | None = None


class SearchAudit(ListQuery[Entry], subject="audit.search"):
    """Find events and commands that fit everything that is given.

    `since` is included, `until` is not. With a `status`, only commands are meant. `actor` is what
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
        for name in ("since", "until"):
            _check_instant(name, getattr(self, name))

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Which kinds of entries can fit."""
        every: tuple[Kind, ...] = ("command",) if self.status else ("command", "event")
        return tuple(kind for kind in every if self.kind in (None, kind))


class StepView(Struct, frozen=True, kw_only=True):
    """An event, and what it changed in its aggregate's state.

    One that is `dropped` by an upcaster has no data, and changes nothing. `actor` is what the
    sender of its command claimed, `authenticated_as` who that was according to the server.
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
    """The event behind which the state is not known, and why: it cannot be read, or not follow.

    `type` is None where not even that can be read.
    """

    type: str | None
    version: int
    position: int
    reason: str


class HistoryView(Struct, frozen=True, kw_only=True):
    """The events of an aggregate up to some version, and its state then.

    `earlier` events came before the first of `steps`, `later` ones after the last. Where it ends
    before it should, `stopped` says at which event. `chain` is about all of them. `foreign` are the
    first positions on the aggregate's subject that hold no event of it: they were forged.
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


class GetHistory(Query[HistoryView], subject="audit.history"):
    """Tell what happened to an aggregate, up to a version or up to and with a time.

    All of it where neither is given; of its events then, the last `limit`.
    """

    aggregate: _Name
    id: _Name
    at: Annotated[int, Meta(ge=0)] | _Instant | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 50
