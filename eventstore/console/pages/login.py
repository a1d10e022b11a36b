"""The login: a token is exchanged for a session's cookie."""

from __future__ import annotations

import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from eventstore.console.access import cookie_name
from eventstore.console.desk import prefix_of, url
from eventstore.console.forms import read_form
from eventstore.console.pages.endpoint import desk_of, open_route
from eventstore.messages.text import make_log_records_safe

_logger = make_log_records_safe(logging.getLogger(__name__))


async def _show(request: Request) -> Response:
    desk = desk_of(request)
    if not desk.access.has_form:
        raise HTTPException(404, "There is no login by a token here.")
    return desk.page(request, "login", to=request.query_params.get("to", ""), failed=False)


async def _log_in(request: Request) -> Response:
    desk = desk_of(request)
    form = await read_form(request)
    name = desk.access.name_of(form.get("token", "").strip())
    to = form.get("to", "")
    if name is None:
        _logger.warning("console: a login with a wrong token was refused")
        return desk.page(request, "login", code=401, to=to, failed=True)
    _logger.warning("console: %s has logged in", name)
    answer = RedirectResponse(to if _is_own(request, to) else url(request, "/"), 303)
    desk.set_cookie(request, answer, desk.access.new_session(name))
    return answer


async def _log_out(request: Request) -> Response:
    answer = RedirectResponse(url(request, "/"), 303)
    answer.delete_cookie(cookie_name(request), path=prefix_of(request) or "/")
    return answer


def _is_own(request: Request, to: str) -> bool:
    """Whether an address is a page of this console, and no other site's."""
    return to.startswith(f"{prefix_of(request)}/") and not to.startswith(("//", "/\\"))


ROUTES = [
    open_route("/login", _show),
    open_route("/login", _log_in, methods=("POST",)),
    open_route("/logout", _log_out, methods=("POST",)),
]
