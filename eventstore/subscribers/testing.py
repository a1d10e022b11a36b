"""Given, when, then: test a subscriber with events and the commands it sends, without a server.

    (
        scenario(reservation)
        .given("o-1", OrderPlaced(article="a-1"))
        .when("o-1", OrderPaid())
        .then(("a-1", ShipStock(order="o-1")))
    )

Events and commands are encoded and decoded, so that one that could not be sent fails here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from types import MappingProxyType
from typing import Any

from eventstore.commands import ScheduledCommand, SentCommand
from eventstore.commands.composer import recipient
from eventstore.commands.scheduling import schedule_of
from eventstore.errors import UnknownType
from eventstore.messages.context import MessageContext
from eventstore.messages.envelope import Identity, MessageId, derive_id
from eventstore.messages.events import RecordedEvent
from eventstore.messages.handlers import EventHandlers, handle
from eventstore.messages.outcome import Outcome
from eventstore.messages.subjects import AggregateId, check_aggregate_id
from eventstore.messages.types import Command, Event
from eventstore.subscribers.declaration import Subscriber
from eventstore.testing.log import CORRELATION, START, round_trip, with_events
from eventstore.timers.schedule import Delay, Schedule, WhenPast, check_timer_name

__all__ = ["START", "Commands", "Scenario", "ScenarioOutcome", "scenario"]

AddressedCommand = tuple[AggregateId, Command]
"""The id of the aggregate that a command was sent to, and the command."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Commands:
    """Takes commands as a `CommandClient` does, and records them; each is a success.

    `sent` are those sent for now, `timers` those for later, by the names of their timers: when each
    is due, counted from `START`, its aggregate's id and the command.
    """

    def __init__(self) -> None:
        self.sent: list[AddressedCommand] = []
        self.timers: dict[str, tuple[Schedule, AggregateId, Command]] = {}

    async def send(
        self,
        command: Command,
        aggregate_id: AggregateId | None = None,
        *,
        command_id: MessageId | None = None,
        cause: Identity | None = None,
        actor: str | None = None,
        expected: int | None = None,
        at: datetime | None = None,
        after: Delay | None = None,
        past: WhenPast = "fire",
        timeout: float = 5.0,
    ) -> SentCommand:
        """Record a command; raises `InvalidMessage` for one that could not be sent."""
        identity = self._identity(command_id, cause)
        to = recipient(command, aggregate_id, identity.id)
        due = None
        if at is None and after is None:
            self.sent.append((to, round_trip(command)))
        else:
            schedule = Schedule.once(START, at=at, after=after, past=past)
            self.timers[identity.id] = schedule, to, round_trip(command)
            due = schedule.at
        return SentCommand(
            command_id=identity.id,
            correlation_id=CORRELATION,
            aggregate_id=to,
            sequence=self._count,
            duplicate=False,
            due=due,
        )

    async def schedule(
        self,
        name: str,
        command: Command,
        aggregate_id: AggregateId | None = None,
        *,
        at: datetime | None = None,
        after: Delay | None = None,
        cron: str | None = None,
        time_zone: str | None = None,
        past: WhenPast = "fire",
        command_id: MessageId | None = None,
        cause: Identity | None = None,
        actor: str | None = None,
        expected: int | None = None,
        timeout: float = 5.0,
    ) -> ScheduledCommand:
        """Record a timer; raises `InvalidMessage` for one that could not be set."""
        check_timer_name(name)
        schedule = schedule_of(
            START,
            at=at,
            after=after,
            cron=cron,
            time_zone=time_zone,
            past=past,
            command_id=command_id,
            expected=expected,
        )
        identity = self._identity(command_id, cause)
        to = recipient(command, aggregate_id, identity.id)
        self.timers[name] = schedule, to, round_trip(command)
        return ScheduledCommand(
            name=name,
            command_id=None if schedule.is_recurring else identity.id,
            correlation_id=CORRELATION,
            aggregate_id=to,
            at=schedule.at,
        )

    async def cancel(self, name: str, *, timeout: float = 5.0) -> bool:
        """Forget a timer; returns whether it was recorded."""
        return self.timers.pop(check_timer_name(name), None) is not None

    @property
    def _count(self) -> int:
        return len(self.sent) + len(self.timers)

    def _identity(self, command_id: MessageId | None, cause: Identity | None) -> Identity:
        own = command_id or derive_id(CORRELATION, f"command.{self._count}")
        return Identity.root(own) if cause is None else Identity.caused_by(cause, own)

    async def execute(
        self, command: Command, aggregate_id: AggregateId | None = None, **options: Any
    ) -> Outcome:
        """Record a command, as `send` does; its outcome is a success."""
        sent = await self.send(command, aggregate_id, **options)
        return Outcome(
            status="success",
            message="",
            code="ok",
            command_id=sent.command_id,
            aggregate=type(command).__aggregate__,
            aggregate_id=sent.aggregate_id,
        )


