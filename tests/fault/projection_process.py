"""A projection worker in a process of its own, to be killed: `... URL DOMAIN DATABASE`."""

from __future__ import annotations

import asyncio
import sys

from eventstore import nix
from eventstore.client.client import connect
from eventstore.projections.database.database import Database
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.store.store import EventStore
from projections import nix_projections
from tests.connection import settings_for

BATCH = 200


async def main(url: str, domain: str, location: str) -> None:
    """Follow the log to its end; prints the position after each transaction."""
    async with (
        connect(settings_for(url, domain)) as client,
        EventStore(client, nix.domain(domain).codec) as store,
        Database(location) as database,
    ):

        def moved(position: int, pending: int) -> None:
            print(position, flush=True)
            if not pending:
                worker.stop()

        worker = ProjectionWorker(
            store, database, nix_projections(), batch=BATCH, on_progress=moved
        )
        await worker.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
