"""A shop whose orders are fulfilled by a process, and all that this needs on one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Container
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from eventstore.application import running
from eventstore.client.client import Client
from eventstore.commands import CommandClient, CommandHandler, CommandWorker, Outcome, Outcomes
from eventstore.config import StreamSettings
from eventstore.decider.decider import Decider
from eventstore.decider.domain import Domain
from eventstore.errors import Rejected
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.events import RecordedEvent
from eventstore.messages.types import Command, Event
from eventstore.parking.messages import ParkedMessage, ParkedMessages
from eventstore.processes import (
    END,
    After,
    Cancel,
    Process,
    ProcessContext,
    ProcessRejections,
    Reaction,
    Rejection,
    Send,
    process_runner,
)
from eventstore.processes.records import Failed, Reacted
from eventstore.projections.feed.feed import Feed
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import EventStore
from eventstore.subscribers import EventSubscriber


class Place(Command, subject="order.place"):
    article: str
    quantity: int = 1


class Confirm(Command, subject="order.confirm"):
    pass


class Abandon(Command, subject="order.abandon"):
    reason: str


class Note(Command, subject="order.note"):
    text: str


class Placed(Event, subject="order.placed"):
    article: str
    quantity: int


class Confirmed(Event, subject="order.confirmed"):
    pass


class Abandoned(Event, subject="order.abandoned"):
    reason: str


class Noted(Event, subject="order.noted"):
    text: str


class Receive(Command, subject="stock.receive"):
    quantity: int


class Reserve(Command, subject="stock.reserve"):
    order: str
    quantity: int


class Received(Event, subject="stock.received"):
    quantity: int


class Reserved(Event, subject="stock.reserved"):
    order: str
    quantity: int


class Order(msgspec.Struct, frozen=True):
    status: str = ""


class Stock(msgspec.Struct, frozen=True):
    available: int = 0


def orders() -> Decider[Order]:
    order = Decider("order", initial=Order)

    @order.decides
    def place(_order: Order, command: Place) -> Placed:
        return Placed(article=command.article, quantity=command.quantity)

    @order.decides
    def confirm(order: Order, _command: Confirm) -> Confirmed:
        if order.status != "placed":
            raise Rejected("not_open", f"it is {order.status}")
        return Confirmed()

    @order.decides
    def abandon(order: Order, command: Abandon) -> Abandoned:
        if order.status != "placed":
            raise Rejected("not_open", f"it is {order.status}")
        return Abandoned(reason=command.reason)

    @order.decides
    def note(_order: Order, command: Note) -> Noted:
        return Noted(text=command.text)

    @order.evolves
    def changed(order: Order, event: Placed | Confirmed | Abandoned | Noted) -> Order:
        names = {Placed: "placed", Confirmed: "confirmed", Abandoned: "abandoned"}
        return Order(names.get(type(event), order.status))

    return order


def stocks() -> Decider[Stock]:
    stock = Decider("stock", initial=Stock)

    @stock.decides
    def receive(_stock: Stock, command: Receive) -> Received:
        return Received(quantity=command.quantity)

    @stock.decides
    def reserve(stock: Stock, command: Reserve) -> Reserved:
        if command.quantity > stock.available:
            raise Rejected("too_few", f"there are {stock.available}")
        return Reserved(order=command.order, quantity=command.quantity)

    @stock.evolves
    def changed(stock: Stock, event: Received | Reserved) -> Stock:
        sign = 1 if isinstance(event, Received) else -1
        return Stock(stock.available + sign * event.quantity)

    return stock


class Fulfilment(msgspec.Struct, frozen=True):
    article: str = ""
    notes: tuple[str, ...] = ()
    refused: str = ""


class Broken(Exception):
    """A mistake of the process's author."""


def at_note(text: str, mistakes: Container[str]) -> Reaction:
    """What the process does at a note that says what it is to do."""
    if text.startswith("in "):
        return After(Note(text="due"), seconds=float(text.removeprefix("in ")))
    if text in mistakes:
        raise Broken("at a note")
    actions: dict[str, Reaction] = {
        "cancel": Cancel(Note),
        "loop": Note(text="loop"),
        "reserve": After(Reserve(order="o-1", quantity=99), "tea", seconds=0.05),
        "end": END,
        "several": [Note(text="one"), Note(text="two"), After(Note(text="three"), seconds=0.05)],
    }
    return actions.get(text)


