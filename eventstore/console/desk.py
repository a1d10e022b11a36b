"""The desk that all pages are made at: what they need, and how they become answers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from eventstore.application.declaration import Declaration
from eventstore.config.settings import Settings
from eventstore.console import charts, text
from eventstore.console.access import SESSION_SECONDS, Access, FindVisitor, Visitor, cookie_name
from eventstore.console.actions import ACTIONS
from eventstore.console.connection import Connection
from eventstore.console.problems import Problem
from eventstore.console.sampler import Sampler
from eventstore.console.source import Source
from eventstore.messages.personal import personal_fields

PAGES = {
    "/": "Overview",
    "/stories": "Stories",
    "/aggregates": "Aggregates",
    "/projections": "Projections",
    "/parked": "Parked",
    "/timers": "Timers",
    "/processes": "Processes",
    "/actions": "Actions",
    "/live": "Live",
    "/schemas": "Schemas",
}
"""The pages of the menu, by their paths."""

_REFRESH_SECONDS = "5"


class Desk:
    """What pages are made with: an application, a connection, samples, and access.

    `personal` are the fields with personal data, by the event's name. `watchers` is how many
    browsers are sent events; `closing` is set when they have to end.
    """

    def __init__(self, app: Declaration, settings: Settings, find: FindVisitor | None) -> None:
        self.app = app
        self.domain = app.domain.renamed(settings.nats.subject_prefix or app.name)
        self.access = Access(settings.console, find)
        self.connection = Connection(settings, f"{self.domain.name}-console")
        self.sampler = Sampler(self.connection, self.domain.codec.subjects)
        events = self.domain.codec.event_types
        self.personal = {each.__name__: personal_fields(each) for each in events}
        self.watchers = 0
        self.closing = asyncio.Event()
        self._environment = _environment()

    @property
    def source(self) -> Source:
        """What pages read from; raises an `EventStoreError` if there is no server yet."""
        return Source(self.connection.client, self.domain)

    @property
    def has_personal(self) -> bool:
        """Whether events of the domain have personal data."""
        return any(self.personal.values())

    def page(self, request: Request, template: str, *, code: int = 200, **values: Any) -> Response:
        """A page from a template, with the session's cookie if the visitor has none yet."""
        cookie = None if self.access.has_session(request) else self.access.new_session()
        nonce = self.access.session_nonce(cookie or request.cookies[cookie_name(request)])
        visitor: Visitor | None = getattr(request.state, "visitor", None)
        rendered = self.fragment(
            request,
            template,
            page_path=path_of(request),
            visitor=visitor,
            can_log_out=self.access.has_form,
            form_token=self.access.form_token(nonce),
            domain=self.domain.name,
            done=self._done(request),
            **values,
        )
        answer = HTMLResponse(rendered, code)
        if cookie is not None:
            self.set_cookie(request, answer, cookie)
        return answer

    def fragment(self, request: Request, template: str, **values: Any) -> str:
        """A part of a page."""
        made = self._environment.get_template(f"{template}.html")
        return made.render(url=partial(url, request), **values)

    def problem(self, request: Request, problem: Problem) -> Response:
        """A page about an error, which is reloaded by itself where that may help."""
        answer = self.page(request, "problem", code=problem.status, problem=problem)
        if problem.passes and request.method == "GET":
            answer.headers["Refresh"] = _REFRESH_SECONDS
        return answer

    def set_cookie(self, request: Request, answer: Response, value: str) -> None:
        """Give a session to the visitor."""
        answer.set_cookie(
            cookie_name(request),
            value,
            max_age=SESSION_SECONDS,
            path=prefix_of(request) or "/",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )

    def go(
        self, request: Request, path: str, *segments: object, done: str | None = None, **more: str
    ) -> Response:
        """Send the visitor to another page, which says what was done."""
        if done is not None:
            more |= {"done": done, "sign": self._sign(done)}
        return RedirectResponse(url(request, path, *segments, **more), 303)

    def _done(self, request: Request) -> str | None:
        """What was done, if this console says so."""
        done = request.query_params.get("done", "")
        return done if done and request.query_params.get("sign") == self._sign(done) else None

    def _sign(self, done: str) -> str:
        return self.access.form_token(f"done:{done}")[:16]


def prefix_of(request: Request) -> str:
    """The path that the console is mounted at; "" at the top."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def path_of(request: Request) -> str:
    """The path of a page below the mount."""
    return request.url.path.removeprefix(prefix_of(request)) or "/"


def url(request: Request, path: str, *segments: object, **query: object) -> str:
    """The address of a page, below the mount; further segments of its path may be any text.

    Parts of the query that are None or empty are left out.
    """
    whole = "/".join((path.rstrip("/"), *(quote(str(each), safe="") for each in segments))) or "/"
    given = {name: str(value) for name, value in query.items() if value not in (None, "")}
    more = f"?{urlencode(given)}" if given else ""
    return f"{prefix_of(request)}{whole}{more}"


def _environment() -> Environment:
    """Templates that escape every value."""
    made = Environment(
        loader=PackageLoader("eventstore.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in (
        *("line", "block", "value", "json_block", "payload_block", "is_truncated", "moment"),
        *("exact", "machine_time", "since", "duration", "number", "size", "facts"),
    ):
        made.filters[name] = getattr(text, name)
    files = sorted((Path(__file__).parent / "static").iterdir())
    assets = hashlib.sha256(b"".join(each.read_bytes() for each in files)).hexdigest()[:8]
    globals_: Mapping[str, Any] = {
        "pages": PAGES,
        "actions": ACTIONS,
        "charts": charts,
        "assets": assets,
    }
    made.globals.update(globals_)
    return made
