"""Endpoints: a page's function, for visitors who may see it, with errors as pages."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from eventstore.console.access import Visitor
from eventstore.console.desk import Desk
from eventstore.console.problems import Problem
from eventstore.errors import EventStoreError
from eventstore.messages.text import make_log_records_safe

_logger = make_log_records_safe(logging.getLogger(__name__))

Handler = Callable[[Request, Desk], Awaitable[Response]]

_CONTINUE = """<!doctype html><html lang="en"><title>Console</title>
<p><a href="{0}">Continue to the console</a></p>"""


def desk_of(request: Request) -> Desk:
    """The desk of the console that answers a request."""
    desk: Desk = request.app.state.desk
    return desk


def visitor_of(request: Request) -> Visitor:
    """Who sent a request that `route` has let through."""
    visitor: Visitor = request.state.visitor
    return visitor


def route(path: str, handler: Handler, *, methods: tuple[str, ...] = ("GET",)) -> Route:
    """A route for visitors who are known; others are sent to the login."""

    async def endpoint(request: Request) -> Response:
        desk = desk_of(request)
        visitor = desk.access.visitor(request)
        if visitor is None:
            return _log_in(request, desk)
        request.state.visitor = visitor
        return await handler(request, desk)

    return open_route(path, endpoint, methods=methods)


def open_route(
    path: str,
    endpoint: Callable[[Request], Awaitable[Response]],
    *,
    methods: tuple[str, ...] = ("GET",),
) -> Route:
    """A route for everybody; errors become pages, of which none shows a traceback."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except EventStoreError as error:
            problem = Problem.of(error)
        except HTTPException as error:
            problem = Problem.with_status(error.status_code, error.detail)
        except Exception:  # of a page, which must not end the connection of others
            _logger.exception("console: %s %s failed", request.method, request.url.path)
            problem = Problem.with_status(500, "This is a fault of the console; its log says more.")
        return desk_of(request).problem(request, problem)

    return Route(path, answered, methods=methods)


def _log_in(request: Request, desk: Desk) -> Response:
    if request.headers.get("sec-fetch-site") == "cross-site" and request.method == "GET":
        # A link from elsewhere comes without the strict cookie; one from here has it.
        here = str(request.url.replace(scheme="", netloc=""))
        safe = here.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        return HTMLResponse(_CONTINUE.format(safe), headers={"Refresh": "0"})
    is_part = "hx-request" in request.headers  # whose page is to be loaded again
    if desk.access.has_form and request.method == "GET" and not is_part:
        return desk.go(request, "/login", to=str(request.url.replace(scheme="", netloc="")))
    text = "The reverse proxy in front of this console did not say who you are."
    if desk.access.has_form:
        text = "Your session has ended: log in, and try again."
    return desk.problem(request, Problem.with_status(401, text))
