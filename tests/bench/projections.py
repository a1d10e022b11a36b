"""Catching up: projects a log into rows and checkpoints in SQLite and in PostgreSQL."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from eventstore import (
    NO_STREAM,
    EventStore,
    connect,
    declare,
    load_settings,
    nix,
    running,
    topology,
)
from eventstore.projections.audit import audit
from eventstore.projections.database.database import Database
from eventstore.projections.projection import Projection
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.server.embedded import EmbeddedServer
from projections import nix_migrations, nix_projections
from tests import postgresql_server as postgresql
from tests.bench.report import Measurement, collected
from tests.bench.size import sized
from tests.bench.store import event

FLAKES = sized(2_000, 500)
INPUTS = 9
END = FLAKES * (INPUTS + 1)


async def measure() -> AsyncIterator[Measurement]:
    """How fast the Nix domain's read models catch up, for each kind of database."""
    codec = nix.domain().codec
    with tempfile.TemporaryDirectory() as directory, ExitStack() as servers:
        locations = {"SQLite": str(Path(directory) / "read.sqlite")}
        if postgresql.programs() is not None:
            server = servers.enter_context(postgresql.PostgresqlServer())
            locations["PostgreSQL"] = await server.create()
        async with EmbeddedServer(Path(directory)) as nats:
            settings = load_settings(nats_url=nats.url, environ={})
            async with connect(settings) as client, EventStore(client, codec) as store:
                await declare(client, topology(codec.subjects, settings.streams))
                for number in range(FLAKES):
                    created = nix.FlakeCreated(path=f"./{number}", description="")
                    events = [created, *(event(each) for each in range(INPUTS))]
                    await store.append("flake", f"f{number}", events, expected=NO_STREAM)
                for kind, location in locations.items():
                    name = f"six read models catch up, {kind}"
                    yield await _catch_up(name, store, location, nix_projections())
                path = str(Path(directory) / "audited.sqlite")
                name = "six read models and the audit index catch up, SQLite"
                yield await _catch_up(name, store, path, (*nix_projections(), audit))


async def _catch_up(
    name: str, store: EventStore, location: str, projections: Sequence[Projection]
) -> Measurement:
    """Until the rows of a new database reflect the log."""
    async with Database(location, migrations=nix_migrations()) as database:
        await database.migrate()
        worker = ProjectionWorker(store, database, projections)
        began, used = time.perf_counter(), time.process_time()
        async with running(worker):
            await worker.wait(END, timeout=120)
            seconds, cpu = time.perf_counter() - began, time.process_time() - used
            return Measurement(name=name, rate=END / seconds, cpu={"worker": cpu / END * 1e6})


def main() -> list[Measurement]:
    """Run the benchmark."""
    return collected(measure())


if __name__ == "__main__":
    main()
