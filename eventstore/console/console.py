"""The console as an ASGI application, for a server of its own or to be mounted in another one."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AsyncExitStack
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from eventstore.application.components import running
from eventstore.application.declaration import Declaration
from eventstore.concurrency.resource import Resource
from eventstore.config import Settings, load_settings
from eventstore.console.access import FindVisitor
from eventstore.console.desk import Desk
from eventstore.console.pages import ROUTES
from eventstore.console.problems import Problem
from eventstore.console.security import Protection
from eventstore.errors import ConfigurationError

_STATIC = Path(__file__).parent / "static"
_STOP_SECONDS = 3.0


class Console(Resource):
    """The console of an application: an ASGI application, and an async context manager.

    `settings` are those of the connection, and the table `console`, by default the environment's.
    It connects with them, and shows and does what their NATS user may. Mounted in another
    application, it is to be entered in that one's lifespan:

        console = Console(app, visitor=visitor_of)

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with console:
                yield

        web = Starlette(routes=[Mount("/console", console)], lifespan=lifespan)

    `visitor` says who sent a request and what this visitor may do, None if nobody may see
    anything; by default the settings' logins do. `hosts` are the names that it answers to, None
    for any. `is_local` asserts that nobody but the machine's own users reach it, which is why it
    may do without logins.

    Raises `ConfigurationError` if there are neither logins nor a `visitor`, unless it is local.
    """

    def __init__(
        self,
        app: Declaration,
        settings: Settings | None = None,
        *,
        visitor: FindVisitor | None = None,
        hosts: Collection[str] | None = None,
        is_local: bool = False,
    ) -> None:
        chosen = app.settings(load_settings() if settings is None else settings)
        if not (is_local or visitor is not None or chosen.console.has_logins):
            raise ConfigurationError(
                "the console needs logins where others can reach it: set console.tokens_file, or "
                "console.login_header behind a reverse proxy"
            )
        self._desk = Desk(app, chosen, visitor)
        self._asgi = Protection(_application(self._desk), hosts)

    async def connected(self) -> None:
        """Return when it has been connected to a server since it was entered."""
        await self._desk.connection.ready.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or, without another application around it, run its lifespan."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._asgi(scope, receive, send)

    async def _enter(self, stack: AsyncExitStack) -> None:
        self._desk.closing.clear()
        parts = self._desk.connection, self._desk.sampler
        await stack.enter_async_context(running(*parts, grace=_STOP_SECONDS))
        stack.callback(self._desk.closing.set)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    def end_streams(self) -> None:
        """End the streams of live events, so that a server can stop."""
        self._desk.closing.set()


def _application(desk: Desk) -> ASGIApp:
    static = Mount("/static", StaticFiles(directory=_STATIC))
    made = Starlette(
        routes=[*ROUTES, static],
        exception_handlers={HTTPException: _refused},
    )
    made.state.desk = desk
    return made


async def _refused(request: Request, error: Exception) -> Response:
    desk: Desk = request.app.state.desk
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = "The console has no page at this address, or not for this method."
    return desk.problem(request, Problem.with_status(status, text))
