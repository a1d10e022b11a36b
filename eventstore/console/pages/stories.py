"""Stories: events and commands that are searched, and what led to what within a correlation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, get_args

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from eventstore.audit import (
    AuditEntry,
    CausationEntry,
    CausationTree,
    SearchAudit,
    TraceCorrelation,
)
from eventstore.audit.chain_check import ChainReport
from eventstore.audit.entries import Kind, Status
from eventstore.audit.tree_check import check_tree
from eventstore.console.desk import Desk
from eventstore.console.forms import time_of, word
from eventstore.console.pages.endpoint import route, visitor_of
from eventstore.console.source import ANSWER_SECONDS, Source
from eventstore.errors import EventStoreError
from eventstore.jetstream.direct_get import DirectReader

PAGE = 50
MAX_LINES = 200
"""How many messages a tree shows; all of them are in the list of its correlation."""

_MAX_INDENTED = 8
_FILTERS = ("kind", "type", "aggregate", "aggregate_id", "actor", "correlation_id", "status")
_BAR = 100.0
_SMALLEST_BAR = 0.6


class Node(Struct, frozen=True, kw_only=True):
    """A message in a tree: how many lists are opened before it, and closed after the one before.

    `offset` is seconds after the beginning, `took` how long a command took until its outcome.
    `start` and `width` are those of its bar, in percent of the whole time.
    """

    line: CausationEntry
    opens: int
    closes: int
    is_flat: bool
    offset: float | None
    took: float | None
    start: float
    width: float


async def _search(request: Request, desk: Desk) -> Response:
    sought = word(request, "id")
    if sought is not None:
        return desk.go(request, "/stories", sought)
    given = {name: word(request, name) for name in _FILTERS}
    for name, kinds in (("kind", get_args(Kind)), ("status", get_args(Status))):
        if given[name] not in (None, *kinds):
            raise HTTPException(400, f"{name} is one of {', '.join(kinds)}, not {given[name]!r}.")
    times: dict[str, Any] = {
        name: time_of(word(request, name), name) for name in ("since", "until")
    }
    query = SearchAudit(**given, **times, limit=PAGE, after=word(request, "after"))  # type: ignore[arg-type]
    found = await desk.source.queries.ask(query, timeout=ANSWER_SECONDS)
    codec = desk.domain.codec
    return desk.page(
        request,
        "stories",
        entries=hidden_texts(request, desk, found.data.items),
        next=found.data.next,
        position=found.position,
        given={**given, "since": word(request, "since"), "until": word(request, "until")},
        is_first=query.after is None,
        types=sorted(each.__name__ for each in (*codec.command_types, *codec.event_types)),
        aggregates=aggregates_of(desk),
    )


async def _story(request: Request, desk: Desk) -> Response:
    view = word(request, "view") or "tree"
    if view not in ("tree", "timeline"):
        raise HTTPException(400, f"view is tree or timeline, not {view[:80]!r}.")
    source = desk.source
    query = TraceCorrelation(id=request.path_params["id"], limit=MAX_LINES)
    tree = (await source.queries.ask(query, timeout=ANSWER_SECONDS)).data
    lines = [_hidden_line(request, desk, line) for line in tree.lines]
    chains, unverified = await _verified(source, tree)
    return desk.page(
        request,
        "story",
        tree=tree,
        nodes=nodes(lines),
        view=view,
        began=min((each.entry.time for each in lines if each.entry), default=None),
        chains=chains,
        broken=[each for each in chains if each.problem is not None],
        unverified=unverified,
        max_lines=MAX_LINES,
    )


async def _verified(
    source: Source, tree: CausationTree
) -> tuple[Sequence[ChainReport], str | None]:
    """The reports on the chains of a tree's aggregates; or why there are none."""
    reader = DirectReader(source.client, source.subjects.log_stream, timeout=ANSWER_SECONDS)
    try:
        return await check_tree(reader, source.subjects, tree), None
    except EventStoreError as error:
        return (), str(error)


def nodes(lines: Sequence[CausationEntry]) -> list[Node]:
    """The lines of a tree, with what draws them as nested lists and as bars over time."""
    times = [each.entry.time for each in lines if each.entry is not None]
    ends = [each.entry.finished_at or each.entry.time for each in lines if each.entry is not None]
    began = min(times, default=None)
    whole = (max(ends) - began).total_seconds() if began is not None else 0.0
    made: list[Node] = []
    depth = -1
    for line in lines:
        offset, took = _times(line.entry, began)
        start = _BAR * offset / whole if whole and offset is not None else 0.0
        width = _BAR * took / whole if whole and took is not None else 0.0
        made.append(
            Node(
                line=line,
                opens=max(0, line.depth - depth),
                closes=max(0, depth - line.depth),
                is_flat=line.depth > _MAX_INDENTED,
                offset=offset,
                took=took,
                start=min(start, _BAR - _SMALLEST_BAR),
                width=max(width, _SMALLEST_BAR),
            )
        )
        depth = line.depth
    return made


def _times(entry: AuditEntry | None, began: datetime | None) -> tuple[float | None, float | None]:
    if entry is None or began is None:
        return None, None
    offset = (entry.time - began).total_seconds()
    if entry.finished_at is None:
        return offset, None
    return offset, max(0.0, (entry.finished_at - entry.time).total_seconds())


def _hidden_line(request: Request, desk: Desk, line: CausationEntry) -> CausationEntry:
    if line.entry is None:
        return line
    (entry,) = hidden_texts(request, desk, [line.entry])
    return msgspec.structs.replace(line, entry=entry)


def hidden_texts(
    request: Request, desk: Desk, entries: Sequence[AuditEntry]
) -> tuple[AuditEntry, ...]:
    """The entries, without the texts of rejections if they may be personal data."""
    if visitor_of(request).sees_personal or not desk.has_personal:
        return tuple(entries)
    return tuple(msgspec.structs.replace(each, message=None) for each in entries)


def aggregates_of(desk: Desk) -> list[str]:
    """The kinds of aggregates of the domain, for suggestions."""
    return sorted({each.__aggregate__ for each in desk.domain.codec.event_types})


ROUTES = [route("/stories", _search), route("/stories/{id}", _story)]
