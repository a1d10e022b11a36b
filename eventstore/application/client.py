"""A client of an application: sends commands, asks queries and reads events."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from typing import Any, TypeVar

from eventstore.client.client import Client, connect
from eventstore.client.queries import QueryClient
from eventstore.commands import CommandClient, Outcome, ScheduledCommand, SentCommand
from eventstore.concurrency.resource import Resource
from eventstore.config import Settings
from eventstore.decider.domain import Domain
from eventstore.messages.envelope import utc_now
from eventstore.messages.queries import Query
from eventstore.messages.subjects import AggregateId
from eventstore.messages.types import Command
from eventstore.store.store import EventStore
from eventstore.timers import Timers

A = TypeVar("A")


class Requests:
    """What a client does: `commands`, `queries` and `store` have more options for each."""

    domain: Domain
    client: Client
    store: EventStore
    commands: CommandClient
    queries: QueryClient

    async def execute(
        self, /, command: Command, aggregate_id: AggregateId | None = None, **options: Any
    ) -> Outcome:
        """Send a command and return its outcome; options and errors as `CommandClient.execute`."""
        return await self.commands.execute(command, aggregate_id, **options)

    async def send(
        self, /, command: Command, aggregate_id: AggregateId | None = None, **options: Any
    ) -> SentCommand:
        """Send a command, which is then durable; options and errors as `CommandClient.send`."""
        return await self.commands.send(command, aggregate_id, **options)

    async def schedule(
        self,
        /,
        name: str,
        command: Command,
        aggregate_id: AggregateId | None = None,
        **options: Any,
    ) -> ScheduledCommand:
        """Set a timer for a command; options and errors as `CommandClient.schedule`."""
        return await self.commands.schedule(name, command, aggregate_id, **options)

    async def cancel(self, name: str) -> bool:
        """Cancel a timer; returns whether it was waiting, and raises as `CommandClient.cancel`."""
        return await self.commands.cancel(name)

    @property
    def timers(self) -> Timers:
        """The timers that wait: to list, cancel and fire them."""
        return Timers(self.client, self.domain.codec.subjects)

    async def load(self, aggregate: str, aggregate_id: AggregateId, *, leader: bool = False) -> Any:
        """The state of an aggregate, folded by its decider; the initial one if it has no events.

        Without `leader`, which costs another request, it may miss the newest events on a replicated
        stream. Reads all events of the aggregate. Raises `UnknownType` for an unknown kind of
        aggregate, `InvalidId`, and what `EventStore.read` and the decider raise.
        """
        decider = self.domain.decider(aggregate)
        state = decider.initial()
        read = self.store.read(aggregate, aggregate_id, leader=leader)
        async with aclosing(read) as events:
            async for event in events:
                state = decider.evolve(state, event.data)
        return state

    async def ask(self, /, query: Query[A], **options: Any) -> A:
        """The answer to a query; options and errors as `QueryClient.ask`, such as `wait_for`."""
        return (await self.queries.ask(query, **options)).data


class ApplicationClient(Requests, Resource):
    """A connection that only sends, asks and reads; an async context manager.

    Entering connects and raises what that raises; nothing is declared.
    """

    def __init__(
        self, domain: Domain, settings: Settings, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.domain = domain.renamed(settings.nats.subject_prefix or domain.name)
        self._settings = settings
        self._clock = clock

    async def _enter(self, stack: AsyncExitStack) -> None:
        codec = self.domain.codec
        self.client = await stack.enter_async_context(
            connect(self._settings, name=self.domain.name)
        )
        self.store = await stack.enter_async_context(
            EventStore(self.client, codec, clock=self._clock)
        )
        self.commands = await stack.enter_async_context(
            CommandClient(self.client, codec, clock=self._clock)
        )
        self.queries = QueryClient(self.client, codec.subjects)
