"""Kept states make a worker fast, and never make a difference otherwise."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Self

import pytest

from eventstore.client.client import Client
from eventstore.commands import StateCache
from eventstore.commands.digest import digest_of
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.envelope import Identity, new_id
from eventstore.messages.events import RecordedEvent
from eventstore.messages.subjects import AggregateId
from eventstore.store.append import Append
from eventstore.store.head import NOTHING, Head
from eventstore.store.store import EventStore
from tests.integration.commanding import (
    FORGETFUL,
    Add,
    AddEach,
    Added,
    Line,
    RaiseTo,
    Take,
    counting,
    opened,
    until,
)
from tests.integration.ledger import declare_log


class WatchedStore(EventStore):
    """A store that counts how often an aggregate is read; its replica may lag, for a while."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.reads = 0
        self.lagging_reads = 0
        self.meanwhile: Callable[[], None] = lambda: None  # called in the middle of a read

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def last_position(self, aggregate: str, aggregate_id: AggregateId) -> int:
        last = await super().last_position(aggregate, aggregate_id)
        if not last:  # then nothing else is read
            self.reads += 1
            self.meanwhile()
        return last

    async def read_stored(
        self,
        aggregate: str,
        aggregate_id: AggregateId,
        *,
        after: Head = NOTHING,
        leader: bool = False,
    ) -> AsyncGenerator[tuple[StoredMessage, list[RecordedEvent]], None]:
        self.reads += 1
        lags = self.lagging_reads > 0 and not leader
        self.lagging_reads -= lags
        reading = super().read_stored(aggregate, aggregate_id, after=after, leader=leader)
        stored = [each async for each in reading]
        self.meanwhile()
        for each in stored[:-1] if lags else stored:
            yield each


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name), FORGETFUL) as line:
        yield line


@pytest.fixture
async def store(line: Line) -> AsyncIterator[WatchedStore]:
    async with WatchedStore(line.client, line.domain.codec) as store:
        yield store


async def forget(line: Line, command_id: str) -> None:
    """Take the outcome away, as its time to live would."""
    bucket = await line.jetstream.key_value(line.subjects.outcome_bucket)
    await bucket.delete(command_id)


async def send_again(line: Line, command: Add | AddEach, command_id: str) -> None:
    async def is_taken() -> bool:
        return not (await line.commands.send(command, "c1", command_id=command_id)).duplicate

    await until(is_taken)


async def test_an_aggregate_is_read_once_as_long_as_its_state_is_cached(
    line: Line, store: WatchedStore
) -> None:
    async with line.working(store=store):
        for _ in range(20):
            await line.commands.execute(Add(), "c1")
    assert store.reads == 1


async def test_nothing_is_cached_with_a_limit_of_0(line: Line, store: WatchedStore) -> None:
    async with line.working(store=store, states=StateCache(0)):
        outcomes = [await line.commands.execute(Add(amount=n), "c1") for n in range(5)]
    assert store.reads == 5
    assert [outcome.version for outcome in outcomes] == [1, 2, 3, 4, 5]


async def test_states_that_had_to_go_are_loaded_again(line: Line, store: WatchedStore) -> None:
    states = StateCache(4_000)
    async with line.working(store=store, states=states):
        for _ in range(3):
            for number in range(4):
                await line.commands.execute(Add(amount=number), f"c{number}")
                assert states.size <= 4_000
        outcome = await line.commands.execute(Take(amount=9), "c3")
    assert (outcome.status, outcome.version) == ("success", 4)
    assert store.reads > 4


@pytest.mark.parametrize("kept", [0, 1_000_000], ids=["no states kept", "states kept"])
@pytest.mark.parametrize("command", [Add(amount=3), AddEach(amounts=[1, 2, 3])])
async def test_a_repeat_is_recognised_by_the_recorded_events(
    line: Line, store: WatchedStore, command: Add | AddEach, kept: int
) -> None:
    async with line.working(store=store, states=StateCache(kept)):
        await line.commands.execute(Add(), "c1")
        first = await line.commands.execute(command, "c1")
        await line.commands.execute(Add(), "c1")
        await forget(line, first.command_id)
        size = await line.log_size()
        await send_again(line, command, first.command_id)
        await line.until_done()
        assert await line.commands.outcome(first.command_id) == first
    assert await line.log_size() == size


