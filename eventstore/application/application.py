"""The application: one declaration of a team's service, made at module level without a connection.

    app = Application(
        "shop",
        deciders=[order, stock],
        projections=[orders],
        queries=[order_queries],
        subscribers=[reservation],
        processes=[fulfilment],
        version="1.4.0",
    )

Everything else takes it: `eventstore --app shop.app:app serve`, another asyncio program, a client.

    async with app.running() as shop:
        outcome = await shop.execute(PlaceOrder(...), "o-1")
        view = await shop.ask(GetOrder(id="o-1"), wait_for=outcome.position)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

from eventstore.application.declaration import Declaration
from eventstore.application.parts import Parts
from eventstore.concurrency.event_loop import run
from eventstore.config import Settings

if TYPE_CHECKING:  # a program that only sends needs no SQLAlchemy
    from eventstore.application.client import ApplicationClient
    from eventstore.application.service import RunningApplication


class Application(Declaration):
    """A service of one domain, declared: its deciders, and what is built on their events.

    `name` is the domain's name: the first token of every subject, unless the setting
    `nats.subject_prefix` overrules it. `service` is the name of the service in health and
    discovery, by default the same; `version` is a semantic version. The tables of the projections
    are created at the start if they are missing, unless there are `migrations`: those run at the
    start instead, and with `eventstore migrate`, after the library's. `tables` are created in
    either case: those that no projection has. `subscribers` are declared as `Subscriber`, whose
    handlers may take as keyword-only parameters `commands`, `queries`, `store`, `client` and
    `service` (the `RunningApplication`), or are functions that make an `EventSubscriber` of a
    running application; they and the `processes` are one part of it. `clock` says when a command
    is decided.

    Raises `DeciderError` for deciders that do not fit, `ConfigurationError` for projections,
    queries, subscribers or processes that do not, and `ProjectionError` for tables that are named
    as the library's.
    """

    @asynccontextmanager
    async def running(
        self,
        settings: Settings | None = None,
        *,
        directory: Path = Path("var"),
        worker: bool = True,
        projections: bool = True,
        queries: bool = True,
        feed: bool = True,
        subscribers: bool = True,
    ) -> AsyncIterator[RunningApplication]:
        """Run the service until the end of the block, or some of its parts.

        If no server is configured, an embedded one runs meanwhile with its data in `directory`.
        Parts can be left to other processes: `worker` carries out commands; `projections` keeps the
        read models and the audit index up to date; `queries` answers from them; `feed` publishes
        the events; `subscribers` handles them, and has processes react to them. Health, discovery
        and metrics are always there. What fails at the start is raised. Later, projections and
        subscribers fail alone: that is logged, health reports it, and they are run again; a
        projection that cannot take an event stops until somebody sets its checkpoint. The failure
        of any other part ends the block and is raised.
        """
        from eventstore.application.runner import run_application

        parts = Parts(
            worker=worker,
            projections=projections,
            queries=queries,
            feed=feed,
            subscribers=subscribers,
        )
        async with run_application(self, self.settings(settings), directory, parts) as service:
            yield service

    def client(
        self, settings: Settings | None = None
    ) -> AbstractAsyncContextManager[ApplicationClient]:
        """Connect as a client, which sends commands, asks queries and reads events."""
        from eventstore.application.client import ApplicationClient

        return ApplicationClient(self.domain, self.settings(settings), clock=self.clock)

    def cli(self) -> None:
        """Run the command line for this application, as a program of its own.

        It has the name and the version of the application, and no `--app`.
        """
        ours = distribution("jetstream-eventstore").entry_points
        (program,) = ours.select(group="console_scripts", name="eventstore")
        program.load()(self)

    def serve(
        self, settings: Settings | None = None, *, directory: Path = Path("var"), **parts: bool
    ) -> None:
        """Run the service as this process until Ctrl-C or SIGTERM; prints one line when ready.

        `parts` as in `running`. With `operations.processes` 2 in the settings, this program is
        started a second time, with the same arguments, for the read side: it has to reach this call
        again. Runs on uvloop if that is installed. A second Ctrl-C ends the
        process immediately.
        """
        from eventstore.application.process import serving

        run(serving(self, self.settings(settings), directory, parts=Parts(**parts)))
