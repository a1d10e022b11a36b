"""Processes: which run, have ended or have failed, and what each has done."""

from __future__ import annotations

from msgspec.structs import replace
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from eventstore.console.desk import Desk
from eventstore.console.forms import whole_number, word
from eventstore.console.pages.endpoint import route
from eventstore.console.pages.parked import is_hidden
from eventstore.console.source import ANSWER_SECONDS
from eventstore.messages.envelope import utc_now
from eventstore.processes import GetProcess, ListProcesses, ProcessStatus

PAGE = 50
STEPS = 100
"""How many steps of a process a page shows, the last ones."""


async def _index(request: Request, desk: Desk) -> Response:
    status = word(request, "status")
    if status not in (None, "failed"):
        raise HTTPException(400, f"status is failed, or left out, not {status[:80]!r}.")
    query = ListProcesses(
        process=word(request, "process"),
        failed=status == "failed",
        before=whole_number(word(request, "before"), "before", least=1),
        limit=PAGE,
    )
    found = (await desk.source.queries.ask(query, timeout=ANSWER_SECONDS)).data
    return desk.page(
        request,
        "processes",
        found=found,
        given={"process": query.process, "status": status},
        older={} if query.failed else _older(found.items),
        is_first=query.before is None,
        now=utc_now(),
    )


def _older(items: list[ProcessStatus]) -> dict[str, int]:
    """Where the lists of those kinds go on of which there may be more."""
    by_kind: dict[str, list[int]] = {}
    for each in items:
        by_kind.setdefault(each.process, []).append(each.position)
    return {kind: min(found) for kind, found in by_kind.items() if len(found) == PAGE}


async def _show(request: Request, desk: Desk) -> Response:
    query = GetProcess(
        process=request.path_params["process"], key=request.path_params["key"], limit=STEPS
    )
    found = (await desk.source.queries.ask(query, timeout=ANSWER_SECONDS)).data
    hidden = is_hidden(request, desk)
    steps = [replace(each, reason="") if hidden else each for each in found.steps]
    return desk.page(
        request,
        "process",
        status=found.status,
        steps=steps[::-1],
        earlier=found.earlier,
        now=utc_now(),
    )


ROUTES = [route("/processes", _index), route("/processes/{process}/{key}", _show)]