def fulfilling(
    mistakes: Container[str] = ("break",), forgetful: Container[str] = (), **options: Any
) -> Process[Fulfilment]:
    """A process that reserves stock for an order, then confirms it, or abandons it.

    It needs no stock for the article "nothing", places another order for "again", and fails at
    orders of these articles and at notes with these texts; it cannot fold `forgetful` ones.
    """
    process = Process("fulfilment", initial=Fulfilment, key="order", **options)

    @process.starts
    def placed(state: Fulfilment, event: Placed, context: ProcessContext) -> Reaction:
        assert state.article == event.article
        if event.article in mistakes:
            raise Broken("at an order")
        if event.article == "nothing":
            return None
        if event.article == "again":
            return Send(Place(article="again"), f"{context.key}x")
        return Send(Reserve(order=context.key, quantity=event.quantity), event.article)

    @process.reacts
    def reserved(_state: Fulfilment, _event: Reserved) -> Confirm:
        return Confirm()

    @process.reacts
    def refused(state: Fulfilment, rejection: Rejection[Reserve]) -> Abandon:
        assert state.refused == rejection.code
        return Abandon(reason=f"{rejection.message}, not {rejection.command.quantity}")

    @process.reacts
    def noted(state: Fulfilment, event: Noted) -> Reaction:
        return at_note(event.text, mistakes)

    @process.ends
    def confirmed(_state: Fulfilment, _event: Confirmed | Abandoned) -> None:
        return None

    evolve(process, forgetful)
    return process


def evolve(process: Process[Fulfilment], forgetful: Container[str]) -> None:
    """Its state."""

    @process.evolves
    def begun(state: Fulfilment, event: Placed) -> Fulfilment:
        return Fulfilment(article=event.article, notes=state.notes)

    @process.evolves
    def remembered(state: Fulfilment, event: Noted) -> Fulfilment:
        if event.text in forgetful:
            raise Broken("cannot remember")
        return msgspec.structs.replace(state, notes=(*state.notes, event.text))

    @process.evolves
    def known(state: Fulfilment, event: Rejection[Reserve]) -> Fulfilment:
        return msgspec.structs.replace(state, refused=event.code)


def trading(name: str, process: Process[Any]) -> Domain:
    return Domain(name, [orders(), stocks(), process.decider])


class Trade:
    """A connection, and on it everything that a process needs to run."""

    def __init__(
        self,
        client: Client,
        domain: Domain,
        process: Process[Any],
        store: EventStore,
        commands: CommandClient,
        snapshots: Snapshots,
    ) -> None:
        self.client = client
        self.domain = domain
        self.process = process
        self.store = store
        self.commands = commands
        self.snapshots = snapshots
        self.subjects = domain.codec.subjects
        self.parking = ParkedMessages(client, self.subjects)

    def runner(self, **options: Any) -> EventSubscriber:
        given = {"snapshots": self.snapshots} | options
        store, commands = given.pop("store", self.store), given.pop("commands", self.commands)
        return process_runner(self.process, self.client, store, commands, **given)

    @asynccontextmanager
    async def reacting(self, **options: Any) -> AsyncIterator[EventSubscriber]:
        """The process runs inside the block."""
        runner = self.runner(**options)
        async with running(runner):
            await runner.ready.wait()
            yield runner

    async def place(self, key: str, article: str = "tea", quantity: int = 1) -> Outcome:
        return await self.commands.execute(Place(article=article, quantity=quantity), key)

    async def records(self, key: str) -> list[RecordedEvent]:
        return [each async for each in self.store.read(self.process.name, key, leader=True)]

    async def reactions(self, key: str) -> list[str]:
        """The types of the events that a process has reacted to."""
        found = [each.data for each in await self.records(key)]
        return [each.trigger.type for each in found if isinstance(each, Reacted)]

    async def failures(self, key: str) -> list[Failed]:
        found = [each.data for each in await self.records(key)]
        return [each for each in found if isinstance(each, Failed)]

    async def events(self, aggregate: str, key: str) -> list[RecordedEvent]:
        return [each async for each in self.store.read(aggregate, key, leader=True)]

    async def types(self, aggregate: str, key: str) -> list[str]:
        return [each.type for each in await self.events(aggregate, key)]

    async def until(self, key: str, *types: str) -> None:
        """Return when a process has reacted to exactly these events."""
        async with asyncio.timeout(15):
            while await self.reactions(key) != [*types]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def until_types(self, aggregate: str, key: str, *types: str) -> None:
        async with asyncio.timeout(15):
            while await self.types(aggregate, key) != [*types]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def until_parked(self, count: int) -> list[ParkedMessage]:
        async with asyncio.timeout(15):
            while len(found := await self.parked()) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found

    async def parked(self) -> list[ParkedMessage]:
        found = self.parking.read(kind="event")
        return [each async for each in found if isinstance(each, ParkedMessage)]


@asynccontextmanager
async def traded(
    client: Client,
    name: str,
    process: Process[Any],
    *,
    domain: Domain | None = None,
    streams: StreamSettings | None = None,
    worker: bool = True,
) -> AsyncIterator[Trade]:
    """Everything on a client's connection, but the process does not run yet."""
    domain = domain or trading(name, process)
    codec = domain.codec
    await declare(client, topology(codec.subjects, streams or StreamSettings()))
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(EventStore(client, codec))
        commands = await stack.enter_async_context(CommandClient(client, codec))
        snapshots = await stack.enter_async_context(Snapshots(client, store))
        if worker:
            outcomes = Outcomes(client, codec.subjects)
            carrying_out = CommandWorker(
                client,
                codec,
                CommandHandler(store, domain, outcomes),
                rejections=ProcessRejections([process], store),
            )
            await stack.enter_async_context(running(carrying_out, Feed(client, store)))
        yield Trade(client, domain, process, store, commands, snapshots)