def scenario(subscriber: Subscriber, **resources: Any) -> Scenario:
    """A scenario for a subscriber, without events.

    `resources` are what its handlers need, by name; `commands` is a `Commands` unless given.
    """
    return Scenario(subscriber, resources, ())


class Scenario:
    """A subscriber and the events that it was given; every step returns a new scenario."""

    def __init__(
        self, subscriber: Subscriber, resources: Mapping[str, Any], log: tuple[RecordedEvent, ...]
    ) -> None:
        self._subscriber = subscriber
        self._resources = resources
        self._log = log

    def given(
        self,
        aggregate_id: AggregateId,
        *events: Event,
        actor: str | None = None,
        time: datetime | None = None,
    ) -> Scenario:
        """Have events of one aggregate handled before; what they lead to does not count.

        Raises `InvalidId` for an illegal aggregate id.
        """
        log = with_events(self._log, aggregate_id, events, actor=actor, time=time)
        return Scenario(self._subscriber, self._resources, log)

    def when(
        self,
        aggregate_id: AggregateId,
        *events: Event,
        actor: str | None = None,
        time: datetime | None = None,
    ) -> ScenarioOutcome:
        """Have events of one aggregate handled, once each and in order.

        Raises `DeciderError` if a resource is missing, `UnknownType` for an event that has no
        handler, and what a handler raises for an event that was given.
        """
        commands = Commands()
        handlers = self._subscriber.handlers.bound({"commands": commands, **self._resources})
        later = self.given(aggregate_id, *events, actor=actor, time=time)._log
        _run(_handle(handlers, self._subscriber.name, self._log))
        commands.sent.clear()
        error: Exception | None = None
        try:
            _run(_handle(handlers, self._subscriber.name, later[len(self._log) :]))
        except UnknownType:
            raise
        except Exception as raised:
            error = raised
        return ScenarioOutcome(tuple(commands.sent), error)


class ScenarioOutcome:
    """What the events led to; each assertion raises `AssertionError`.

    `commands` are those that were sent, with the ids of their aggregates, and `error` is what the
    handler has raised after them, if it has.
    """

    def __init__(self, commands: tuple[AddressedCommand, ...], error: Exception | None) -> None:
        self.commands = commands
        self.error = error

    def then(self, *expected: AddressedCommand) -> None:
        """Assert that exactly these commands were sent, in this order, and nothing was raised."""
        if self.error is not None:
            raise AssertionError(
                f"expected {_listed(expected)}\n  but the handler raised {self.error!r}"
            ) from self.error
        if self.commands != tuple((check_aggregate_id(own), each) for own, each in expected):
            raise AssertionError(
                f"expected {_listed(expected)}\n  but got  {_listed(self.commands)}"
            )

    def then_nothing(self) -> None:
        """Assert that no command was sent, and nothing was raised."""
        self.then()

    def then_fails(self, kind: type[Exception] = Exception) -> Exception:
        """Assert that the handler raised an error of this kind, and return it."""
        if self.error is not None and isinstance(self.error, kind):
            return self.error
        raise AssertionError(f"expected {kind.__name__}\n  but got  {self.error!r}")


async def _handle(
    handlers: EventHandlers, subscriber: str, events: tuple[RecordedEvent, ...]
) -> None:
    for recorded in events:
        handler = handlers.find(type(recorded.data))
        if handler is None:
            raise UnknownType(f"subscriber {subscriber} has no handler of {recorded.type}")
        with MessageContext.of(recorded, subscriber).begun():
            await handle(handler, recorded)


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end, whether or not the test runs in an event loop."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


def _listed(commands: tuple[AddressedCommand, ...]) -> str:
    return ", ".join(f"{command} to {own}" for own, command in commands) or "no commands"
