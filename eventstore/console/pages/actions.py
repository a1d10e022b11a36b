"""Actions: what was done here or by the command line, by whom, and how that ended."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from eventstore.actions import ListActions
from eventstore.console.actions import ACTIONS
from eventstore.console.desk import Desk
from eventstore.console.forms import time_of, word
from eventstore.console.pages.endpoint import route
from eventstore.console.source import ANSWER_SECONDS

PAGE = 50


async def _index(request: Request, desk: Desk) -> Response:
    given = {name: word(request, name) for name in ("actor", "action", "since", "until")}
    query = ListActions(
        actor=given["actor"],
        action=given["action"],
        since=time_of(given["since"], "since"),
        until=time_of(given["until"], "until"),
        limit=PAGE,
        after=word(request, "after"),
    )
    found = (await desk.source.queries.ask(query, timeout=ANSWER_SECONDS)).data
    return desk.page(
        request,
        "actions",
        found=found,
        given=given,
        is_first=query.after is None,
        known=sorted(ACTIONS),
    )


ROUTES = [route("/actions", _index)]
