"""Confirmations: a page that asks before anything is changed, and the change itself."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from eventstore.console.access import Visitor
from eventstore.console.actions import ACTIONS, Action, Target, carry_out
from eventstore.console.desk import Desk
from eventstore.console.forms import read_form, whole_number
from eventstore.console.pages.endpoint import route, visitor_of

_MAX_NAME = 200


async def _ask(request: Request, desk: Desk) -> Response:
    action, target = _asked(request)
    return desk.page(
        request,
        "confirm",
        action=action,
        question=action.question.format(name=target.name, number=target.number),
        back=action.page.format(name=target.name),
    )


async def _act(request: Request, desk: Desk) -> Response:
    action, target = _asked(request)
    form = await read_form(request)
    visitor = visitor_of(request)
    is_own = desk.access.is_form_token(form.get("form_token", ""), visitor.nonce)
    if not (is_own and _is_same_site(request)):
        raise HTTPException(403, "The form is not from this session: go back, and try again.")
    done = await carry_out(desk.source, request.path_params["action"], target)
    return desk.go(request, action.page.format(name=target.name), done=done)


def _asked(request: Request) -> tuple[Action, Target]:
    """What is to be done to what; raises `HTTPException` if that is not said, or no right."""
    action = ACTIONS.get(request.path_params["action"])
    if action is None:
        raise HTTPException(404, "There is no such action.")
    name = request.query_params.get("name", "")
    number = whole_number(request.query_params.get("number"), "number") or 0
    if len(name) > _MAX_NAME or ("{name}" in action.question) != bool(name):
        raise HTTPException(400, "The address does not say to what this is to be done.")
    if "{number}" in action.question and not number:
        raise HTTPException(400, "The address does not say to what this is to be done.")
    visitor = visitor_of(request)
    _check_right(visitor, action)
    return action, Target(name, number, visitor.name)


def _check_right(visitor: Visitor, action: Action) -> None:
    if not visitor.may_act:
        raise HTTPException(
            403,
            f"{visitor.name} may look, and not {action.title.lower()} anything: the setting "
            "console.operators names those who may.",
        )


def _is_same_site(request: Request) -> bool:
    """Whether the browser says that a page of this console sent the form, if it says anything."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


ROUTES = [
    route("/act/{action}", _ask),
    route("/act/{action}", _act, methods=("POST",)),
]
