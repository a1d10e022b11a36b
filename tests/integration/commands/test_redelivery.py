"""Commands that fail: tried again for a while, and then parked and answered."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from eventstore.client.client import Client, Msg
from eventstore.commands import Outcome
from eventstore.commands import client as sending
from eventstore.commands.consumer import worker_consumer
from eventstore.commands.worker import _REDELIVERY
from eventstore.decider.domain import Domain
from eventstore.errors import AppendUnknown, Conflict, DuplicateId, EventStoreError, RequestTimeout
from eventstore.jetstream.consumer import PullConsumer
from eventstore.jetstream.topology import declare_consumer
from eventstore.messages.envelope import new_id
from tests.integration.commanding import (
    Add,
    Added,
    Counter,
    Fail,
    FailingStore,
    GatedStore,
    Line,
    Take,
    counting,
    opened,
    outcomes_lagging,
)


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


def failures(count: int) -> list[EventStoreError]:
    return [AppendUnknown("the store is away") for _ in range(count)]


async def test_what_fails_a_few_times_is_carried_out_in_the_end(line: Line) -> None:
    async with (
        FailingStore(line.client, line.domain.codec, failures=failures(2)) as store,
        line.working(store=store, max_deliveries=3),
    ):
        outcome = await line.commands.execute(Add(), "c1")
        await line.until_done()

    assert (outcome.status, outcome.version) == ("success", 1)
    assert await line.parked() == []


async def test_what_fails_is_redelivered_later_and_later(line: Line) -> None:
    naks: list[bytes] = []

    async def note(message: Msg) -> None:
        if message.data.startswith(b"-NAK"):
            naks.append(message.data)

    await line.client.subscribe(f"$JS.ACK.{line.subjects.command_stream}.>", note)
    async with (
        FailingStore(line.client, line.domain.codec, failures=failures(3)) as store,
        line.working(store=store),
    ):
        outcome = await line.commands.execute(Add(), "c1")
    assert outcome.status == "success"
    assert naks == [b'-NAK {"delay": %d}' % (1e6 * after) for after in (250, 500, 1_000)]


def test_what_fails_for_long_is_redelivered_after_half_a_minute_at_the_most() -> None:
    delays = [_REDELIVERY.delay(count) for count in (8, 17, 18, 1_000_000)]
    assert delays == [30.0] * 4


async def test_a_cancellation_that_is_not_the_workers_is_a_failure_of_the_command(
    line: Line,
) -> None:
    cancelled: list[Any] = [asyncio.CancelledError()]
    async with (
        FailingStore(line.client, line.domain.codec, failures=cancelled) as store,
        line.working(store=store),
    ):
        first = await line.commands.execute(Add(), "c1", timeout=10)
        second = await line.commands.execute(Add(), "c1", timeout=10)

    assert (first.version, second.version) == (1, 2)


async def test_what_goes_on_failing_is_parked_and_answered(line: Line) -> None:
    async with (
        FailingStore(line.client, line.domain.codec, failures=failures(3)) as store,
        line.working(store=store, max_deliveries=3),
    ):
        outcome = await line.commands.execute(Add(amount=7), "c1")
        other = await line.commands.execute(Add(), "c1")
        await line.until_done()

    assert (outcome.status, outcome.code) == ("error", "append_unknown")
    assert (other.status, other.version) == ("success", 1)
    (parked,) = await line.parked()
    assert (parked["code"], parked["reason"]) == ("append_unknown", "the store is away")
    assert (parked["delivered"], parked["command_id"]) == (3, outcome.command_id)
    assert (parked["aggregate"], parked["aggregate_id"]) == ("counter", "c1")


async def test_a_decider_that_raises_is_retried_before_its_command_is_parked(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    async with line.working(max_failures=3):
        outcome = await line.commands.execute(Fail(), "c1")
        await line.until_done()

    assert (outcome.status, outcome.code) == ("error", "handler_failed")
    (parked,) = await line.parked()
    assert parked["delivered"] == 3
    severe = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(severe) == 1
    assert severe[0].exc_info is not None
    named = f"command Fail {outcome.command_id} on counter c1 failed at attempt"
    assert severe[0].message == f"{named} 3, and is parked: RuntimeError"
    lines = [each.message for each in caplog.records if each.levelno == logging.WARNING]
    assert lines == [
        f"{named} {each}, and is requeued: RuntimeError: a decider's mistake" for each in (1, 2)
    ]


async def test_a_command_that_ended_in_an_error_is_carried_out_when_it_is_repeated(
    line: Line,
) -> None:
    own = new_id()
    await line.outcomes.put(Outcome.error(RequestTimeout("too slow"), own, "counter", "c1"))

    async with line.working():
        outcome = await line.commands.execute(Add(), "c1", command_id=own)

    assert (outcome.status, outcome.version) == ("success", 1)
    assert await line.commands.outcome(own) == outcome


async def test_the_error_of_an_earlier_time_is_not_the_answer_to_a_later_one(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_FIRST_PAUSE", 0.01)
    own = new_id()
    await line.outcomes.put(Outcome.error(RequestTimeout("too slow"), own), sequence=0)
    looked = asyncio.Event()
    get = line.commands._sent._outcomes.get

    async def seen(command_id: str, **options: Any) -> Outcome | None:
        found = await get(command_id, **options)
        looked.set()
        return found

    monkeypatch.setattr(line.commands._sent._outcomes, "get", seen)
    executing = asyncio.create_task(line.commands.execute(Add(), "c1", command_id=own))
    await asyncio.wait_for(looked.wait(), 20)
    async with line.working():
        outcome = await executing

    assert (outcome.status, outcome.version) == ("success", 1)


async def test_a_command_that_is_redelivered_has_its_outcome_though_a_follower_lags(
    line: Line,
) -> None:
    own = new_id()
    rejected = Outcome(status="rejected", message="", code="too_little", command_id=own)
    await line.store.append("counter", "c1", Added(amount=5))
    await declare_consumer(line.client, worker_consumer(line.domain.codec))
    await line.commands.send(Take(amount=1), "c1", command_id=own)
    async with PullConsumer(line.client, line.subjects.command_stream, "worker", buffer=1) as pull:
        (taken,) = await pull.take(1)
        # As where a worker ends between the outcome and the acknowledgement.
        await line.outcomes.put(rejected)
        await line.client.publish(taken.reply, b"-NAK")
        await pull.finish()

    async with outcomes_lagging(line), line.working():
        await line.until_done()

    assert await line.log_size() == 1


async def test_events_that_contradict_the_earlier_outcome_are_reported(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    own = new_id()
    rejected = Outcome(status="rejected", message="", code="too_little", command_id=own)
    done = Outcome(status="success", message="", code="ok", command_id=own, event_ids=("e1",))

    await line.outcomes.put(rejected)
    assert await line.outcomes.put(rejected) == rejected
    assert caplog.records == []
    assert await line.outcomes.put(done) == rejected

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"command {own} has contradictory outcomes: its events e1" in record.message


async def test_an_outcome_that_is_final_wins_and_an_error_does_not(line: Line) -> None:
    own = new_id()
    first = Outcome.error(RequestTimeout("too slow"), own)
    second = Outcome.error(AppendUnknown("unknown"), own)
    success = Outcome(status="success", message="", code="ok", command_id=own)

    assert await line.outcomes.put(first) == first
    assert await line.outcomes.put(second) == second
    assert await line.outcomes.put(success) == success
    assert await line.outcomes.put(second) == success
    assert await line.outcomes.get(own) == success


async def test_what_is_redelivered_while_in_flight_is_carried_out_once(line: Line) -> None:
    async with (
        GatedStore(line.client, line.domain.codec) as store,
        line.working(store=store) as worker,
    ):
        gate = store.close("c1")
        first = asyncio.create_task(line.commands.execute(Add(), "c1"))
        await store.until_begun(1)
        await line.client.api(f"CONSUMER.DELETE.{line.subjects.command_stream}.worker")
        # The consumer that the worker then makes starts over, with the one that is under way.
        await line.commands.execute(Add(), "c2", timeout=20)
        gate.set()
        outcome = await first
        await line.until_done()

    assert (outcome.status, outcome.version) == ("success", 1)
    assert (store.begun, worker.handled) == (["c1", "c2"], 2)


async def test_a_rejection_stays_final(line: Line) -> None:
    own = new_id()
    async with line.working():
        rejected = await line.commands.execute(Take(amount=1), "c1", command_id=own)
        await line.store.append("counter", "c1", Added(amount=5))
        await line.client.publish(  # as one who sends it again after the duplicate window
            line.subjects.command("counter", "take"),
            b'{"amount": 1}',
            headers={"X-Event-ID": own, "X-Aggregate-ID": "c1"},
        )
        await line.client.flush()
        await line.until_done()

    assert await line.commands.outcome(own) == rejected
    assert await line.log_size() == 1


@pytest.mark.parametrize("error", [Conflict("counter", "c1", 1, 2), DuplicateId("used")])
async def test_the_librarys_own_errors_are_a_deciders_failures_like_any_others(
    client: Client, domain_name: str, error: EventStoreError
) -> None:
    decided = 0
    decider = copy.copy(counting(domain_name).decider("counter"))

    def fail(state: Counter, command: Fail) -> None:
        nonlocal decided
        decided += 1
        raise error

    decider._decides = {}
    decider.decides(fail)
    async with (
        opened(client, Domain(domain_name, [decider])) as line,
        line.working(max_failures=2),
    ):
        outcome = await line.commands.execute(Fail(), "c1", timeout=20)
    assert (outcome.status, outcome.code) == ("error", "handler_failed")
    assert type(error).__name__ in outcome.message
    assert decided == 2