async def test_a_repeat_is_recognised_on_a_replica_that_lags(
    line: Line, store: WatchedStore
) -> None:
    async with line.working(store=store, states=StateCache(0)) as worker:
        first = await line.commands.execute(AddEach(amounts=[1, 2, 3]), "c1")
        await forget(line, first.command_id)
        store.lagging_reads = 1
        await send_again(line, AddEach(amounts=[1, 2, 3]), first.command_id)
        await line.until_done()
        assert await line.commands.outcome(first.command_id) == first
    assert store.lagging_reads == 0
    assert worker.handled == 2
    assert await line.log_size() == 3
    assert await line.parked() == []


async def test_a_load_from_a_replica_that_lags_leads_to_no_wrong_rejection(
    line: Line, store: WatchedStore
) -> None:
    await line.commands.send(Add(amount=5), "c1", command_id=new_id())
    async with line.working():
        await line.until_done()
    store.lagging_reads = 2
    async with line.working(store=store, max_conflicts=1):
        outcome = await line.commands.execute(Take(amount=5), "c1")
    assert (outcome.status, outcome.version) == ("success", 2)
    assert store.lagging_reads == 1  # after one conflict, the leader is asked


async def test_a_rejection_after_an_append_of_ones_own_costs_no_load(
    line: Line, store: WatchedStore
) -> None:
    async with line.working(store=store):
        await line.commands.execute(Add(amount=5), "c1")
        await line.commands.execute(AddEach(amounts=[1, 2]), "c1")
        outcome = await line.commands.execute(Take(amount=50), "c1")
    assert (outcome.status, outcome.version) == ("rejected", 3)
    assert store.reads == 1


async def test_what_was_being_loaded_while_something_was_forgotten_is_not_cached(
    line: Line, store: WatchedStore
) -> None:
    states = StateCache()
    async with line.working(store=store, states=states):
        store.meanwhile = states.clear
        await line.commands.execute(Add(), "c1")
        assert states.get(("counter", "c1")) is None
        store.meanwhile = lambda: None
        await line.commands.execute(Add(), "c1")
        assert states.get(("counter", "c1")) is not None


async def test_events_that_an_earlier_try_recorded_count_and_not_those_decided_again(
    line: Line,
) -> None:
    command_id = new_id()
    async with line.working():
        await line.commands.execute(Add(amount=1), "c1")
        # As a worker does that has decided otherwise, by other code, and ended before it told.
        append = Append(
            aggregate="counter",
            aggregate_id="c1",
            events=[Added(amount=10)],
            cause=Identity.root(command_id),
            command_digest=digest_of(Add(amount=2), "c1", command_id),
        )
        await line.store.append_all(append)
        outcome = await line.commands.execute(Add(amount=2), "c1", command_id=command_id)
        await line.commands.execute(RaiseTo(total=20), "c1")
    events = await line.read("c1")
    assert [event.data for event in events] == [Added(amount=amount) for amount in (1, 10, 9)]
    assert (outcome.version, outcome.event_ids) == (2, (events[1].id,))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(60, 10, ("rejected", 1)), (60, 50, ("success", 2)), (1, 50, ("success", 2))],
)
async def test_a_state_of_a_log_that_was_replaced_is_not_trusted(
    line: Line, before: int, after: int, expected: tuple[str, int]
) -> None:
    async with line.working():
        await line.commands.execute(Add(amount=before), "c1")
        await line.jetstream.delete_stream(line.subjects.log_stream)
        await declare_log(line.client, line.domain.codec)
        async with EventStore(line.client, line.domain.codec) as other:
            await other.append("counter", "c1", Added(amount=after))
        outcome = await line.commands.execute(Take(amount=20), "c1")
    assert (outcome.status, outcome.version) == expected
    assert len(await line.read("c1")) == outcome.version
