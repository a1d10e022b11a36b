"""A rebuild in a process of its own, to be killed; see `main`."""

from __future__ import annotations

import asyncio
import sys

from eventstore import nix
from eventstore.client.client import connect
from eventstore.projections.database.database import Database
from eventstore.projections.rebuild.rebuild import Rebuild, RebuildProgress
from eventstore.store.store import EventStore
from projections.flakes import flakes
from tests.connection import settings_for


async def main(url: str, domain: str, location: str, batch: str) -> None:
    """Rebuild the flakes; prints phase, position, and the position from which it resumed."""
    async with (
        connect(settings_for(url, domain)) as client,
        EventStore(client, nix.domain(domain).codec) as store,
        Database(location) as database,
    ):

        def report(progress: RebuildProgress) -> None:
            print(progress.phase, progress.position, rebuild.started_at, flush=True)

        rebuild = Rebuild(store, database, flakes, batch=int(batch), on_progress=report)
        await rebuild.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
