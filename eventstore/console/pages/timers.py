"""Timers: which commands the server keeps, and when they are due."""

from __future__ import annotations

from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response

from eventstore.console.desk import Desk
from eventstore.console.pages.endpoint import route
from eventstore.console.pages.parked import is_hidden
from eventstore.timers import Timer

MAX_TIMERS = 200
"""How many timers the page lists, in the order in which they were set."""


async def _index(request: Request, desk: Desk) -> Response:
    timers = desk.source.timers
    found: list[Timer] = []
    async with aclosing(timers.read()) as waiting:
        async for timer in waiting:
            found.append(timer)
            if len(found) == MAX_TIMERS:
                break
    counts = await timers.counts()
    return desk.page(
        request, "timers", timers=found, counts=counts, more=max(0, counts.waiting - len(found))
    )


async def _show(request: Request, desk: Desk) -> Response:
    timer = await desk.source.timers.get(request.path_params["name"])
    return desk.page(request, "timer", timer=timer, is_hidden=is_hidden(request, desk))


ROUTES = [route("/timers", _index), route("/timers/{name}", _show)]
