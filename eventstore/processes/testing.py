"""Given, when, then: test a process with events and the commands it sends, without a server.

    (
        scenario(fulfilment)
        .given("o-1", OrderPlaced(article="tea"))
        .when("tea", StockReserved(order="o-1"))
        .then(ConfirmOrder())
    )
    scenario(fulfilment).when("o-1", OrderPlaced(article="tea")).later(minutes=15).then(
        CancelOrder(reason="not paid")
    )

The id before events is that of their aggregate. Events and commands are encoded and decoded, so
that one that could not be sent fails here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from eventstore.errors import UnknownType
from eventstore.messages.events import RecordedEvent
from eventstore.messages.subjects import AggregateId, check_aggregate_id
from eventstore.messages.types import Command, Event
from eventstore.processes.function import trigger_of
from eventstore.processes.loader import context_of
from eventstore.processes.process import Process
from eventstore.processes.reactions import After, Rejection, Send
from eventstore.testing.log import START, next_event, round_trip

__all__ = ["START", "Scenario", "ScenarioOutcome", "scenario"]

S = TypeVar("S")


def scenario(process: Process[S]) -> Scenario[S]:
    """A scenario for a process, without events; raises `DeciderError` for an incomplete one."""
    process.check()
    return Scenario(process, (), {}, START)


class _Timer(Struct, frozen=True):
    """A timer that is waiting: of which process, when it is due, and its command."""

    key: str
    name: str
    at: datetime
    to: str
    command: Command


class _Instance(Struct, frozen=True):
    """One process: whether it runs, its state, and its timers by name."""

    state: Any
    runs: bool = False
    timers: dict[str, _Timer] = {}


_Sent = tuple[tuple[str, Command], ...]


class Scenario(Generic[S]):
    """A process and what has happened so far; every step returns a new scenario."""

    def __init__(
        self,
        process: Process[S],
        log: tuple[RecordedEvent, ...],
        instances: Mapping[str, Any],
        now: datetime,
    ) -> None:
        self._process = process
        self._log = log
        self._instances: Mapping[str, _Instance] = instances
        self._now = now

    def given(self, aggregate_id: AggregateId, *events: Event) -> Scenario[S]:
        """Have events of one aggregate reacted to; the commands do not count.

        Raises `InvalidId` for an illegal aggregate id, `UnknownType` for an event that no function
        is for, and what a function raises.
        """
        return self._after(aggregate_id, events)[0]

    def given_rejected(
        self, key: str, command: Command, code: str, message: str = "", *, to: str = ""
    ) -> Scenario[S]:
        """Have the process of this key react to a rejection of its command."""
        return self._after_rejection(key, command, code, message, to)[0]

    def when(self, aggregate_id: AggregateId, *events: Event) -> ScenarioOutcome[S]:
        """Have events of one aggregate reacted to; raises what `given` raises.

        What a function raises is the outcome.
        """
        try:
            after, sent = self._after(aggregate_id, events)
        except UnknownType:
            raise
        except Exception as error:
            return ScenarioOutcome(self, (), error)
        return ScenarioOutcome(after, sent)

    def when_rejected(
        self, key: str, command: Command, code: str, message: str = "", *, to: str = ""
    ) -> ScenarioOutcome[S]:
        """Have the process of this key react to a rejection of its command, by `to`."""
        try:
            after, sent = self._after_rejection(key, command, code, message, to)
        except Exception as error:
            return ScenarioOutcome(self, (), error)
        return ScenarioOutcome(after, sent)

    def later(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> ScenarioOutcome[S]:
        """Let time pass: the outcome is the commands of the timers that are due by then."""
        now = self._now + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        due = sorted(
            (
                each
                for own in self._instances.values()
                for each in own.timers.values()
                if each.at <= now
            ),
            key=lambda each: each.at,
        )
        instances = {
            key: msgspec.structs.replace(
                own, timers={n: each for n, each in own.timers.items() if each not in due}
            )
            for key, own in self._instances.items()
        }
        after = Scenario(self._process, self._log, instances, now)
        return ScenarioOutcome(after, tuple((each.to, each.command) for each in due))

    def state(self, key: str) -> S:
        """The state of the process of this key; the initial one if it has not started."""
        found = self._instances.get(key)
        state: S = self._process.initial() if found is None else found.state
        return state

    def runs(self, key: str) -> bool:
        """Whether the process of this key has started, and not ended."""
        return key in self._instances and self._instances[key].runs

    def timers(self, key: str) -> dict[str, datetime]:
        """The timers of the process of this key that are waiting: when each is due, by name."""
        found = self._instances.get(key)
        return {} if found is None else {name: each.at for name, each in found.timers.items()}

    def _after(
        self, aggregate_id: AggregateId, events: tuple[Event, ...]
    ) -> tuple[Scenario[S], _Sent]:
        after, sent = self, tuple[tuple[str, Command], ...]()
        for data in events:
            own_id = check_aggregate_id(aggregate_id)
            recorded = next_event(after._log, own_id, data, time=after._now)
            if trigger_of(data) not in self._process.event_types:
                raise UnknownType(
                    f"process {self._process.name} has no function for {recorded.type}"
                )
            key = self._process.key_of(recorded.data, recorded)
            more: _Sent = ()
            if key is not None:
                after, more = after._reacted(key, recorded, recorded.data)
            sent += more
        return after, sent

    def _after_rejection(
        self, key: str, command: Command, code: str, message: str, to: str
    ) -> tuple[Scenario[S], _Sent]:
        record = self._process.records.rejected(
            command_id="", aggregate="", aggregate_id="", action="", code=""
        )
        rejection = Rejection(command=round_trip(command), code=code, message=message, to=to)
        recorded = next_event(self._log, check_aggregate_id(key), record, time=self._now)
        return self._reacted(key, recorded, rejection)

    def _reacted(self, key: str, recorded: RecordedEvent, data: Any) -> tuple[Scenario[S], _Sent]:
        process, log = self._process, (*self._log, recorded)
        own = self._instances.get(key) or _Instance(process.initial())
        if not own.runs and process.role_of(data) != "starts":
            return Scenario(process, log, self._instances, self._now), ()
        before = own.state if own.runs else process.initial()
        context = context_of(key, recorded)
        state = process.evolve(before, data, context)
        actions = process.react(state, data, context)
        sent = tuple((to, each) for each, to in actions.sent)
        timers = {} if actions.ends else own.timers
        kept = {name: each for name, each in timers.items() if name not in actions.cancelled}
        kept |= {
            each.timer: _Timer(
                key, each.timer, self._now + each.delay, to, round_trip(each.command)
            )
            for to, each in sent
            if isinstance(each, After)
        }
        after = _Instance(state, not actions.ends, kept)
        return (
            Scenario(process, log, {**self._instances, key: after}, self._now),
            tuple(
                (to, round_trip(each.command)) for to, each in sent if not isinstance(each, After)
            ),
        )


class ScenarioOutcome(Generic[S]):
    """What the process did; each assertion raises `AssertionError`, or returns what comes next.

    `commands` are those that it sent, with the ids of their aggregates, without those of timers;
    `error` is what a function has raised, if it has.
    """

    def __init__(self, after: Scenario[S], commands: _Sent, error: Exception | None = None) -> None:
        self.after = after
        self.commands = commands
        self.error = error

    def then(self, *expected: Command | Send[Any]) -> Scenario[S]:
        """Assert that exactly these commands were sent, in this order; returns what comes next.

        A `Send` is compared with its aggregate's id, a command as it is without that.
        """
        if self.error is not None:
            raise AssertionError(
                f"expected {_listed(expected)}\n  but the process raised {self.error!r}"
            ) from self.error
        if len(expected) != len(self.commands) or not all(map(_is_sent, expected, self.commands)):
            sent = [Send(command, to) for to, command in self.commands]
            raise AssertionError(f"expected {_listed(expected)}\n  but got  {_listed(sent)}")
        return self.after

    def then_nothing(self) -> Scenario[S]:
        """Assert that no command was sent, and nothing was raised; returns what comes next."""
        return self.then()

    def then_state(self, key: str, expected: S) -> Scenario[S]:
        """Assert the state of the process of this key; returns what comes next."""
        if self.error is not None or self.after.state(key) != expected:
            actual = self.error or self.after.state(key)
            raise AssertionError(f"expected {expected!r}\n  but got  {actual!r}")
        return self.after

    def then_ended(self, key: str) -> Scenario[S]:
        """Assert that the process of this key does not run any more; returns what comes next."""
        if self.error is not None or self.after.runs(key):
            raise AssertionError(f"expected the end of {key}, but got {self.error or 'it runs'!r}")
        return self.after

    def then_fails(self, kind: type[Exception] = Exception) -> Exception:
        """Assert that a function raised an error of this kind, and return it."""
        if self.error is not None and isinstance(self.error, kind):
            return self.error
        raise AssertionError(f"expected {kind.__name__}\n  but got  {self.error!r}")

    def later(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> ScenarioOutcome[S]:
        """Let time pass after this, whatever it was; as `Scenario.later`."""
        return self.after.later(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _is_sent(expected: Command | Send[Any], actual: tuple[str, Command]) -> bool:
    to, command = actual
    if not isinstance(expected, Send):
        return expected == command
    return expected.command == command and expected.to in (None, to)


def _listed(commands: Any) -> str:
    return ", ".join(map(str, commands)) or "no commands"
