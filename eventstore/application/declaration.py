"""The application: one declaration of a team's service, made at module level without a connection.

    app = Application(
        "shop",
        deciders=[order, stock],
        projections=[orders],
        queries=[order_queries],
        subscribers=[reservation],
        tables=[metadata],
        version="1.4.0",
    )

Everything else takes it: `eventstore --app shop.app:app serve`, another asyncio program, a client.

    async with app.running() as shop:
        outcome = await shop.execute(PlaceOrder(...), "o-1")
        view = await shop.ask(GetOrder(id="o-1"), wait_for=outcome.position)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventstore.application.parts import ALL_PARTS, Parts
from eventstore.config import ServiceIdentity, Settings, load_settings
from eventstore.decider.decider import Decider, Domain
from eventstore.errors import ConfigurationError
from eventstore.messages.envelope import utc_now
from eventstore.messages.queries import Query

if TYPE_CHECKING:  # a program that only sends needs no SQLAlchemy
    from sqlalchemy import MetaData

    from eventstore.application.client import ApplicationClient
    from eventstore.application.service import RunningApplication
    from eventstore.projections.projection import Projection
    from eventstore.projections.queries.queries import QueryHandlers
    from eventstore.subscribers.subscriber import EventSubscriber

    NewSubscriber = Callable[[RunningApplication], EventSubscriber]

_MADE_ONCE = "{0} {1} is given twice to application {2}"


class Application:
    """A named set of deciders and what is built on their events.

    `name` is the domain's name: the first token of every subject, unless the setting
    `nats.subject_prefix` overrules it. `service` is the name of the service in health and
    discovery, by default the same. `tables` are created at the start if they are missing; leave out
    those of your own migrations. `subscribers` are functions that make an `EventSubscriber` of a
    running application. `clock` says when a command is decided.

    Raises `DeciderError` for deciders that do not fit, and `ConfigurationError` for projections or
    queries that do not.
    """

    def __init__(
        self,
        name: str,
        deciders: Iterable[Decider[Any]],
        *,
        projections: Iterable[Projection] = (),
        queries: Iterable[QueryHandlers] = (),
        subscribers: Iterable[NewSubscriber] = (),
        tables: Iterable[MetaData] = (),
        version: str = "0.0.0",
        description: str = "",
        service: str | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.name = name
        self.domain = Domain(name, deciders)
        self.projections = tuple(projections)
        self.queries = tuple(queries)
        self.subscribers = tuple(subscribers)
        self.tables = tuple(tables)
        self.clock = clock
        self._identity = ServiceIdentity(service or name, version, description)
        self._check_projections()
        self._check_queries()

    @property
    def query_types(self) -> list[type[Query[Any]]]:
        """The queries that it answers, in the order of their declaration."""
        return [query for group in self.queries for query in group.handlers]

    def identity(self, settings: Settings) -> ServiceIdentity:
        """The service's name, version and description, if the settings do not overrule them."""
        return settings.nats.service.identity(self._identity)

    def settings(self, settings: Settings | None = None) -> Settings:
        """The settings, by default those of the environment, with the name as subject prefix.

        Raises `ConfigurationError`.
        """
        return (load_settings() if settings is None else settings).for_domain(self.name)

    @asynccontextmanager
    async def running(
        self,
        settings: Settings | None = None,
        *,
        directory: Path = Path("var"),
        parts: Parts = ALL_PARTS,
        **wanted: bool,
    ) -> AsyncIterator[RunningApplication]:
        """Run the service until the end of the block, or some of its parts.

        If no server is configured, an embedded one runs meanwhile with its data in `directory`.
        The parts (`Parts`) can be named: `running(worker=True, projections=False)`. The failure of
        a part, or of all projections, ends the block and is raised; a single projection that fails
        is logged, and health reports it. Raises `ConfigurationError` for an unknown part.
        """
        from eventstore.application.service import run_application

        chosen = parts.but(wanted)
        async with run_application(self, self.settings(settings), directory, chosen) as service:
            yield service

    def client(
        self, settings: Settings | None = None
    ) -> AbstractAsyncContextManager[ApplicationClient]:
        """Connect as a client, which sends commands, asks queries and reads events."""
        from eventstore.application.client import ApplicationClient

        return ApplicationClient(self.domain, self.settings(settings), clock=self.clock)

    def serve(self, settings: Settings | None = None, *, directory: Path = Path("var")) -> None:
        """Run the service as this process until Ctrl-C or SIGTERM; prints one line when ready.

        Runs on uvloop if that is installed. A second Ctrl-C ends the process immediately.
        """
        from eventstore.application.process import serve

        serve(self, self.settings(settings), directory)

    def _check_projections(self) -> None:
        tables = [table.key for each in self.projections for table in each.tables]
        names = [each.name for each in self.projections]
        for what, values in (("projection", names), ("table", tables)):
            for value in values:
                if values.count(value) > 1:
                    raise ConfigurationError(_MADE_ONCE.format(what, value, self.name))

    def _check_queries(self) -> None:
        known = {each.name for each in self.projections}
        subjects = [(query.__aggregate__, query.__action__) for query in self.query_types]
        for aggregate, action in subjects:
            if subjects.count((aggregate, action)) > 1:
                subject = f"{aggregate}.{action}"
                raise ConfigurationError(_MADE_ONCE.format("the query", subject, self.name))
        for group in self.queries:
            missing = set(group.projections) - known
            if missing:
                raise ConfigurationError(
                    f"application {self.name}: queries read the projection "
                    f"{', '.join(sorted(missing))}, which it does not have: add it to projections"
                )
