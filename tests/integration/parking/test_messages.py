"""Parked messages: listed with all details, retried in order, or discarded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from eventstore import Outcome
from eventstore.client.client import Client
from eventstore.commands import CommandClient
from eventstore.config import StreamSettings
from eventstore.errors import AppendUnknown, NotParked, ParkedError, QueueFull, RetryOutOfOrder
from eventstore.jetstream.topology import limit_messages
from eventstore.messages.types import Command
from eventstore.parking.messages import (
    ParkedMessage,
    ParkedMessages,
    RetrySummary,
    UnreadableMessage,
)
from eventstore.parking.record import ParkedRecord, store_record
from tests.integration.commanding import Add, FailingStore, Line, RaiseTo, Take, counting, opened


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


@pytest.fixture
def parked(line: Line) -> ParkedMessages:
    return ParkedMessages(line.client, line.subjects)


async def park(line: Line, *commands: tuple[Command, str]) -> list[Outcome]:
    """Have commands fail for good, one after another, though they are good."""
    failures: list[Any] = [AppendUnknown("the store is away") for _ in commands]
    async with (
        FailingStore(line.client, line.domain.codec, failures=failures) as store,
        line.working(store=store, max_deliveries=1),
    ):
        return [await line.commands.execute(command, own) for command, own in commands]


def readable(message: ParkedMessage | UnreadableMessage) -> ParkedMessage:
    assert isinstance(message, ParkedMessage)
    return message


async def found(parked: ParkedMessages, **narrowed: Any) -> list[ParkedMessage]:
    return [readable(message) async for message in parked.read(**narrowed)]


async def sequences(parked: ParkedMessages, **narrowed: Any) -> list[int]:
    return [message.sequence for message in await found(parked, **narrowed)]


async def totals(line: Line, aggregate_id: str) -> list[int]:
    return [event.data.amount for event in await line.read(aggregate_id)]  # type: ignore[attr-defined]


async def test_parked_messages_are_listed_oldest_first_with_all_details(
    line: Line, parked: ParkedMessages
) -> None:
    outcomes = await park(line, (Add(amount=1), "c1"), (Add(amount=2), "c2"))

    first, second = await found(parked)

    assert (first.sequence, second.sequence) == (1, 2)
    assert first.kind == "cmd"
    record = first.record
    assert record.subject == line.subjects.command("counter", "add")
    assert record.payload == b'{"amount":1}'
    assert record.headers["X-Event-ID"] == record.command_id == outcomes[0].command_id
    assert (record.code, record.reason) == ("append_unknown", "the store is away")
    assert (record.aggregate, record.aggregate_id) == ("counter", "c1")
    assert (record.stream, record.sequence) == (line.subjects.command_stream, 1)
    assert record.delivered == 1
    assert record.parked_at.endswith("Z")
    assert await parked.get(2) == second


async def test_it_can_be_narrowed(line: Line, parked: ParkedMessages) -> None:
    await park(line, (Add(), "c1"), (RaiseTo(total=3), "c2"), (Add(), "c1"))

    assert await sequences(parked, after=1) == [2, 3]
    assert await sequences(parked, kind="cmd") == [1, 2, 3]
    assert await sequences(parked, kind="event") == []
    assert await sequences(parked, kind="cmd", aggregate="counter") == [1, 2, 3]
    assert await sequences(parked, aggregate="counter", aggregate_id="c1") == [1, 3]
    assert await sequences(parked, aggregate="teapot") == []


async def test_a_retried_command_is_carried_out_and_no_longer_parked(
    line: Line, parked: ParkedMessages
) -> None:
    (failed,) = await park(line, (Add(amount=5), "c1"))

    retried = await parked.retry(1)
    async with line.working():
        await line.until_done()

    assert retried.record.command_id == failed.command_id
    outcome = await line.commands.outcome(failed.command_id)
    assert outcome is not None
    assert (outcome.status, outcome.version) == ("success", 1)
    (event,) = await line.read("c1")
    assert event.causation_id == failed.command_id
    assert await found(parked) == []


async def test_a_requeued_command_is_the_original_with_its_id(
    line: Line, parked: ParkedMessages
) -> None:
    headers = {"X-Aggregate-ID": "c1", "X-Mine": "kept", "Nats-Expected-Last-Sequence": "0"}
    await line.client.request(
        line.subjects.command("counter", "add"), b'{ "amount": 4 }', headers=headers
    )
    async with (
        FailingStore(line.client, line.domain.codec, failures=[AppendUnknown("away")]) as store,
        line.working(store=store, max_deliveries=1),
    ):
        await line.until_done()
    (before,) = await found(parked)

    await parked.retry(1)

    stored = await line.jetstream.get_msg(line.subjects.command_stream, 2)
    assert stored.data == b'{ "amount": 4 }'
    assert stored.headers == {
        "X-Aggregate-ID": "c1",
        "X-Mine": "kept",
        "X-Event-ID": before.record.command_id,
        "X-Retry-Of": "1",
    }


async def test_a_bare_command_that_creates_keeps_its_aggregate(
    line: Line, parked: ParkedMessages
) -> None:
    await line.client.request(line.subjects.command("counter", "add"), b"{}")
    async with (
        FailingStore(line.client, line.domain.codec, failures=[AppendUnknown("away")]) as store,
        line.working(store=store, max_deliveries=1),
    ):
        await line.until_done()
    (before,) = await found(parked)
    await parked.retry(1)

    async with line.working():
        await line.until_done()

    assert before.record.aggregate_id is not None
    assert len(await line.read(before.record.aggregate_id)) == 1
    assert await line.log_size() == 1


async def test_a_retried_command_that_fails_is_parked_again(
    line: Line, parked: ParkedMessages
) -> None:
    await line.client.request(line.subjects.command("counter", "add"), b"{")
    async with line.working():
        await line.until_done()
        await parked.retry(1)
        await line.until_done()

    (again,) = await found(parked)
    assert (again.sequence, again.record.headers["X-Retry-Of"]) == (2, "1")


async def test_a_command_retried_twice_is_carried_out_once(
    line: Line, parked: ParkedMessages
) -> None:
    await park(line, (Add(amount=5), "c1"))
    (message,) = await found(parked)
    await parked.retry(1)
    # As after a crash between the two steps: it is still parked.
    await store_record(
        line.client, f"{line.domain.name}.parked.cmd.counter.add", message.record, "k"
    )
    async with line.working():
        await parked.retry(2)
        await line.until_done()

    assert await totals(line, "c1") == [5]
    assert await found(parked) == []


async def test_an_older_one_of_the_same_aggregate_goes_first(
    line: Line, parked: ParkedMessages
) -> None:
    await park(line, (Add(), "c1"), (Add(), "c2"), (RaiseTo(total=9), "c1"))

    with pytest.raises(RetryOutOfOrder, match="1, of the same aggregate") as refused:
        await parked.retry(3)
    assert (refused.value.sequence, refused.value.older) == (3, 1)
    assert await sequences(parked) == [1, 2, 3]
    await parked.retry(2)
    await parked.retry(3, out_of_order=True)
    assert await sequences(parked) == [1]


async def test_all_are_retried_in_the_order_of_each_aggregate(
    line: Line, parked: ParkedMessages
) -> None:
    commands: Sequence[tuple[Command, str]] = [
        (Add(amount=number), f"c{number % 3}") for number in range(1, 31)
    ]
    await park(line, *commands)

    async with line.working():
        result = await parked.retry_all()
        await line.until_done()

    assert (result.retried, result.left) == (30, {})
    assert await totals(line, "c1") == list(range(1, 31, 3))
    assert await totals(line, "c2") == list(range(2, 31, 3))
    assert await totals(line, "c0") == list(range(3, 31, 3))
    assert await found(parked) == []


async def test_commands_after_one_that_fails_again_stay_parked(
    line: Line, parked: ParkedMessages
) -> None:
    await park(line, (Add(amount=1), "c1"), (Add(amount=2), "c1"), (Add(amount=3), "c2"))
    async with (
        FailingStore(line.client, line.domain.codec, failures=[AppendUnknown("away")] * 2) as store,
        line.working(store=store, max_deliveries=1),
    ):
        result = await parked.retry_all()
        await line.until_done()

    assert result.retried == 2
    assert list(result.left) == [2]
    assert "ended in an error again" in result.left[2]
    assert [message.record.payload for message in await found(parked, aggregate_id="c1")] == [
        b'{"amount":2}',
        b'{"amount":1}',
    ]


async def test_commands_after_one_without_an_outcome_stay_parked(
    line: Line, parked: ParkedMessages
) -> None:
    await park(line, (Add(), "c1"), (Add(), "c1"), (Add(), "c2"))

    result = await parked.retry_all(timeout=0.05)

    assert result.retried == 2
    assert "has no outcome yet" in result.left[2]
    assert await line.queued() == 2


async def test_a_full_queue_leaves_it_parked(line: Line, parked: ParkedMessages) -> None:
    await park(line, (Add(), "c1"), (Add(), "c1"))
    await limit_messages(line.client, line.subjects.command_stream, 1)
    await line.commands.send(Add(), "c3")

    with pytest.raises(QueueFull, match=r"commands\.queue_limit"):
        await parked.retry(1)
    result = await parked.retry_all()

    assert result.retried == 0
    assert list(result.left) == [1, 2]
    assert await sequences(parked) == [1, 2]


async def test_a_discarded_one_is_gone(line: Line, parked: ParkedMessages) -> None:
    await park(line, (Add(), "c1"), (Add(), "c2"))

    assert readable(await parked.discard(1)).record.aggregate_id == "c1"

    assert await sequences(parked) == [2]
    for missing in (1, 3, 0):
        with pytest.raises(NotParked, match=str(missing)):
            await parked.get(missing)
        with pytest.raises(NotParked):
            await parked.retry(missing)
        with pytest.raises(NotParked):
            await parked.discard(missing)


async def test_a_message_can_be_discarded_twice_concurrently(
    line: Line, parked: ParkedMessages
) -> None:
    await park(line, (Add(), "c1"))
    message = await parked.get(1)

    await asyncio.gather(parked._remove(message), parked._remove(message))

    assert await found(parked) == []


async def test_a_record_in_several_parts_is_one_message(line: Line, parked: ParkedMessages) -> None:
    # 1 MB of payload is more than one message holds beside its record.
    payload = b"[" + b"1," * 510_000
    await line.client.request(line.subjects.command("counter", "add"), payload)
    async with line.working():
        await line.until_done()

    (message,) = await found(parked)
    assert (message.sequence, message.earlier) == (2, (1,))
    assert message.record.payload == payload
    with pytest.raises(NotParked, match="not the last part"):
        await parked.get(1)
    await parked.discard(2)
    assert await line._size(line.subjects.parked_stream) == 0


async def test_an_event_can_be_shown_and_discarded_but_not_requeued(
    line: Line, parked: ParkedMessages
) -> None:
    record = ParkedRecord(
        subject=f"{line.domain.name}.event.counter.added",
        headers={"X-Aggregate-ID": "c1"},
        payload=b"{}",
        code="handler_failed",
        reason="a mistake",
        subscriber="mailer",
        attempts=3,
        aggregate="counter",
        aggregate_id="c1",
        stream=line.subjects.event_stream,
        sequence=1,
        stored_at_ns=1,
        delivered=3,
    )
    subject = f"{line.domain.name}.parked.event.mailer.counter.added"
    await store_record(line.client, subject, record, "one")

    (message,) = await found(parked, kind="event", aggregate="counter")
    assert (message.kind, message.record) == ("event", record)
    with pytest.raises(ParkedError, match="mailer"):
        await parked.retry(1)
    assert (await parked.retry_all()).retried == 0
    await parked.discard(1)
    assert await found(parked) == []


async def test_unreadable_messages_are_listed_and_can_be_discarded(
    line: Line, parked: ParkedMessages
) -> None:
    place = f"{line.domain.name}.parked.cmd.counter.add"
    await line.client.request(place, b"{}")
    await line.client.request(place, b"{}", headers={"X-Part": "1/1"})
    await line.client.request(place, b"{}", headers={"X-Part": "2/2", "X-Earlier-Parts": "77"})
    await line.client.request(place, b"{}", headers={"X-Part": "2/2", "X-Earlier-Parts": "x"})
    await line.client.request(place, b"{}", headers={"X-Part": "1/2"})  # that has no second

    listed = [each async for each in parked.read()]

    problems = {
        each.sequence: each.problem for each in listed if isinstance(each, UnreadableMessage)
    }
    assert list(problems) == [1, 2, 3, 4]
    assert "it has no X-Part" in problems[1]
    assert "missing required field `subject`" in problems[2]
    assert "are not in order" in problems[3]
    assert "are not up to 64 sequences" in problems[4]
    assert await found(parked, aggregate="counter") == []
    assert await parked.retry_all() == RetrySummary(0, problems)
    with pytest.raises(NotParked, match="cannot be read"):
        await parked.retry(2)
    for each in listed:
        assert await parked.find(each.sequence) == each
        assert await parked.discard(each.sequence) == each
    assert await found(parked) == []


@pytest.mark.parametrize(
    "named", ["9" * 26, "-5", "0", "\uff11", "", "1,,2", "2,1", "1,1", "9", ",".join(["1"] * 9_000)]
)
async def test_forged_part_numbers_hide_no_other_record(
    line: Line, parked: ParkedMessages, named: str
) -> None:
    await park(line, (Add(amount=1), "c1"), (Add(amount=1), "c2"))
    place = f"{line.domain.name}.parked.cmd.counter.add"
    await line.client.request(place, b"{}", headers={"X-Part": "2/2", "X-Earlier-Parts": named})

    *good, stray = [each async for each in parked.read()]

    assert [each.sequence for each in good] == [1, 2]
    assert isinstance(stray, UnreadableMessage)
    assert "X-Earlier-Parts" in stray.problem
    assert await parked.discard(3) == stray
    assert await found(parked) == good


async def test_discarding_a_record_deletes_no_parts_of_another(
    line: Line, parked: ParkedMessages
) -> None:
    good = await park(line, (Add(amount=1), "c1"))
    place = f"{line.domain.name}.parked.cmd.counter.add"
    await line.client.request(place, b"{}", headers={"X-Part": "2/2", "X-Earlier-Parts": "1"})

    _, stray = [each async for each in parked.read()]
    assert isinstance(stray, UnreadableMessage)
    assert "parked message 1 is not a part of it" in stray.problem
    await parked.discard(2)

    await line.client.request(place, b"{}", headers={"X-Part": "2/2", "X-Earlier-Parts": "2"})
    left, stray = [each async for each in parked.read()]
    assert readable(left).record.command_id == good[0].command_id
    assert isinstance(stray, UnreadableMessage)
    assert "parked message 2: nothing is parked there" in stray.problem


async def test_a_full_queue_refuses_new_commands_and_takes_them_when_there_is_room(
    client: Client, domain_name: str
) -> None:
    async with opened(client, counting(domain_name), StreamSettings(queue_limit=2)) as line:
        for _ in range(2):
            await line.commands.send(Add(), "c1")
        with pytest.raises(QueueFull) as refused:
            await line.commands.send(Add(), "c1")
        assert (refused.value.code, refused.value.retryable) == ("queue_full", True)
        assert await line.queued() == 2
        async with line.working():
            await line.until_done()
            outcome = await line.commands.execute(Take(amount=2), "c1")
    assert (outcome.status, outcome.version) == ("success", 3)


async def test_another_limit_is_no_drift_and_a_lower_one_loses_nothing(
    client: Client, domain_name: str
) -> None:
    async with opened(client, counting(domain_name)) as line:
        for _ in range(5):
            await line.commands.send(Add(), "c1")
        assert await limit_messages(client, line.subjects.command_stream, 2)
        assert not await limit_messages(client, line.subjects.command_stream, 2)
        assert await line.queued() == 5
        async with opened(client, counting(domain_name)), line.working():
            await line.until_done()
        assert len(await line.read("c1")) == 5


async def test_a_refused_client_gets_an_error_outcome(client: Client, domain_name: str) -> None:
    async with opened(client, counting(domain_name), StreamSettings(queue_limit=1)) as line:
        await line.commands.send(Add(), "c1")
        async with CommandClient(client, line.domain.codec) as commands:
            with pytest.raises(QueueFull, match="send it again later"):
                await commands.execute(Add(), "c1")
