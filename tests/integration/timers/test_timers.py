"""Timers: commands for later, which are replaced, cancelled, and due once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventstore.client.client import Client, Msg
from eventstore.errors import InvalidTimer, NoTimer, TimerInPast
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.topology import limit_messages
from eventstore.messages.context import MessageContext
from eventstore.messages.envelope import Identity, new_id
from eventstore.timers import Schedule, Timer, Timers
from eventstore.timers.due import DueTimers
from eventstore.timers.timer import scheduled
from eventstore.timers.timers import set_timer
from tests.integration.commanding import Add, Added, Line, Take, counting, opened, until

LATER = timedelta(hours=1)
SOON = 0.05


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


async def total(line: Line, aggregate_id: str = "c1") -> int:
    events = [event.data for event in await line.read(aggregate_id)]
    return sum(event.amount for event in events if isinstance(event, Added))


async def until_recorded(line: Line, count: int, aggregate_id: str = "c1") -> None:
    async def is_recorded() -> bool:
        return len(await line.read(aggregate_id)) >= count

    await until(is_recorded)


async def until_outcome(line: Line, command_id: str) -> None:
    async def is_known() -> bool:
        return await line.commands.outcome(command_id) is not None

    await until(is_known)


async def waiting(line: Line) -> list[Timer]:
    return [timer async for timer in Timers(line.client, line.subjects).read()]


async def test_a_command_for_later_is_carried_out_then(line: Line) -> None:
    async with line.working():
        sent = await line.commands.send(Add(amount=3), "c1", after=SOON)
        assert [timer.name for timer in await waiting(line)] == [sent.command_id]
        await until_recorded(line, 1)
    (event,) = await line.read("c1")
    assert event.envelope.identity.causation_id == sent.command_id
    assert event.envelope.identity.correlation_id == sent.command_id
    assert sent.due is not None
    assert event.time >= sent.due
    assert await waiting(line) == []


async def test_a_command_for_later_is_not_carried_out_before(line: Line) -> None:
    async with line.working():
        sent = await line.commands.send(Add(), "c1", after=LATER)
        await line.commands.execute(Add(amount=5), "c1")
        assert await total(line) == 5
        assert await line.commands.cancel(sent.command_id)
    assert await waiting(line) == []


async def test_a_timer_set_again_replaces_the_earlier_one_whatever_its_command(line: Line) -> None:
    await line.commands.schedule("bill", Add(amount=7), "c1", after=LATER)
    second = await line.commands.schedule("bill", Take(amount=0), "c1", after=2 * LATER)
    (timer,) = await waiting(line)
    assert (timer.type, timer.command_id) == ("Take", second.command_id)
    assert timer.due == second.at


async def test_a_cancelled_timer_is_gone(line: Line) -> None:
    await line.commands.schedule("bill", Add(), "c1", after=LATER)
    assert await line.commands.cancel("bill")
    assert not await line.commands.cancel("bill")
    with pytest.raises(NoTimer, match="no timer bill is waiting"):
        await Timers(line.client, line.subjects).get("bill")


async def test_a_timer_that_is_due_in_this_moment_does_not_count_as_cancelled(line: Line) -> None:
    """The server may be firing it: what it has begun to fire cannot be stopped."""
    await line.commands.schedule("bill", Add(), "c1", after=0.2)
    assert not await line.commands.cancel("bill")
    assert await waiting(line) == []


async def test_a_cancelled_timer_set_again_as_it_was_is_not_taken_for_a_repetition(
    line: Line,
) -> None:
    at = datetime.now(UTC) + LATER
    first = await line.commands.schedule("bill", Add(), "c1", at=at)
    assert await line.commands.cancel("bill")
    assert await line.commands.schedule("bill", Add(), "c1", at=at) == first
    assert [timer.command_id for timer in await waiting(line)] == [first.command_id]


async def test_what_is_due_leaves_the_stream_of_timers_when_it_is_carried_out(line: Line) -> None:
    stream = line.subjects.timer_stream
    await line.commands.schedule("bill", Add(), "c1", after=SOON)

    async def is_queued() -> bool:
        return await line.queued() == 1

    await until(is_queued)
    assert (await stream_info(line.client, stream)).state.messages == 1
    async with line.working():
        await line.until_done()
    assert (await stream_info(line.client, stream)).state.messages == 0
    assert await total(line) == 1


async def test_a_time_in_the_past_is_due_now_or_refused(line: Line) -> None:
    past = datetime.now(UTC) - LATER
    with pytest.raises(TimerInPast, match="has passed"):
        await line.commands.schedule("bill", Add(), "c1", at=past, past="refuse")
    assert await waiting(line) == []
    async with line.working():
        await line.commands.schedule("bill", Add(), "c1", at=past)
        await until_recorded(line, 1)


async def test_the_same_timer_set_again_after_it_fired_is_the_same_command(line: Line) -> None:
    past = datetime.now(UTC) - LATER
    async with line.working():
        first = await line.commands.schedule("bill", Add(), "c1", at=past)
        await until_recorded(line, 1)
        assert await line.commands.schedule("bill", Add(), "c1", at=past) == first
        other = await line.commands.schedule("bill2", Add(), "c1", at=past)
        await until_recorded(line, 2)
        later = await line.commands.schedule("bill", Add(), "c1", at=past + timedelta(seconds=1))
        await until_recorded(line, 3)
        await line.until_done()
    assert len({first.command_id, other.command_id, later.command_id}) == 3
    assert await total(line) == 3


async def test_a_handler_sets_the_same_timer_each_time_it_gets_the_same_event(line: Line) -> None:
    event = Identity(new_id(), new_id(), new_id())

    async def handle(identity: Identity) -> str | None:
        with MessageContext(identity, "billing", actor="ann").begun():
            scheduled = await line.commands.schedule("bill", Add(), "c1", after=SOON)
            assert scheduled.correlation_id == identity.correlation_id
            return scheduled.command_id

    async with line.working():
        first = await handle(event)
        await until_recorded(line, 1)
        assert await handle(event) == first
        second = await handle(Identity(new_id(), event.correlation_id, event.id))
        await until_recorded(line, 2)
        await line.until_done()
    one, two = await line.read("c1")
    assert [one.envelope.identity.causation_id, two.envelope.identity.causation_id] == [
        first,
        second,
    ]
    assert one.envelope.identity.correlation_id == event.correlation_id
    assert one.envelope.actor == "ann"


async def test_an_expected_version_travels_with_the_timer(line: Line) -> None:
    async with line.working():
        sent = await line.commands.send(Add(), "c1", after=SOON, expected=0)
        await line.commands.execute(Add(), "c1")
        await until_outcome(line, sent.command_id)
    outcome = await line.commands.outcome(sent.command_id)
    assert outcome is not None
    assert (outcome.status, outcome.code) == ("rejected", "conflict")


async def test_each_command_of_a_recurring_timer_has_an_id_of_its_own(line: Line) -> None:
    async with line.working():
        scheduled = await line.commands.schedule("tick", Add(), "c1", cron="* * * * * *")
        await until_recorded(line, 2)
        assert await line.commands.cancel("tick")
        await line.until_done()
    events = await line.read("c1")
    assert (scheduled.at, scheduled.command_id) == (None, None)
    assert len({event.envelope.identity.causation_id for event in events}) == len(events)
    assert len({event.envelope.identity.correlation_id for event in events}) == len(events)
    assert await waiting(line) == []


async def test_a_recurring_timer_may_create_an_aggregate_each_time(line: Line) -> None:
    async with line.working():
        scheduled = await line.commands.schedule("tick", Add(), cron="@every 1s")
        assert scheduled.aggregate_id is None

        async def are_two() -> bool:
            return await line.log_size() >= 2

        await until(are_two)
        await line.commands.cancel("tick")
    events = [event async for event in line.store.read_all()]
    assert len({event.aggregate_id for event in events}) == len(events)


async def test_a_recurring_timer_of_a_handler_stays_in_its_correlation(line: Line) -> None:
    event = Identity(new_id(), new_id(), new_id())
    async with line.working():
        with MessageContext(event, "billing").begun():
            await line.commands.schedule("tick", Add(), "c1", cron="@every 1s")
        await until_recorded(line, 1)
        await line.commands.cancel("tick")
    (first, *_) = await line.read("c1")
    assert first.envelope.identity.correlation_id == event.correlation_id


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"at": datetime(2030, 1, 1)}, "needs a zone"),  # what is refused
        ({"after": timedelta(days=40_000)}, "more than 100 years ahead"),
        ({"after": float("inf")}, "delay"),
        ({"after": "soon"}, "a timedelta or seconds"),
        ({"at": datetime(2030, 1, 1, tzinfo=UTC), "after": 1}, "either a time"),
        ({}, r"a time \(at\), a delay \(after\), or a cron expression \(cron\)"),
        ({"after": -1, "past": "refused"}, "'refused', neither 'fire' nor 'refuse'"),
        ({"cron": "whenever"}, "whenever"),
        ({"cron": "* * * *"}, "five or six fields"),
        ({"cron": "99 * * * *"}, "pattern is invalid"),
        ({"cron": "0 3 * * *", "time_zone": "Mars/Olympus"}, "'Mars/Olympus': .* is invalid"),
        ({"cron": "0 3 * * *", "after": 1}, "either a time .*, a delay .*, or a cron"),
        ({"cron": "0 3 * * *", "expected": 1}, "cannot expect a version"),
        ({"cron": "0 3 * * *", "command_id": new_id()}, "leave command_id out"),
        ({"after": 1, "time_zone": "Europe/Berlin"}, "for cron expressions only"),
    ],
)
async def test_what_is_wrong_with_a_timer_is_named_and_nothing_is_set(
    line: Line, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidTimer, match=problem):
        await line.commands.schedule("bill", Add(), "c1", **options)
    assert await waiting(line) == []


@pytest.mark.parametrize("name", ["", "a.b", "a b", "*", ">", "ä", "a:b", "x" * 257])
async def test_an_illegal_name_is_refused(line: Line, name: str) -> None:
    for refused in (line.commands.schedule(name, Add(), "c1", after=1), line.commands.cancel(name)):
        with pytest.raises(InvalidTimer, match="is not allowed"):
            await refused


async def test_a_timer_of_a_command_that_no_longer_exists_is_parked(line: Line) -> None:
    subjects, command_id = line.subjects, new_id()
    schedule = Schedule.once(datetime.now(UTC), after=0)
    headers = {"X-Event-ID": command_id, "X-Aggregate-ID": "c1"}
    draft = scheduled(subjects, "old", "counter", "gone", schedule.headers, headers, b"{}", "Gone")
    await set_timer(line.client, draft, stream=subjects.timer_stream)
    async with line.working():
        await until_outcome(line, command_id)
        await line.until_done()
    (record,) = await line.parked()
    assert (record["code"], record["command_id"]) == ("unknown_type", command_id)
    assert "counter has no command 'gone'" in record["reason"]
    assert (await stream_info(line.client, subjects.timer_stream)).state.messages == 0


async def test_a_timer_is_fired_at_once_by_hand(line: Line) -> None:
    timers = Timers(line.client, line.subjects)
    async with line.working():
        set_ = await line.commands.schedule("bill", Add(), "c1", after=LATER)
        await timers.fire("bill")
        await until_recorded(line, 1)
        with pytest.raises(NoTimer):
            await timers.fire("bill")
        (event,) = await line.read("c1")
        assert event.envelope.identity.causation_id == set_.command_id

        await line.commands.schedule("daily", Add(), "c1", cron="@yearly", time_zone="Asia/Tokyo")
        await timers.fire("daily")
        await timers.fire("daily")
        await until_recorded(line, 3)
    (timer,) = await waiting(line)
    assert (timer.name, timer.schedule, timer.time_zone) == ("daily", "@yearly", "Asia/Tokyo")
    assert await total(line) == 3


async def test_a_recurring_timer_of_the_longest_name_is_fired_by_a_name_that_is_allowed(
    line: Line,
) -> None:
    names: list[str] = []

    async def see(message: Msg) -> None:
        names.append(message.subject.split(".")[2])

    await line.client.subscribe(line.subjects.new_timer("*", "*", "*"), see)
    name = "x" * 256
    async with line.working():
        await line.commands.schedule(name, Add(), "c1", cron="@yearly")
        await Timers(line.client, line.subjects).fire(name)
        await until_recorded(line, 1)
    set_, fired = names
    assert set_ == name
    assert (len(fired), fired[:219]) == (256, name[:219])


async def test_none_is_lost_while_the_command_queue_is_full(line: Line) -> None:
    await limit_messages(line.client, line.subjects.command_stream, 3)
    for number in range(10):
        await line.commands.schedule(f"bill-{number}", Add(), "c1", after=SOON)

    async def is_full() -> bool:
        return await line.queued() == 3 and await waiting(line) == []

    await until(is_full)
    async with line.working():
        await until_recorded(line, 10)
    assert await total(line) == 10


async def test_a_forged_source_removes_no_timer(line: Line) -> None:
    """A server before 2.15 lets every sender of commands write these headers."""
    await line.commands.schedule("bill", Add(), "c1", after=LATER)
    (timer,) = await waiting(line)
    forged = Msg(
        line.client.nats,
        subject=line.subjects.command("counter", "add"),
        data=timer.payload,
        headers={
            "Nats-Scheduler": line.subjects.timer("bill"),
            "Nats-Stream-Source": f"{line.subjects.timer_stream} {timer.sequence} x x x",
        },
    )
    assert await DueTimers(line.client, line.subjects).find(forged) is None


async def test_four_workers_carry_out_each_of_many_timers_once(line: Line) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(line.working())
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                set_ = line.commands.schedule(f"bill-{number}", Add(), f"c{number % 7}", after=0.3)
                group.create_task(set_)

        async def are_done() -> bool:
            return await line.log_size() == 100

        await until(are_done)
        await line.until_done()
    assert [await total(line, f"c{number}") for number in range(7)] == [15, 15, *[14] * 5]
