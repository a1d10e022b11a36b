"""Aggregates: the events of one, what each changed, and the state at any version."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

from msgspec.structs import replace
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from eventstore.audit import (
    GetHistory,
    HistoryStarts,
    HistoryView,
    SearchAudit,
    StepView,
    aggregate_history,
)
from eventstore.console.desk import Desk
from eventstore.console.forms import whole_number, word
from eventstore.console.pages.endpoint import route, visitor_of
from eventstore.console.pages.stories import aggregates_of, hidden_texts
from eventstore.console.source import ANSWER_SECONDS, Source
from eventstore.errors import (
    AnswerTooLarge,
    HistoryTooLong,
    NoResponders,
    PermissionDenied,
    QueryNotFound,
    RequestTimeout,
    StreamMissing,
)
from eventstore.messages.subjects import check_aggregate_id

STEPS = 20
"""How many events a page shows with what each changed."""

MAX_FOLDED = 5_000
"""How many events are read for a state without being asked for."""

HIDDEN = "(personal data)"
"""What is shown in place of a value that a visitor may not see."""

_FOLD_SECONDS = 120.0


class _Asked(NamedTuple):
    """What is asked for; `read` is "all" to verify all of it, or "more" to read as many as needed.

    Of an aggregate with `total` events. By default all is read if these are few.
    """

    aggregate: str
    aggregate_id: str
    at: int | None
    total: int
    read: str | None

    @property
    def is_whole(self) -> bool:
        return self.read == "all" or (self.total <= MAX_FOLDED and self.read is None)

    @property
    def max_events(self) -> int | None:
        return None if self.is_whole or self.read == "more" else MAX_FOLDED


async def _index(request: Request, desk: Desk) -> Response:
    aggregate, aggregate_id = word(request, "aggregate"), word(request, "id")
    if aggregate is not None and aggregate_id is not None:
        return desk.go(request, "/aggregates", aggregate, aggregate_id)
    query = SearchAudit(kind="event", aggregate=aggregate, limit=200)
    found = (await desk.source.queries.ask(query, timeout=ANSWER_SECONDS)).data
    latest: dict[tuple[Any, Any], Any] = {}
    for entry in found.items:
        latest.setdefault((entry.aggregate, entry.aggregate_id), entry)
    return desk.page(
        request,
        "aggregates",
        entries=list(latest.values()),
        aggregate=aggregate,
        aggregates=aggregates_of(desk),
    )


async def _show(request: Request, desk: Desk) -> Response:
    aggregate = request.path_params["aggregate"]
    desk.domain.codec.check_aggregate(aggregate)
    aggregate_id = check_aggregate_id(request.path_params["id"])
    source = desk.source
    total = await _version(source, aggregate, aggregate_id)
    at = whole_number(word(request, "at"), "at")
    if word(request, "read") not in (None, "more", "all"):
        raise HTTPException(400, "read is more, or all, or left out.")
    asked = _Asked(aggregate, aggregate_id, at, total, word(request, "read"))
    history, is_far = await _history(source, asked)
    total = max(total, 0 if history is None else history.version + history.later)
    if history is not None and _is_hidden(request, desk, aggregate):
        history = _without_personal(desk, history)
    query = SearchAudit(aggregate=aggregate, aggregate_id=aggregate_id)
    rejected = replace(query, kind="command", status="rejected", limit=STEPS)
    listed = replace(query, kind="event", limit=STEPS, after=word(request, "after"))
    refusals = (await _searched(source, rejected)).items
    if not (total or refusals or (history is not None and history.chain.events)):
        raise QueryNotFound(f"{aggregate} {aggregate_id} has no events and no rejected commands")
    return desk.page(
        request,
        "aggregate",
        aggregate=aggregate,
        aggregate_id=aggregate_id,
        total=total,
        at=total if at is None else min(at, total),
        history=history,
        is_hidden=_is_hidden(request, desk, aggregate),
        is_far=is_far,
        read=asked.read,
        steps=STEPS,
        listed=None if history else await _searched(source, listed),
        rejected=hidden_texts(request, desk, refusals),
    )


async def _version(source: Source, aggregate: str, aggregate_id: str) -> int:
    """The number of its events by the audit index; 0 if that does not answer."""
    newest = SearchAudit(kind="event", aggregate=aggregate, aggregate_id=aggregate_id, limit=1)
    found = (await _searched(source, newest)).items
    return int(found[0].version) if found else 0


async def _searched(source: Source, query: SearchAudit) -> Any:
    return (await source.queries.ask(query, timeout=ANSWER_SECONDS)).data


async def _history(source: Source, asked: _Asked) -> tuple[HistoryView | None, bool]:
    """The history; if there is none, whether that is because too many events had to be read.

    Of the service, or else from the log: None if this user may read neither. The service answers
    with what its keys open; of the log, this process's own.
    """
    try:
        return await _answered(source, asked), False
    except HistoryTooLong:
        return None, True
    except RequestTimeout as error:  # which a reload would only repeat
        raise HTTPException(
            504,
            f"Its events could not be read within {_FOLD_SECONDS:.0f} s. The service keeps states "
            "on the way, so that it may succeed if you try again, unless the events have personal "
            "data. `eventstore audit history` takes as long as it needs.",
        ) from error


async def _answered(source: Source, asked: _Asked) -> HistoryView | None:
    query = GetHistory(
        aggregate=asked.aggregate,
        id=asked.aggregate_id,
        at=asked.at,
        limit=STEPS,
        from_snapshot=not asked.is_whole,
        max_events=asked.max_events,
    )
    with suppress(AnswerTooLarge, NoResponders):
        return (await source.queries.ask(query, timeout=_FOLD_SECONDS)).data
    with suppress(PermissionDenied, NoResponders, StreamMissing):
        return await aggregate_history(
            *(source.client, source.domain, asked.aggregate, asked.aggregate_id),
            at=asked.at,
            limit=STEPS,
            starts=None if asked.is_whole else HistoryStarts(),
            max_events=asked.max_events,
        )
    return None


def _is_hidden(request: Request, desk: Desk, aggregate: str) -> bool:
    """Whether the visitor may not see the state of this kind of aggregate."""
    if visitor_of(request).sees_personal:
        return False
    events = desk.domain.codec.event_types
    return any(desk.personal[each.__name__] for each in events if each.__aggregate__ == aggregate)


def _without_personal(desk: Desk, history: HistoryView) -> HistoryView:
    """The history without personal data: fields of events, and all that is made of them."""
    return replace(
        history, state=None, steps=tuple(_step_without(desk, each) for each in history.steps)
    )


def _step_without(desk: Desk, step: StepView) -> StepView:
    data = step.data
    if isinstance(data, dict):
        names = {each.key for each in desk.personal.get(step.type, ())}
        data = {name: HIDDEN if name in names else value for name, value in data.items()}
    return replace(step, data=data, changes=())


ROUTES = [route("/aggregates", _index), route("/aggregates/{aggregate}/{id}", _show)]
