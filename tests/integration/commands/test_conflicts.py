"""Others write to the same aggregates: every command is decided on the actual state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import nix
from eventstore.client.client import Client, connect
from eventstore.commands import Outcome, handler
from eventstore.commands.results import rejected
from eventstore.config import Settings
from eventstore.decider.domain import Domain
from eventstore.errors import DuplicateId, Rejected
from eventstore.messages.envelope import new_id
from eventstore.messages.events import RecordedEvent
from eventstore.messages.types import Command, Event
from eventstore.store.append import Append, AppendResult
from eventstore.store.head import NOTHING
from eventstore.store.pending_append import PendingAppend
from eventstore.store.store import EventStore
from tests.integration.commanding import (
    Add,
    AddEach,
    Added,
    Counter,
    Line,
    RaiseTo,
    Take,
    accepted,
    counter,
    counting,
    opened,
)


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


@pytest.fixture
async def two_lines(settings: Settings, domain_name: str) -> AsyncIterator[list[Line]]:
    """Two connections with a worker on each."""
    async with AsyncExitStack() as stack:
        yield [await worked(stack, settings, counting(domain_name)) for _ in range(2)]


async def worked(stack: AsyncExitStack, settings: Settings, domain: Domain) -> Line:
    client = await stack.enter_async_context(connect(settings))
    line = await stack.enter_async_context(opened(client, domain))
    await stack.enter_async_context(line.working())
    return line


class Meddler(EventStore):
    """A store to whose aggregates another writer appends, just before we do."""

    def __init__(self, *arguments: Any, times: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.times = times

    async def append_prepared(self, *writes: PendingAppend) -> list[AppendResult]:
        if self.times:
            self.times -= 1
            ours = writes[0].append
            theirs = Append(
                aggregate=ours.aggregate,
                aggregate_id=ours.aggregate_id,
                events=[Added(amount=100)],
            )
            await super().append_prepared(self.prepare(theirs))
        return await super().append_prepared(*writes)


class StoreOfAClaimedId(EventStore):
    """A store that records the first append and says that its ids are another event's.

    So the server does whose answer to the first try was lost while another worker's events, which
    have the same ids, were being stored.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.claims = 1

    async def append_prepared(self, *writes: PendingAppend) -> list[AppendResult]:
        appended = await super().append_prepared(*writes)
        if self.claims:
            self.claims -= 1
            raise DuplicateId(f"append to {writes[0].subject}: an event id is used")
        return appended


async def test_a_command_on_a_stale_cached_state_is_decided_again(line: Line) -> None:
    async with line.working():
        await line.commands.execute(Add(amount=1), "c1")
        await line.store.append("counter", "c1", Added(amount=10))
        outcome = await line.commands.execute(RaiseTo(total=20), "c1")
    events = await line.read("c1")
    assert [event.data for event in events] == [Added(amount=a) for a in (1, 10, 9)]
    assert (outcome.version, outcome.event_ids) == (3, (events[-1].id,))


async def test_a_rejection_from_a_stale_cached_state_is_not_given(line: Line) -> None:
    async with line.working():
        await line.commands.execute(Add(amount=1), "c1")
        await line.store.append("counter", "c1", Added(amount=10))
        outcome = await line.commands.execute(Take(amount=5), "c1")
    assert (outcome.status, outcome.version) == ("success", 3)


@pytest.mark.parametrize("is_cached", [True, False])
async def test_what_another_process_has_rejected_meanwhile_is_not_accepted_on_a_later_state(
    line: Line, monkeypatch: pytest.MonkeyPatch, is_cached: bool
) -> None:
    """As after a freeze of this process, in which the command was redelivered to another one."""
    frozen, other, command = line.handler(), line.handler(), accepted(Take(amount=5))
    final = line.outcomes.final
    rejections: list[Outcome | None] = []

    async def then_frozen(*words: Any, **options: Any) -> Outcome | None:
        known = await final(*words, **options)
        if not rejections:
            rejections.append(None)
            rejected = await other.handle(command, redelivered=True)
            rejections[0] = await line.outcomes.put(rejected, digest=command.digest)
            await line.store.append("counter", "c1", Added(amount=10))
        return known

    await (frozen if is_cached else other).handle(accepted(Add(amount=1)))
    monkeypatch.setattr(line.outcomes, "final", then_frozen)
    outcome = await frozen.handle(command)
    assert (outcome.status, outcome.version) == ("rejected", 1)
    assert [outcome] == rejections
    assert [event.data for event in await line.read("c1")] == [Added(amount=1), Added(amount=10)]


