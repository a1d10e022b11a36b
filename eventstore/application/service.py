"""A running application, as those see it who work with it."""

from __future__ import annotations

from functools import cached_property

from eventstore.application.client import Requests
from eventstore.application.declaration import Declaration
from eventstore.application.read_process import ReadProcess
from eventstore.application.write_side import WriteSide
from eventstore.client.queries import QueryClient
from eventstore.config import ServiceIdentity, Settings
from eventstore.errors import ConfigurationError
from eventstore.projections.audit import CommandCollector
from eventstore.projections.database.database import Database
from eventstore.projections.queries.waiting import CheckpointPositions
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.service.http_server import HttpServer
from eventstore.telemetry import NO_TELEMETRY, Telemetry

__all__ = ["RunningApplication"]


class RunningApplication(Requests):
    """A running application: its connection, its database and the components that it runs.

    `database`, `projections` and the `collector` of commands for the audit index are None if the
    process does not run parts that need them. `read_process` is the second process, if there is
    one.
    """

    def __init__(
        self,
        app: Declaration,
        settings: Settings,
        identity: ServiceIdentity,
        write_side: WriteSide,
        database: Database | None,
        *,
        projections: ProjectionWorker | None = None,
        collector: CommandCollector | None = None,
        read_process: ReadProcess | None = None,
        http_server: HttpServer | None = None,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self.app = app
        self.settings = settings
        self.identity = identity
        self.domain = write_side.domain
        self.client = write_side.client
        self.store = write_side.store
        self.commands = write_side.commands
        self.worker = write_side.worker
        self.states = write_side.states
        self.snapshots = write_side.snapshots
        self.queries = QueryClient(self.client, self.domain.codec.subjects)
        self.database = database
        self.projections = projections
        self.collector = collector
        self.read_process = read_process
        self.http_server = http_server
        self.telemetry = telemetry

    @property
    def read_model(self) -> Database:
        """The database; raises `ConfigurationError` if no part of this process uses it."""
        if self.database is None:
            raise ConfigurationError(
                "this process has no read model: it runs neither projections nor queries"
            )
        return self.database

    @property
    def read_model_name(self) -> str:
        """The database's name without its password, in either process; "" if none uses one."""
        if self.read_process is not None:
            return self.read_process.read_model
        return "" if self.database is None else self.database.name

    @cached_property
    def positions(self) -> CheckpointPositions:
        """Waits for the read model's positions, read once for all waiters.

        Raises what `read_model` raises.
        """
        return CheckpointPositions(self.read_model, self.projections)

    async def wait(self, position: int, projection: str, timeout: float = 5.0) -> None:
        """Return once a projection has committed everything up to a position of the log.

        Raises `WaitTimeout` after `timeout` seconds, and what `CheckpointPositions.wait` raises.
        """
        await self.positions.wait(position, timeout, projection=projection)
