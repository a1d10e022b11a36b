"""A later release: the state of a process is folded from events of older schemas, upcast."""

from __future__ import annotations

from eventstore.client.client import Client
from eventstore.decider.decider import Decider
from eventstore.decider.domain import Domain
from eventstore.messages.types import Event
from eventstore.processes import Process
from eventstore.processes.loader import ProcessLoader
from eventstore.store.store import EventStore
from tests.integration import trading
from tests.integration.trading import Abandoned, Placed, fulfilling, traded


class Noted(Event, subject="order.noted", schema_version=2):
    words: str


order = Decider("order", initial=int)
fulfilment: Process[tuple[str, ...]] = Process("fulfilment", initial=tuple, key="order")


@order.evolves
def changed(orders: int, _event: Placed | Noted) -> int:
    return orders


@order.upcasts("Noted", 1)
def text_is_words(data: dict[str, str]) -> dict[str, str]:
    return {"words": data["text"].upper()}


@fulfilment.starts
def placed(_notes: tuple[str, ...], _event: Placed) -> None:
    return None


@fulfilment.evolves
def noted(notes: tuple[str, ...], event: Noted) -> tuple[str, ...]:
    return (*notes, event.words)


later: Process[int] = Process("fulfilment", initial=int, key="order")


@later.starts
def ordered(_count: int, _event: Placed) -> None:
    return None


@later.evolves
def counted(count: int, _event: Placed | Abandoned | trading.Noted) -> int:
    return count + 1


async def test_a_rejection_of_a_command_that_is_no_more_passes_by(
    client: Client, domain_name: str
) -> None:
    async with traded(client, domain_name, fulfilling()) as trade, trade.reacting():
        await trade.place("o-1", "nothing")
        await trade.commands.execute(trading.Note(text="reserve"), "o-1")
        await trade.until("o-1", "Placed", "Noted", "FulfilmentCommandRejected", "Abandoned")
    domain = Domain(domain_name, [trading.orders(), later.decider])
    async with EventStore(client, domain.codec) as store:
        loaded = await ProcessLoader(later, store).load("o-1")
    assert loaded.state.state == 3


async def test_the_state_is_folded_from_upcast_events(client: Client, domain_name: str) -> None:
    async with traded(client, domain_name, fulfilling()) as trade, trade.reacting():
        await trade.place("o-1", "nothing")
        for text in ("one", "two"):
            await trade.commands.execute(trading.Note(text=text), "o-1")
        await trade.until("o-1", "Placed", "Noted", "Noted")
    domain = Domain(domain_name, [order, fulfilment.decider])
    async with EventStore(client, domain.codec) as store:
        loaded = await ProcessLoader(fulfilment, store).load("o-1")
    assert loaded.state.state == ("ONE", "TWO")
