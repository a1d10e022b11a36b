"""Processes: each event leads to one reaction, and each of its commands is carried out once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from eventstore.client.client import Client, connect
from eventstore.decider.domain import Domain
from eventstore.errors import RetryFailed
from eventstore.messages.context import MessageContext
from eventstore.messages.envelope import Identity, derive_id
from eventstore.messages.events import RecordedEvent
from eventstore.processes import Process
from eventstore.processes.history import ProcessHistory, commands_of
from eventstore.processes.loader import ProcessLoader
from eventstore.processes.status import Processes
from eventstore.subscribers.status import Subscribers
from eventstore.timers import Timers
from tests.conftest import settings_for
from tests.integration.customers import (
    CustomerGreeted,
    CustomerRegistered,
    CustomerSeen,
    Greet,
    Register,
    customer,
    order,
)
from tests.integration.trading import (
    Abandoned,
    Fulfilment,
    Note,
    Noted,
    Placed,
    Receive,
    Reserve,
    Trade,
    fulfilling,
    traded,
)
from tests.proxy import TcpProxy


@pytest.fixture
async def trade(client: Client, domain_name: str) -> AsyncIterator[Trade]:
    async with traded(client, domain_name, fulfilling()) as trade:
        yield trade


async def test_it_follows_events_of_several_aggregates_to_the_end(trade: Trade) -> None:
    await trade.commands.execute(Receive(quantity=3), "tea")
    async with trade.reacting():
        await trade.place("o-1", quantity=2)
        await trade.until("o-1", "Placed", "Reserved", "Confirmed")
    assert await trade.types("order", "o-1") == ["Placed", "Confirmed"]
    assert await trade.types("stock", "tea") == ["Received", "Reserved"]


async def test_a_rejected_command_arrives_as_an_event(trade: Trade) -> None:
    await trade.commands.execute(Receive(quantity=1), "tea")
    async with trade.reacting():
        await trade.place("o-1", quantity=2)
        await trade.until("o-1", "Placed", "FulfilmentCommandRejected", "Abandoned")
    (abandoned,) = (await trade.events("order", "o-1"))[1:]
    assert abandoned.data.reason == "there are 1, not 2"  # type: ignore[attr-defined]


async def test_a_command_whose_rejection_is_recorded_is_not_sent_again(trade: Trade) -> None:
    """Not even where its outcome is not known any more: on another server, or after its age."""
    async with trade.reacting():
        await trade.place("o-1", quantity=2)
        await trade.until("o-1", "Placed", "FulfilmentCommandRejected", "Abandoned")
    history = ProcessHistory("fulfilment", trade.store)
    first, _rejected, second, _over = await trade.records("o-1")
    assert commands_of(first)
    found = [await history.reaction("o-1", each.id) for each in (first, second)]
    assert [each and each.data.commands for each in found] == [[], commands_of(second)]


async def test_what_it_does_belongs_to_the_correlation_of_its_event(trade: Trade) -> None:
    await trade.commands.execute(Receive(quantity=3), "tea")
    async with trade.reacting():
        outcome = await trade.place("o-1")
        await trade.until("o-1", "Placed", "Reserved", "Confirmed")
    (placed, confirmed), (reaction, *_) = (
        await trade.events("order", "o-1"),
        await trade.records("o-1"),
    )
    reserved = (await trade.events("stock", "tea"))[-1]
    command = reaction.data.commands[0]  # type: ignore[attr-defined]
    assert reaction.causation_id == placed.id
    assert reserved.causation_id == command.id
    every = {each.correlation_id for each in (placed, confirmed, reaction, reserved)}
    assert every == {outcome.command_id}


async def test_events_pass_by_a_process_that_does_not_run(trade: Trade) -> None:
    await trade.commands.execute(Receive(quantity=3), "tea")
    async with trade.reacting() as runner:
        await trade.commands.execute(Note(text="early"), "o-1")
        await trade.place("o-1")
        await trade.until("o-1", "Placed", "Reserved", "Confirmed")
        await trade.commands.execute(Note(text="late"), "o-1")
        await trade.place("o-1")
        await trade.until(
            "o-1", "Placed", "Reserved", "Confirmed", "Placed", "Reserved", "Confirmed"
        )
        assert runner.parked == 0
    earlier, *_, later = [
        each for record in await trade.records("o-1") for each in commands_of(record)
    ]
    history = ProcessHistory("fulfilment", trade.store)
    assert await history.sent("o-1", later.id) == later
    assert await history.sent("o-1", earlier.id) is None, "of the process that has ended"


async def test_its_state_is_what_the_events_say_wherever_it_is_loaded(trade: Trade) -> None:
    texts = tuple(f"note {number}" for number in range(5))
    await noted(trade, *texts)
    loaded = await ProcessLoader(trade.process, trade.store).load("o-1")
    assert loaded.state.state == Fulfilment(article="nothing", notes=texts, refused="")
    assert loaded.state.instance.reactions == 6


async def test_a_long_process_is_loaded_from_its_snapshot(client: Client, domain_name: str) -> None:
    process = fulfilling(snapshot_every=3)
    async with traded(client, domain_name, process) as trade:
        texts = tuple(f"note {number}" for number in range(8))
        await noted(trade, *texts)
        await trade.snapshots.drain(5)
        loaded = await ProcessLoader(process, trade.store, trade.snapshots).load("o-1")
        whole = await ProcessLoader(process, trade.store).load("o-1")
        assert loaded.state.instance == whole.state.instance
        assert loaded.state.state == whole.state.state
        assert loaded.snapshot >= 3
        own = [each.id for each in await trade.records("o-1")]
        assert all(map(loaded.commands.may_hold, own))


async def noted(trade: Trade, *texts: str) -> None:
    """A process has started, and has reacted to these notes."""
    async with trade.reacting():
        await trade.place("o-1", "nothing")
        for text in texts:
            await trade.commands.execute(Note(text=text), "o-1")
        await trade.until("o-1", "Placed", *["Noted"] * len(texts))


async def test_a_redelivered_event_leads_to_no_second_reaction(trade: Trade) -> None:
    await trade.commands.execute(Receive(quantity=3), "tea")
    async with trade.reacting() as first:
        await trade.place("o-1")
        await trade.until("o-1", "Placed", "Reserved", "Confirmed")
    assert first.handled == 3
    subscribers = Subscribers(trade.client, trade.subjects)
    await subscribers.reset(await subscribers.plan_reset("fulfilment", "all"))
    before = await trade.records("o-1")
    async with trade.reacting() as runner:
        await trade.place("o-2")
        await trade.until("o-2", "Placed", "Reserved", "Confirmed")
        assert runner.handled >= 6
    assert await trade.records("o-1") == before
    assert await trade.types("stock", "tea") == ["Received", "Reserved", "Reserved"]


async def test_two_of_one_kind_that_run_at_the_same_time_react_once(trade: Trade) -> None:
    await trade.commands.execute(Receive(quantity=99), "tea")
    async with trade.reacting(), trade.reacting():
        for number in range(20):
            await trade.place(f"o-{number}")
        for number in range(20):
            await trade.until(f"o-{number}", "Placed", "Reserved", "Confirmed")
    assert await trade.types("stock", "tea") == ["Received", *["Reserved"] * 20]


async def test_a_process_that_fails_takes_no_other_event_until_it_is_retried(
    client: Client, domain_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    mistakes = {"break"}
    async with (
        traded(client, domain_name, fulfilling(mistakes)) as trade,
        trade.reacting(),
    ):
        await trade.place("o-1", "nothing")
        for text in ("one", "break", "two", "end"):
            await trade.commands.execute(Note(text=text), "o-1")
        await trade.place("o-2")
        await trade.until("o-2", "Placed", "FulfilmentCommandRejected", "Abandoned")
        parked = await trade.until_parked(3)
        assert await trade.reactions("o-1") == ["Placed", "Noted"]
        broken, *waiting = await trade.failures("o-1")
        assert (broken.code, broken.reason) == ("handler_failed", "at a note")
        assert [each.code for each in waiting] == ["process_waits"] * 2
        assert [each.record.subscriber for each in parked] == ["fulfilment"] * 3
        broke, waited = [each for each in caplog.records if "attempt 1 of 1" in each.message]
        assert broke.message.endswith("failed: Broken: at a note")
        assert "ProcessWaits: process fulfilment has failed at Noted" in waited.message
        assert [bool(each.exc_info) for each in (broke, waited)] == [True, False]

        with pytest.raises(RetryFailed, match="has failed at Noted"):
            await trade.parking.retry(parked[1].sequence, out_of_order=True)
        mistakes.clear()
        for each in parked:
            await trade.parking.retry(each.sequence)
        assert await trade.reactions("o-1") == ["Placed", *["Noted"] * 4]
        assert await trade.parked() == []
        loaded = await ProcessLoader(trade.process, trade.store).load("o-1")
    assert loaded.state.state.notes == ("one", "break", "two", "end")
    assert loaded.state.instance.status == "ended"


async def test_a_discarded_event_is_waited_for_no_longer(trade: Trade) -> None:
    async with trade.reacting():
        await trade.place("o-1", "nothing")
        await trade.commands.execute(Note(text="break"), "o-1")
        (parked,) = await trade.until_parked(1)
        await trade.parking.discard(parked.sequence)
        await trade.commands.execute(Note(text="on"), "o-1")
        await trade.until("o-1", "Placed", "Noted")
        loaded = await ProcessLoader(trade.process, trade.store).load("o-1")
    assert loaded.state.instance.failed == {}
    assert loaded.state.state.notes == ("on",)


async def test_a_process_that_loops_by_its_own_commands_ends_up_parked(
    client: Client, domain_name: str
) -> None:
    async with traded(client, domain_name, fulfilling(max_reactions=5)) as trade:
        async with trade.reacting():
            await trade.place("o-1", "nothing")
            await trade.commands.execute(Note(text="loop"), "o-1")
            (parked,) = await trade.until_parked(1)
        assert parked.record.code == "process_loop"
        assert "fulfilment has reacted 5 times" in parked.record.reason
        assert await trade.reactions("o-1") == ["Placed", *["Noted"] * 5]


async def test_events_after_the_one_that_could_not_start_it_are_not_lost(
    client: Client, domain_name: str
) -> None:
    mistakes = {"broken"}
    async with (
        traded(client, domain_name, fulfilling(mistakes)) as trade,
        trade.reacting(),
    ):
        await trade.place("o-1", "broken")
        await trade.commands.execute(Note(text="one"), "o-1")
        placed, note = await trade.until_parked(2)
        assert [placed.record.code, note.record.code] == ["handler_failed", "process_waits"]
        mistakes.clear()
        await trade.parking.retry(placed.sequence)
        (*_, rejection) = await trade.until_parked(2)  # of its command, behind the note
        await trade.parking.retry(note.sequence)
        await trade.parking.retry(rejection.sequence)
        await trade.until("o-1", "Placed", "Noted", "FulfilmentCommandRejected", "Abandoned")


async def test_a_process_whose_state_cannot_be_folded_has_failed_as_well(
    client: Client, domain_name: str
) -> None:
    forgetful = set[str]()
    async with traded(client, domain_name, fulfilling((), forgetful)) as trade:
        await noted(trade, "one")
        forgetful.add("one")  # as a later release may have it
        async with trade.reacting():
            await trade.commands.execute(Note(text="two"), "o-1")
            (parked,) = await trade.until_parked(1)
            (failure,) = await trade.failures("o-1")
            assert (failure.trigger.type, failure.reason) == ("Noted", "cannot remember")
            forgetful.clear()
            await trade.parking.retry(parked.sequence)
            assert await trade.reactions("o-1") == ["Placed", "Noted", "Noted"]


async def test_failed_processes_are_found_though_a_key_cannot_be(
    client: Client, domain_name: str
) -> None:
    mistakes = {"break"}

    def key(event: Placed | Noted, _recorded: RecordedEvent) -> str:
        if getattr(event, "text", "") == "no key":
            raise ValueError("of the function")
        return "all"

    process: Process[int] = Process("fulfilment", initial=int, key=key)

    @process.starts
    def placed(_state: int, _event: Placed) -> None: ...

    @process.reacts
    def noted(_state: int, event: Noted) -> None:
        assert event.text not in mistakes

    async with traded(client, domain_name, process) as trade, trade.reacting():
        await trade.place("o-1", "nothing")
        for text in ("no key", "break"):
            await trade.commands.execute(Note(text=text), "o-1")
        await trade.until_parked(2)
        processes = Processes(client, trade.store, [process])
        assert [each.key async for each in processes.list(failed=True)] == ["all"]


async def test_processes_that_start_ever_more_of_their_kind_end_up_parked(
    client: Client, domain_name: str
) -> None:
    async with traded(client, domain_name, fulfilling(max_reactions=5)) as trade:
        async with trade.reacting():
            await trade.place("o", "again")
            (parked,) = await trade.until_parked(1)
        assert parked.record.code == "process_loop"
        assert parked.record.aggregate_id == "oxxxxx"


async def test_a_timer_sends_its_command_later(trade: Trade) -> None:
    async with trade.reacting():
        await trade.place("o-1", "nothing")
        await trade.commands.execute(Note(text="in 0.2"), "o-1")
        await trade.until("o-1", "Placed", "Noted", "Noted")
    due = (await trade.events("order", "o-1"))[-1]
    reaction = (await trade.records("o-1"))[1].data
    assert due.data == Noted(text="due")
    assert due.causation_id == reaction.commands[0].id  # type: ignore[attr-defined]


async def test_the_command_of_a_timer_that_is_rejected_arrives_as_well(trade: Trade) -> None:
    async with trade.reacting():
        await trade.place("o-1", "nothing")
        await trade.commands.execute(Note(text="reserve"), "o-1")
        await trade.until("o-1", "Placed", "Noted", "FulfilmentCommandRejected", "Abandoned")
    abandoned = (await trade.events("order", "o-1"))[-1]
    assert abandoned.data == Abandoned(reason="there are 0, not 99")


@pytest.mark.parametrize("text", ["cancel", "end"])
async def test_a_timer_is_cancelled_by_name_and_when_the_process_ends(
    trade: Trade, text: str
) -> None:
    async with trade.reacting():
        await trade.place("o-1", "nothing")
        await trade.commands.execute(Note(text="in 900"), "o-1")
        await trade.until("o-1", "Placed", "Noted")
        timers = Timers(trade.client, trade.subjects)
        assert [each.type async for each in timers.read()] == ["Note"]
        await trade.commands.execute(Note(text=text), "o-1")
        await trade.until("o-1", "Placed", "Noted", "Noted")
    assert [each async for each in timers.read()] == []


async def test_a_redelivered_event_sets_no_timer_again_that_was_cancelled(trade: Trade) -> None:
    async with trade.reacting():
        await trade.place("o-1", "nothing")
        for text in ("in 900", "in 901", "cancel", "in 902"):
            await trade.commands.execute(Note(text=text), "o-1")
        await trade.until("o-1", "Placed", *["Noted"] * 4)
    timers = Timers(trade.client, trade.subjects)
    before = [each async for each in timers.read()]
    subscribers = Subscribers(trade.client, trade.subjects)
    await subscribers.reset(await subscribers.plan_reset("fulfilment", "all"))
    async with trade.reacting() as runner:
        await trade.place("o-2", "nothing")
        await trade.until("o-2", "Placed")
        assert runner.handled == 6
    after = [each async for each in timers.read()]
    assert [each.due for each in after] == [each.due for each in before]
    assert len(after) == 1


async def test_an_event_of_an_unknown_version_is_parked_and_others_go_on(trade: Trade) -> None:
    newer = await newer_note(trade, "o-1")
    async with trade.reacting():
        await trade.place("o-2", "nothing")
        await trade.until("o-2", "Placed")
        (parked,) = await trade.until_parked(1)
    assert parked.record.headers["X-Event-ID"] == newer
    assert parked.record.code == "unsupported_schema"


async def newer_note(trade: Trade, key: str) -> str:
    """Publish a note as a later release would; its id."""
    async with trade.reacting():
        await trade.place(key, "nothing")
        await trade.commands.execute(Note(text="one"), key)
        await trade.until(key, "Placed", "Noted")
    noted = (await trade.events("order", key))[-1]
    own = derive_id(noted.id, "newer")
    given = {name: value for name, value in noted.headers.items() if name.startswith("X-")}
    headers = given | {"X-Event-ID": own, "X-Schema-Version": "2"}
    headers["X-Position"] = str(noted.position)
    subject = trade.subjects.event("order", "noted")
    stored = await trade.client.request(subject, noted.payload, headers=headers)
    assert b"seq" in stored.data, stored.data
    return own


def greeting() -> Process[Greeted]:
    """A process that sends personal data of the event that starts it."""
    process = Process("greeting", initial=Greeted, key="customer")

    @process.starts
    def registered(_state: Greeted, event: CustomerRegistered) -> Greet:
        return Greet(words=f"hello {event.email}")

    @process.reacts
    def seen(state: Greeted, _event: CustomerSeen) -> Greet:
        return Greet(words=f"welcome back {state.email}")

    @process.evolves
    def known(_state: Greeted, event: CustomerRegistered) -> Greeted:
        return Greeted(event.email)

    return process


class Greeted(msgspec.Struct, frozen=True):
    email: str = ""


async def test_personal_data_are_encrypted_in_its_records_and_forgotten_with_the_subject(
    client: Client, domain_name: str
) -> None:
    process = greeting()
    domain = Domain(domain_name, [customer, order, process.decider])
    async with traded(client, domain_name, process, domain=domain) as trade:
        async with trade.reacting():
            await trade.commands.execute(Register(email="ann@example.org"), "c-1")
            await trade.until_types("customer", "c-1", "CustomerRegistered", "CustomerGreeted")
        (greeted,) = (await trade.events("customer", "c-1"))[1:]
        assert greeted.data == CustomerGreeted(words="hello ann@example.org")
        (reaction,) = await trade.records("c-1")
        assert b"ann@example.org" not in reaction.payload
        assert reaction.data.commands[0].data == {"words": "hello ann@example.org"}  # type: ignore[attr-defined]

        await trade.store.keyring.forget("c-1")
        loaded = await ProcessLoader(process, trade.store).load("c-1")
        assert loaded.state.state == Greeted(email="[forgotten]")
        (reaction,) = await trade.records("c-1")
        assert reaction.data.commands == []  # type: ignore[attr-defined]

        async with trade.reacting():
            await trade.store.append("customer", "c-1", CustomerSeen())
            await trade.until("c-1", "CustomerRegistered", "CustomerSeen")
        (_, reaction) = await trade.records("c-1")
        assert reaction.data.commands[0].data == {"words": "welcome back [forgotten]"}  # type: ignore[attr-defined]


async def test_nobody_else_can_make_a_process_believe_that_its_command_was_rejected(
    trade: Trade,
) -> None:
    async with trade.reacting():
        await trade.place("o-1", "nothing")
        await trade.until("o-1", "Placed")
        forged = MessageContext(Identity.root(), "anybody", process="fulfilment.o-1")
        with forged.begun():
            outcome = await trade.commands.execute(Reserve(order="o-1", quantity=9), "tea")
        assert outcome.code == "too_few"
        await trade.commands.execute(Note(text="one"), "o-1")
        await trade.until("o-1", "Placed", "Noted")
    assert [each.type for each in await trade.records("o-1")] == ["FulfilmentReacted"] * 2


async def test_broken_connections_lose_and_repeat_nothing(client: Client, domain_name: str) -> None:
    process = fulfilling()
    async with (
        traded(client, domain_name, process) as trade,
        TcpProxy(client) as proxy,
        connect(settings_for(proxy.url)) as far,
        traded(far, domain_name, process, worker=False) as distant,
        distant.reacting(ack_wait=0.5),
    ):
        await trade.commands.execute(Receive(quantity=12), "tea")
        for number in range(12):
            await trade.place(f"o-{number}")
            if number in (3, 8):
                proxy.cut()
        for number in range(12):
            await trade.until(f"o-{number}", "Placed", "Reserved", "Confirmed")
        assert await trade.types("stock", "tea") == ["Received", *["Reserved"] * 12]
        assert await trade.parked() == []