async def test_what_was_rejected_while_the_process_stood_still_is_not_accepted_on_the_same_state(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a decider that looks at the time, in the process that got the command again."""
    frozen, command = line.handler(), accepted(Add(amount=5))
    final, rejections = line.outcomes.final, list[Outcome]()

    async def then_frozen(*words: Any, **options: Any) -> Outcome | None:
        known = await final(*words, **options)
        if not rejections:
            too_late = rejected(command, NOTHING, Rejected("too_late", "the counter is closed"))
            rejections.append(await line.outcomes.put(too_late, digest=command.digest))
        return known

    monkeypatch.setattr(line.outcomes, "final", then_frozen)
    monkeypatch.setattr(handler, "_MAX_PAUSE", -1.0)
    outcome = await frozen.handle(command)
    assert [outcome] == rejections
    assert await line.read("c1") == []


async def test_a_success_that_has_become_a_rejection_is_one(line: Line) -> None:
    async with line.working():
        await line.commands.execute(Add(amount=10), "c1")
        await line.store.append("counter", "c1", Added(amount=-10))
        outcome = await line.commands.execute(Take(amount=5), "c1")
    assert (outcome.status, outcome.version, outcome.event_ids) == ("rejected", 2, ())


async def test_nothing_to_change_on_a_stale_cached_state_is_not_trusted(line: Line) -> None:
    async with line.working():
        await line.commands.execute(Add(amount=10), "c1")
        await line.store.append("counter", "c1", Added(amount=-10))
        outcome = await line.commands.execute(RaiseTo(total=5), "c1")
    assert (outcome.status, outcome.message, outcome.version) == ("success", "Added", 3)


async def test_a_command_whose_ids_are_taken_is_a_success_if_its_events_are_recorded(
    line: Line,
) -> None:
    async with (
        StoreOfAClaimedId(line.client, line.domain.codec) as store,
        line.working(store=store),
    ):
        outcome = await line.commands.execute(AddEach(amounts=[1, 2]), "c1")
        await line.commands.execute(Add(amount=3), "c1")
    events = await line.read("c1")
    assert [event.data for event in events] == [Added(amount=amount) for amount in (1, 2, 3)]
    assert (outcome.status, outcome.version) == ("success", 2)
    assert outcome.event_ids == tuple(event.id for event in events[:2])
    assert await line.parked() == []


async def test_a_command_is_decided_as_often_as_others_are_faster(line: Line) -> None:
    async with (
        Meddler(line.client, line.domain.codec, times=4) as store,
        line.working(store=store),
    ):
        outcome = await line.commands.execute(RaiseTo(total=1_000), "c1")
    assert sum(event.data.amount for event in await line.read("c1")) == 1_000  # type: ignore[attr-defined]
    assert outcome.version == 5


async def test_too_many_conflicts_put_a_command_back_and_do_not_lose_it(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Meddler(line.client, line.domain.codec, times=5) as store,
        line.working(store=store, max_conflicts=1),
    ):
        with caplog.at_level(logging.WARNING):
            outcome = await line.commands.execute(RaiseTo(total=1_000), "c1")
    assert outcome.status == "success"
    assert sum(event.data.amount for event in await line.read("c1")) == 1_000  # type: ignore[attr-defined]
    (line_of_log, *_) = [each.message for each in caplog.records if "is requeued" in each.message]
    named = (
        f"command RaiseTo {outcome.command_id} on counter c1 failed at attempt 1, and is requeued"
    )
    assert line_of_log.startswith(f"{named}: Conflict: counter c1 was expected at version")
    assert await line.parked() == []
    await line.until_done()


async def test_two_workers_hammering_one_aggregate_carry_out_every_command_once(
    settings: Settings, domain_name: str
) -> None:
    async with AsyncExitStack() as stack:
        lines = [await worked(stack, settings, nix.domain(domain_name)) for _ in range(2)]
        await lines[0].commands.execute(nix.CreateFlake(path="/f", description=""), "f1")
        outcomes = await asyncio.gather(
            *(
                lines[number % 2].commands.execute(
                    nix.AddFlakeInput(name=f"input{number}", url="github:a/b"), "f1", timeout=50
                )
                for number in range(300)
            )
        )
        events = await lines[0].read("f1", "flake")
        await lines[0].until_done()
    assert {outcome.status for outcome in outcomes} == {"success"}
    assert [event.version for event in events] == list(range(1, 302))
    by_id = {event.id: event for event in events}
    for number, outcome in enumerate(outcomes):
        (event_id,) = outcome.event_ids
        assert by_id[event_id].data.name == f"input{number}"  # type: ignore[attr-defined]
        assert by_id[event_id].causation_id == outcome.command_id
        assert by_id[event_id].version == outcome.version
        assert by_id[event_id].position == outcome.position


operations = st.one_of(
    st.builds(Add, amount=st.integers(1, 5)),
    st.builds(AddEach, amounts=st.lists(st.integers(1, 3), min_size=0, max_size=3)),
    st.builds(Take, amount=st.integers(1, 6)),
    st.builds(RaiseTo, total=st.integers(1, 8)),
)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sent=st.lists(st.tuples(st.integers(0, 2), operations), min_size=1, max_size=25))
async def test_any_interleaving_through_two_workers_equals_deciding_one_after_another(
    two_lines: list[Line], sent: list[tuple[int, Command]]
) -> None:
    names = [f"c{new_id()}" for _ in range(3)]
    outcomes = await asyncio.gather(
        *(
            two_lines[turn % 2].commands.execute(command, names[which], timeout=40)
            for turn, (which, command) in enumerate(sent)
        )
    )
    for which, name in enumerate(names):
        events = await two_lines[0].read(name)
        own = [
            (command, outcome)
            for (of, command), outcome in zip(sent, outcomes, strict=True)
            if of == which
        ]
        assert [event.version for event in events] == list(range(1, len(events) + 1))
        assert sum(len(outcome.event_ids) for _, outcome in own) == len(events)
        for command, outcome in own:
            assert_decided_on_what_stood(command, outcome, events)


def assert_decided_on_what_stood(
    command: Command, outcome: Outcome, events: list[RecordedEvent]
) -> None:
    """The state its version says is the one that leads to just this outcome."""
    before = events[: outcome.version - len(outcome.event_ids)]
    new = events[len(before) : outcome.version]
    assert tuple(event.id for event in new) == outcome.event_ids
    assert all(event.causation_id == outcome.command_id for event in new)
    state: Counter = counter.fold([event.data for event in before])
    decided = decide(state, command)
    if isinstance(decided, Rejected):
        assert (outcome.status, outcome.code) == ("rejected", decided.code)
        assert outcome.message == decided.message
    else:
        assert outcome.status == "success"
        assert tuple(event.data for event in new) == decided


def decide(state: Counter, command: Command) -> tuple[Event, ...] | Rejected:
    context: Any = None
    try:
        return counter.decide(state, command, context)
    except Rejected as rejection:
        return rejection
