"""Commands sent by the library's own client: their outcomes, and how the sender gets them."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from eventstore import nix
from eventstore.client.client import Client, connect
from eventstore.commands import CommandClient, Outcome
from eventstore.config import Settings, StreamSettings
from eventstore.errors import (
    CommandTimeout,
    EventTooLarge,
    InvalidHeader,
    InvalidId,
    NoResponders,
    UnknownType,
)
from eventstore.messages.envelope import Identity, derive_id, new_id
from eventstore.messages.types import Command
from tests.conftest import settings_for
from tests.integration.commanding import (
    FORGETFUL,
    Add,
    AddEach,
    Decide,
    Line,
    RaiseTo,
    Refuse,
    Sign,
    Stray,
    Take,
    counting,
    opened,
    until,
)
from tests.proxy import TcpProxy

NOON = datetime(2026, 6, 1, 12, 30, 15, 250, UTC)


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


@pytest.fixture
async def forgetful(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name), FORGETFUL) as line:
        yield line


async def send_again(line: Line, command: Command, command_id: str) -> None:
    """Send a command until the stream takes it again, which it does not inside its window."""

    async def is_taken() -> bool:
        return not (await line.commands.send(command, "c1", command_id=command_id)).duplicate

    await until(is_taken)


async def test_a_success_has_all_fields(line: Line) -> None:
    command_id = new_id()
    async with line.working():
        await line.commands.execute(Add(amount=3), "c1")
        outcome = await line.commands.execute(Take(amount=1), "c1", command_id=command_id)
    last = (await line.read("c1"))[-1]
    assert json.loads(outcome.to_json()) == {
        "status": "success",
        "message": "Added",
        "code": "ok",
        "command_id": command_id,
        "aggregate": "counter",
        "aggregate_id": "c1",
        "version": 2,
        "position": last.position,
        "event_ids": [last.id],
    }


async def test_a_rejection_is_an_outcome_with_the_deciders_code(line: Line) -> None:
    async with line.working():
        before = await line.commands.execute(Add(amount=3), "c1")
        outcome = await line.commands.execute(Take(amount=4), "c1")
    assert json.loads(outcome.to_json()) == {
        "status": "rejected",
        "message": "there are 3, not 4",
        "code": "too_little",
        "command_id": outcome.command_id,
        "aggregate": "counter",
        "aggregate_id": "c1",
        "version": 1,
        "position": before.position,
        "event_ids": [],
    }
    assert await line.log_size() == 1
    assert await line.parked() == []


async def test_an_outcome_on_an_aggregate_without_events_is_at_version_0(line: Line) -> None:
    async with line.working():
        outcome = await line.commands.execute(Take(amount=1), "c1")
    assert (outcome.status, outcome.version, outcome.position) == ("rejected", 0, 0)


async def test_a_decision_for_nothing_is_a_success_without_events(line: Line) -> None:
    async with line.working():
        before = await line.commands.execute(Add(amount=3), "c1")
        outcome = await line.commands.execute(RaiseTo(total=2), "c1")
    assert (outcome.status, outcome.code, outcome.event_ids) == ("success", "ok", ())
    assert (outcome.version, outcome.position) == (1, before.position)
    assert outcome.message == "nothing to change"


async def test_several_events_of_a_command_are_all_named(line: Line) -> None:
    async with line.working():
        outcome = await line.commands.execute(AddEach(amounts=[1, 2, 3]), "c1")
    events = await line.read("c1")
    assert outcome.event_ids == tuple(event.id for event in events)
    assert (outcome.version, outcome.position) == (3, events[-1].position)
    assert outcome.message == "Added, Added, Added"


async def test_a_rejection_with_an_endless_message_is_answered_all_the_same(line: Line) -> None:
    async with line.working():
        outcome = await line.commands.execute(Refuse(length=1_000_000), "c1")
    assert (outcome.status, outcome.code) == ("rejected", "refused")
    assert 0 < len(outcome.message) < 10_000


async def test_a_command_sent_while_no_worker_runs_is_carried_out_once_one_does(
    line: Line,
) -> None:
    sent = await line.commands.send(Add(amount=3), "c1")
    assert (sent.duplicate, sent.aggregate_id, sent.sequence) == (False, "c1", 1)
    assert await line.commands.outcome(sent.command_id) is None
    async with line.working():
        await line.until_done()
    outcome = await line.commands.outcome(sent.command_id)
    assert outcome is not None
    assert (outcome.status, outcome.command_id) == ("success", sent.command_id)
    assert len(await line.read("c1")) == 1


async def test_execute_gives_up_in_time_if_no_worker_runs_and_the_outcome_can_be_asked_for_later(
    line: Line,
) -> None:
    command_id = new_id()
    began = asyncio.get_running_loop().time()
    with pytest.raises(CommandTimeout) as raised:
        await line.commands.execute(Add(), "c1", command_id=command_id, timeout=0.2)
    assert 0.2 <= asyncio.get_running_loop().time() - began < 9  # by default: 10
    assert raised.value.command_id == command_id
    async with line.working():
        await line.until_done()
    outcome = await line.commands.outcome(command_id)
    assert outcome is not None
    assert outcome.status == "success"


async def test_what_no_stream_takes_is_not_reported_as_accepted(
    client: Client, domain_name: str
) -> None:
    async with CommandClient(client, counting(domain_name).codec) as commands:
        with pytest.raises(NoResponders):
            await commands.execute(Add(), "c1")


@pytest.mark.parametrize("again", ["at once", "after the window", "to a worker that was restarted"])
@pytest.mark.parametrize(
    "command",
    [Add(amount=2), AddEach(amounts=[1, 1]), Take(amount=5), RaiseTo(total=0)],
    ids=["one event", "two events", "rejected", "no events"],
)
async def test_a_command_repeated_has_the_same_outcome_and_its_events_once(
    forgetful: Line, command: Command, again: str
) -> None:
    line = forgetful
    async with line.working():
        await line.commands.execute(Add(amount=2), "c1")
        first = await line.commands.execute(command, "c1")
        # From here on it would be decided otherwise.
        await line.commands.execute(Take(amount=2), "c1")
        await line.commands.execute(Add(amount=10), "c1")
        size = await line.log_size()
        if again == "at once":
            second = await line.commands.execute(command, "c1", command_id=first.command_id)
        elif again == "after the window":
            await send_again(line, command, first.command_id)
            await line.until_done()
            second = await line.commands.execute(command, "c1", command_id=first.command_id)
    if again == "to a worker that was restarted":
        await send_again(line, command, first.command_id)
        async with line.working():
            second = await line.commands.execute(command, "c1", command_id=first.command_id)
            await line.until_done()
    assert second == first
    assert await line.log_size() == size
    assert await line.parked() == []


async def test_execute_learns_the_outcome_of_what_was_sent_before_without_it(line: Line) -> None:
    sent = await line.commands.send(Add(), "c1")
    again = asyncio.create_task(
        line.commands.execute(Add(), "c1", command_id=sent.command_id, timeout=20)
    )
    async with line.working():
        outcome = await again
    assert outcome == await line.commands.outcome(sent.command_id)


async def test_the_same_command_executed_twice_concurrently_has_one_outcome_for_both(
    line: Line,
) -> None:
    command_id = new_id()
    async with line.working():
        outcomes = await asyncio.gather(
            *(line.commands.execute(Add(), "c1", command_id=command_id) for _ in range(5))
        )
    assert len(set(outcomes)) == 1
    assert await line.log_size() == 1


async def test_an_answer_that_was_missed_is_looked_up(line: Line, settings: Settings) -> None:
    async with (
        TcpProxy(line.client) as proxy,
        connect(settings_for(proxy.url)) as client,
        CommandClient(client, line.domain.codec) as commands,
    ):
        executed = asyncio.create_task(commands.execute(Add(), "c1", timeout=20))
        await until(lambda: is_queued(line))
        with proxy.refusing():
            proxy.cut()
            async with line.working():
                await line.until_done()
        outcome = await executed
    assert outcome.status == "success"


async def test_an_error_that_was_missed_is_looked_up_as_a_success_is(
    line: Line, settings: Settings
) -> None:
    async with (
        TcpProxy(line.client) as proxy,
        connect(settings_for(proxy.url)) as client,
        CommandClient(client, line.domain.codec) as commands,
    ):
        executed = asyncio.create_task(commands.execute(Decide(what="stray"), "c1", timeout=20))
        await until(lambda: is_queued(line))
        with proxy.refusing():
            proxy.cut()
            async with line.working(max_failures=1):
                await line.until_done()
        outcome = await executed
    assert (outcome.status, outcome.is_final) == ("error", False)
    assert outcome == await line.commands.outcome(outcome.command_id)


async def test_of_a_command_repeated_only_an_error_of_this_time_counts(line: Line) -> None:
    failed = Outcome(status="error", message="", code="handler_failed", command_id=new_id())
    await line.outcomes.put(failed, sequence=7)
    assert await line.outcomes.get(failed.command_id) == failed
    assert await line.outcomes.get(failed.command_id, since=7) == failed
    assert await line.outcomes.get(failed.command_id, since=8) is None


async def test_of_a_command_repeated_a_final_outcome_of_any_time_counts(line: Line) -> None:
    done = Outcome(status="rejected", message="", code="no", command_id=new_id())
    await line.outcomes.put(done, sequence=7)
    assert await line.outcomes.get(done.command_id, since=8) == done


async def is_queued(line: Line) -> bool:
    return await line.queued() == 1


async def test_events_name_the_command_as_their_cause_and_have_its_correlation_and_actor(
    line: Line,
) -> None:
    cause_identity = Identity.caused_by(Identity.root())
    command_id = new_id()
    async with line.working():
        await line.commands.execute(
            AddEach(amounts=[1, 2]), "c1", command_id=command_id, cause=cause_identity, actor="ann"
        )
    for number, event in enumerate(await line.read("c1")):
        assert event.causation_id == command_id
        assert event.correlation_id == cause_identity.correlation_id
        assert event.id == derive_id(command_id, f"counter.c1.{number}")
        assert uuid.UUID(event.id).version == 5
        assert event.envelope.actor == "ann"


async def test_a_command_without_a_cause_begins_a_correlation(line: Line) -> None:
    async with line.working():
        outcome = await line.commands.execute(Add(), "c1")
    (event,) = await line.read("c1")
    assert event.correlation_id == event.causation_id == outcome.command_id
    assert event.envelope.actor is None


async def test_a_command_is_decided_at_the_injected_time_which_is_its_events_time(
    line: Line,
) -> None:
    async with line.working(clock=lambda: NOON):
        await line.commands.execute(Sign(), "c1", actor="ann")
    (event,) = await line.read("c1")
    assert event.headers["X-Timestamp"] == "2026-06-01T12:30:15.000250Z"
    assert (event.data.actor, event.data.time) == ("ann", NOON)  # type: ignore[attr-defined]


async def test_a_command_carries_the_time_of_the_senders_clock(client: Client, line: Line) -> None:
    async with CommandClient(client, line.domain.codec, clock=lambda: NOON) as commands:
        sent = await commands.send(Sign(), "c1")
    message = await line.jetstream.get_msg(line.subjects.command_stream, sent.sequence)
    headers = message.headers or {}
    assert headers["X-Timestamp"] == "2026-06-01T12:30:15.000250Z"
    assert headers["X-Schema-Version"] == "2"
    assert headers["X-Event-ID"] == headers["Nats-Msg-Id"] == sent.command_id


async def test_a_creating_command_may_leave_the_id_to_the_client(line: Line) -> None:
    async with line.working():
        outcome = await line.commands.execute(Add())
    assert outcome.aggregate_id == derive_id(outcome.command_id, "aggregate")
    assert len(await line.read(outcome.aggregate_id)) == 1


async def test_what_may_not_be_sent_is_refused_before_it_is(line: Line) -> None:
    commands = line.commands
    with pytest.raises(InvalidHeader, match="X-Aggregate-ID"):
        await commands.send(Take(amount=1))
    with pytest.raises(InvalidId, match="one\\.two"):
        await commands.send(Add(), "one.two")
    with pytest.raises(InvalidId):
        await commands.send(Add(), "c1", command_id="not-a-uuid")
    with pytest.raises(InvalidHeader, match="X-Actor"):
        await commands.send(Add(), "c1", actor="line\nbreak")
    with pytest.raises(UnknownType):
        await commands.send(nix.CreateModule(name="m", content=""), "c1")
    with pytest.raises(UnknownType):
        await commands.send(Stray(), "c1")  # type: ignore[arg-type]
    with pytest.raises(EventTooLarge):
        await commands.send(AddEach(amounts=[0] * 600_000), "c1")
    assert await line.queued() == 0


async def test_outcomes_are_readable_with_the_plain_clients_key_value_store(line: Line) -> None:
    async with line.working():
        outcome = await line.commands.execute(Add(), "c1")
    bucket = await line.jetstream.key_value(line.subjects.outcome_bucket)
    entry = await bucket.get(outcome.command_id)
    assert json.loads(entry.value or b"") == json.loads(outcome.to_json())


async def test_outcomes_are_stored_as_long_as_the_settings_say(
    client: Client, domain_name: str
) -> None:
    streams = StreamSettings(outcome_max_age_days=3)
    async with opened(client, counting(domain_name), streams) as line:
        bucket = await line.jetstream.key_value(line.subjects.outcome_bucket)
        assert (await bucket.status()).ttl == 3 * 86_400


def test_outcomes_outlast_a_sender_who_asks_again_a_week_later() -> None:
    assert StreamSettings().outcome_max_age_days > 7


async def test_an_outcome_that_a_person_deleted_is_decided_by_the_recorded_events(
    forgetful: Line,
) -> None:
    line = forgetful
    async with line.working() as worker:
        first = await line.commands.execute(Add(), "c1")
        bucket = await line.jetstream.key_value(line.subjects.outcome_bucket)
        await bucket.delete(first.command_id)
        assert await line.commands.outcome(first.command_id) is None
        await send_again(line, Add(), first.command_id)
        await line.until_done()
        assert await line.commands.outcome(first.command_id) == first
    assert worker.handled == 2
    assert len(await line.read("c1")) == 1


async def test_the_nix_domain_works_end_to_end(client: Client, domain_name: str) -> None:
    async with opened(client, nix.domain(domain_name)) as line, line.working():
        execute = line.commands.execute
        created = await execute(nix.CreateFlake(path="/f", description="mine"), "f1")
        added = await execute(nix.AddFlakeInput(name="nixpkgs", url="github:NixOS/nixpkgs"), "f1")
        other = await execute(nix.AddFlakeInput(name="nixpkgs", url="github:else/where"), "f1")
        missing = await execute(nix.DeleteModule(), "m1")
    assert (created.status, created.message) == ("success", "FlakeCreated")
    assert (added.status, added.version) == ("success", 2)
    assert (other.status, other.code) == ("rejected", "input_exists")
    assert (missing.status, missing.code) == ("rejected", "not_found")


async def test_an_ordinary_day_leaves_no_warning_in_the_log(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with line.working() as worker:
            await line.commands.execute(Add(), "c1")
            await line.commands.execute(Take(amount=9), "c1")
    assert caplog.records == []
    assert worker.handled == 2
    await line.until_done()
