"""Ordered consumers: each message once and in order, or `PullLost`."""

from __future__ import annotations

import asyncio

import pytest

from eventstore.client.client import Client
from eventstore.errors import PullLost, StreamMissing
from eventstore.jetstream.ordered_consumer import OrderedConsumer, ordered_consumer


@pytest.fixture
async def stream(client: Client, domain_name: str) -> str:
    name = f"{domain_name.upper()}_ORDERED"
    await client.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{domain_name}.>"]})
    for number in range(10):
        await client.request(f"{domain_name}.n", b"%d" % number)
    return name


async def take(consumer: OrderedConsumer, count: int) -> list[int]:
    taken: list[int] = []
    while len(taken) < count:
        some = await consumer.take(count - len(taken))
        taken.extend(delivery.sequence for _, delivery in some)
    return taken


async def until_delivered(client: Client, consumer: OrderedConsumer, count: int) -> None:
    async with asyncio.timeout(10):
        while len(consumer._pull._messages) < count:
            await client.flush()


async def consumers_of(client: Client, stream: str) -> list[str]:
    names: list[str] = (await client.api(f"CONSUMER.NAMES.{stream}"))["consumers"] or []
    return names


async def test_it_begins_after_a_sequence_counts_what_is_left_and_is_deleted(
    client: Client, stream: str
) -> None:
    async with ordered_consumer(client, stream, after=4, buffer=100, name="some") as consumer:
        assert (consumer.position, consumer.pending) == (4, 6)
        assert await take(consumer, 2) == [5, 6]
        assert (consumer.position, consumer.pending) == (6, 4)
        assert await take(consumer, 4) == [7, 8, 9, 10]
        assert consumer.pending == 0
        (name,) = await consumers_of(client, stream)
        assert name.startswith("some-")
    assert await consumers_of(client, stream) == []


async def test_after_a_lost_message_what_came_before_is_taken_and_a_new_one_continues(
    client: Client, stream: str
) -> None:
    async with ordered_consumer(client, stream, after=0, buffer=100, name="some") as consumer:
        first = await consumer.take(1)
        await until_delivered(client, consumer, 9)
        del consumer._pull._messages[3]
        taken = first + await consumer.take(9)
        assert [delivery.sequence for _, delivery in taken] == [1, 2, 3, 4]
        for _ in range(2):
            with pytest.raises(PullLost, match="followed sequence 4"):
                await consumer.take(9)
    after = consumer.position
    async with ordered_consumer(client, stream, after=after, buffer=9, name="some") as consumer:
        assert await take(consumer, 6) == [5, 6, 7, 8, 9, 10]


async def test_a_consumer_that_is_deleted_is_reported(client: Client, stream: str) -> None:
    async with ordered_consumer(client, stream, after=10, buffer=9, name="some") as consumer:
        taking = asyncio.create_task(consumer.take(1))
        (name,) = await consumers_of(client, stream)
        await client.flush()
        await client.api(f"CONSUMER.DELETE.{stream}.{name}")
        with pytest.raises(PullLost, match="the consumer is lost"):
            await taking


async def test_a_stream_that_does_not_exist_is_named(client: Client, domain_name: str) -> None:
    with pytest.raises(StreamMissing, match=domain_name.upper()):
        async with ordered_consumer(
            *(client, f"{domain_name.upper()}_NONE"), after=0, buffer=1, name="some"
        ):
            pass
