"""The high-water mark: what a process has seen of the log, whoever has appended it."""

from __future__ import annotations

from eventstore.client.client import Client
from eventstore.messages.codec import Codec
from eventstore.store.store import EventStore
from tests.integration.ledger import Deposited


async def test_what_others_have_appended_is_seen_at_the_next_comparison(
    store: EventStore, client: Client, codec: Codec
) -> None:
    async with EventStore(client, codec) as other:
        await other.append("account", "a", [Deposited(amount=1), Deposited(amount=2)])
    assert store.high_water.mark is None
    await store.high_water.catch_up()
    assert store.high_water.mark == await store.mark_at(2)
