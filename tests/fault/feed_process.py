"""A feed in a process of its own, to be killed: `python -m tests.fault.feed_process URL DOMAIN`."""

from __future__ import annotations

import asyncio
import sys

from eventstore.client.client import connect
from eventstore.projections.feed.feed import Feed
from eventstore.store.store import EventStore
from tests.connection import settings_for
from tests.integration.ledger import ledger


async def main(url: str, domain: str) -> None:
    """Publish until killed; prints a line when it starts."""
    codec = ledger(domain)
    async with (
        connect(settings_for(url, domain)) as client,
        EventStore(client, codec) as store,
        asyncio.TaskGroup() as tasks,
    ):
        feed = Feed(client, store, batch=100, standby=0.05)
        tasks.create_task(feed.run())
        await feed.ready.wait()
        print("feeding", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
