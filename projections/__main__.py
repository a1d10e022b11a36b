"""`python -m projections`: keep the read models of the Nix domain up to date, and nothing else.

A process of a fleet: its settings come from the environment, and the server and the streams must
exist. Several of them share the projections: each belongs to one process at a time. Ends with
status 0 on Ctrl-C or SIGTERM, 1 for an error.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from eventstore import EventStore, connect, load_settings, nix, running
from eventstore.errors import EventStoreError
from eventstore.projections.audit import CommandCollector, audit
from eventstore.projections.database import Database
from eventstore.projections.rebuild import auto_rebuild
from eventstore.projections.worker import ProjectionWorker
from projections import nix_projections


async def main() -> None:
    """Run until Ctrl-C or SIGTERM; raises `EventStoreError`."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    settings = load_settings()
    codec = nix.domain(settings.nats.subject_prefix).codec
    async with (
        Database(settings.read_model.database) as database,
        connect(settings) as client,
        EventStore(client, codec) as store,
    ):
        await database.migrate()
        rebuild = auto_rebuild(store, database)
        worker = ProjectionWorker(store, database, (*nix_projections(), audit), rebuild=rebuild)
        async with running(worker, CommandCollector(client, codec.subjects, database)):
            await stopped.wait()


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO)
    try:
        asyncio.run(main())
    except EventStoreError as error:
        sys.exit(f"error: {error}")
