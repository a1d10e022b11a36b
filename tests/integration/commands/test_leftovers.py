"""Commands that a server has kept though they were acknowledged, as after a full disk."""

from __future__ import annotations

import asyncio
from typing import Any

from eventstore.client.client import Client
from eventstore.commands.consumer import worker_consumer
from eventstore.commands.leftovers import Leftovers
from eventstore.commands.outcomes import Outcomes
from eventstore.config import Settings
from eventstore.jetstream.api import find_consumer, stream_info
from eventstore.jetstream.topology import declare_consumer
from eventstore.messages.outcome import Outcome
from examples import bank
from tests.connection import settings_for
from tests.integration.commanding import until

BOUND = 45.0


async def pass_over(client: Client, stream: str, sequence: int) -> None:
    """Have the workers' consumer take everything up to a sequence as acknowledged."""
    await client.api(f"CONSUMER.RESET.{stream}.worker", {"seq": sequence + 1})
    info = await find_consumer(client, stream, "worker")
    assert info is not None
    assert (info.ack_floor.stream_seq, info.num_pending) == (sequence, 0)


async def test_those_with_an_outcome_are_removed_and_others_are_delivered_again(
    settings: Settings,
) -> None:
    own = settings_for(settings.nats.url[0], settings.nats.subject_prefix or "")
    parts: dict[str, Any] = {"projections": False, "queries": False, "feed": False}
    async with asyncio.timeout(BOUND):
        async with bank.app.running(own, worker=False, **parts) as service:
            client, codec = service.client, service.domain.codec
            consumer, outcomes = worker_consumer(codec), Outcomes(client, codec.subjects)
            done = await service.send(bank.Deposit(amount=1), "a")
            other = await service.send(bank.Deposit(amount=2), "a")
            await outcomes.put(
                Outcome(status="success", message="", code="ok", command_id=done.command_id)
            )
            await declare_consumer(client, consumer)
            await pass_over(client, consumer.stream, other.sequence)

            leftovers = Leftovers(client, codec.subjects, consumer, outcomes)
            await leftovers.settle()
            assert (await stream_info(client, consumer.stream)).state.messages == 2
            await leftovers.settle()
            assert (await stream_info(client, consumer.stream)).state.messages == 1
            assert await find_consumer(client, consumer.stream, consumer.name) is None
        async with bank.app.running(own, **parts) as service:

            async def is_carried_out() -> bool:
                return await service.commands.outcome(other.command_id) is not None

            await until(is_carried_out)
            assert (await service.store.head("account", "a")).version == 1
