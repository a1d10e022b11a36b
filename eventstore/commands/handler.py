"""The command pipeline: load, decide, append, outcome; after a conflict from the load on.

It is written as for one command, and run for one or for several (`concurrency.batching`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from eventstore.commands.decoding import DecodedCommand
from eventstore.commands.deduplication import first_outcome
from eventstore.commands.digest import without_data
from eventstore.commands.loader import Loader
from eventstore.commands.outcomes import Outcomes
from eventstore.commands.results import rejected, succeeded
from eventstore.commands.state_cache import CachedState, StateCache
from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.batching import own_task
from eventstore.decider.decider import CommandContext, Decider
from eventstore.decider.domain import Domain
from eventstore.errors import (
    CommandIdReused,
    Conflict,
    DeciderError,
    DuplicateId,
    InvalidMessage,
    Rejected,
    SubjectForgotten,
)
from eventstore.messages.envelope import checked_clock, utc_now
from eventstore.messages.outcome import Outcome
from eventstore.messages.types import Event
from eventstore.store.append import Append
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import EventStore
from eventstore.telemetry import NO_TELEMETRY, Telemetry

_BACKOFF = Backoff(0.005, 0.25, jitter=1.0)

_MAX_PAUSE = 1.0
"""Seconds after which a command may have been redelivered to a process that rejects it."""


class CommandHandler:
    """Carries out commands: sequentially for each aggregate, concurrently for different ones.

    A command that expects a version of its aggregate is rejected with the code `conflict`, and not
    decided, if the aggregate has another.

    The caller must not handle two commands on one aggregate concurrently; other processes may,
    which costs a conflict and another load. `max_conflicts` bounds how often one command is decided
    again. `clock` says when a command is decided, which is also its events' time. `snapshots` are
    taken of aggregates whose decider asks for it.
    """

    def __init__(
        self,
        store: EventStore,
        domain: Domain,
        outcomes: Outcomes,
        *,
        states: StateCache | None = None,
        snapshots: Snapshots | None = None,
        clock: Callable[[], datetime] = utc_now,
        max_conflicts: int = 20,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._store = store
        self.domain = domain
        self.outcomes = outcomes
        self._states = StateCache() if states is None else states
        self._loader = Loader(store, snapshots)
        store.keyring.on_forgotten(self._states.clear)
        self._clock = checked_clock(clock)
        self._max_conflicts = max_conflicts
        self._telemetry = telemetry

    async def handle(self, command: DecodedCommand, *, redelivered: bool = False) -> Outcome:
        """Carry a command out; `redelivered` if it was delivered before.

        A command whose outcome is known and final, or whose events are recorded, is answered with
        that and decides nothing. Raises `CommandIdReused` if that is known to be another
        command's, `Conflict` after too many of them, `DeciderError` for events that may not be in
        the log, and what the store and a failing decider raise; the command can then be handled
        again.
        """
        with self._telemetry.span(
            "command",
            traceparent=command.envelope.traceparent,
            type=command.envelope.type,
            aggregate_id=command.aggregate_id,
        ) as span:
            outcome = await self._carry_out(command, span.traceparent, redelivered)
            span.set(outcome=outcome.status, code=outcome.code)
        return outcome

    async def _carry_out(
        self, command: DecodedCommand, traceparent: str | None, redelivered: bool
    ) -> Outcome:
        """The command pipeline: step 7; the attempts are steps 1 to 6."""
        decider = self.domain.decider(command.aggregate)
        for conflicts in range(1, self._max_conflicts + 1):
            try:
                return await self._attempt(
                    command, decider, traceparent, redelivered, conflicts > 1
                )
            except (Conflict, DuplicateId):
                # 7. Another writer was faster: load from scratch, and decide again. From the
                # leader, because a lagging replica may have led to the conflict.
                self._states.drop(command.key)
                self._telemetry.count("conflicts", aggregate=command.aggregate)
            await own_task()
            await asyncio.sleep(_BACKOFF.delay(conflicts))
        return await self._attempt(command, decider, traceparent, redelivered, leader=True)

    async def _attempt(
        self,
        command: DecodedCommand,
        decider: Decider[Any],
        traceparent: str | None,
        redelivered: bool,
        leader: bool,
    ) -> Outcome:
        # 1. Load the aggregate, unless it is in the cache; nothing is decided on a log in doubt.
        if not self._store.high_water.is_verified:
            await self._store.verify_history()
        cached = self._states.get(command.key) or await self._load(command, decider, leader=leader)
        # 2. Is its outcome known? Asked after loading: another process may have rejected it before
        # this state was reached, and told so.
        asked = time.monotonic()
        known = await self._known(command, decider, redelivered=redelivered or leader)
        if known is not None:
            return known
        # 3. Was it carried out already, and its outcome lost?
        if cached.commands.may_hold(command.identity.id):
            first = await self._first_outcome(command, cached)
            if first is not None:
                return first
        now = self._clock()
        try:
            if command.expected is not None:
                _check_expected(command, command.expected, cached.head.version)
            # 4. Decide.
            events = self._decide(command, decider, cached.state, now)
            if events:
                if time.monotonic() - asked > _MAX_PAUSE:  # 2. Once more, after a stall.
                    known = await self._known(command, decider, redelivered=True)
                    if known is not None:
                        return known
                # 5. Append, which raises `Conflict` if the aggregate has moved on.
                ids = await self._append(command, decider, cached, events, now, traceparent)
                # 6. The outcome; if nothing is appended, only after a check for a conflict.
                return succeeded(command, cached.head, ids, _names(events))
        except Rejected as rejection:
            await self._confirm(command, cached)
            return rejected(command, cached.head, rejection)
        await self._confirm(command, cached)
        return succeeded(command, cached.head, (), "nothing to change")

    async def _known(
        self, command: DecodedCommand, decider: Decider[Any], *, redelivered: bool
    ) -> Outcome | None:
        """Its outcome, if that is final. If that is another command's, it may still have events."""
        try:
            return await self.outcomes.final(
                command.identity.id, digest=command.digest, redelivered=redelivered
            )
        except CommandIdReused:
            known = await self._outcome_of_events(command, decider)
            if known is None:
                raise
            return known

    async def _outcome_of_events(
        self, command: DecodedCommand, decider: Decider[Any]
    ) -> Outcome | None:
        """The outcome according to the aggregate, as its leader has it; None without events."""
        cached = await self._load(command, decider, leader=True)
        if not cached.commands.may_hold(command.identity.id):
            return None
        return await self._first_outcome(command, cached)

    async def _load(
        self, command: DecodedCommand, decider: Decider[Any], *, leader: bool
    ) -> CachedState:
        with self._telemetry.span("load", aggregate=command.aggregate) as span:
            era = self._states.era
            new = type(command.command).__creates__
            cached = await self._loader.load(
                decider, command.aggregate_id, leader=leader, likely_new=new
            )
            cached.era = era
            span.set(version=cached.head.version)
        self._states.put(command.key, cached)
        return cached

    async def _first_outcome(self, command: DecodedCommand, cached: CachedState) -> Outcome | None:
        """The outcome of a command that the aggregate may have, from the log."""
        first = await first_outcome(self._store, command, cached.commands)
        if first is None:  # but its ids are complete now, and weigh more
            self._states.put(command.key, cached)
        return first

    def _decide(
        self, command: DecodedCommand, decider: Decider[Any], state: Any, now: datetime
    ) -> tuple[Event, ...]:
        envelope = command.envelope
        identity = envelope.identity
        context = CommandContext(
            command_id=identity.id,
            correlation_id=identity.correlation_id,
            aggregate_id=command.aggregate_id,
            time=now,
            actor=envelope.actor,
            authenticated_as=envelope.authenticated_as,
        )
        with self._telemetry.span("decide", aggregate=command.aggregate):
            return decider.decide(state, command.command, context)

    async def _append(
        self,
        command: DecodedCommand,
        decider: Decider[Any],
        cached: CachedState,
        events: tuple[Event, ...],
        now: datetime,
        traceparent: str | None,
    ) -> tuple[str, ...]:
        """Append the events, and the state with them; returns their ids."""
        key, envelope = command.key, command.envelope
        with self._telemetry.span(
            "append", traceparent=traceparent, aggregate=command.aggregate, events=len(events)
        ) as span:
            append = Append(
                aggregate=command.aggregate,
                aggregate_id=command.aggregate_id,
                events=events,
                expected=cached.head,
                cause=envelope.identity,
                actor=envelope.actor,
                known_new=True,  # the ids are derived from the command's, which was searched for
                authenticated_as=envelope.authenticated_as,
                command_digest=self._recorded_digest(command),
                traceparent=span.traceparent,
            )
            try:
                write = self._store.prepare(append, now, is_checked=True)
                # From the cache first: if a decider's function has changed the state that it was
                # given, the cached one is no longer that at its head, unless the append succeeds.
                self._states.drop(key)
                # Folded first: events that the decider cannot evolve by must not get into the log.
                state = decider.fold(write.events, cached.state)
                (appended,) = await self._store.append_prepared(write)
            except InvalidMessage as error:
                problem = f"{command.aggregate} decided what cannot be: {error}"
                raise DeciderError(problem) from error
            except SubjectForgotten as error:
                raise Rejected(error.code, str(error)) from error
            if appended.duplicate:
                # Recorded by an earlier attempt, whose events need not be the same as these.
                raise Conflict(*key, cached.head.version, appended.version)
        self._telemetry.count("events_appended", len(events), aggregate=command.aggregate)
        cached.commands.add(envelope.identity.id)
        cached.state, cached.head = state, appended.head
        self._loader.take_snapshot(decider, command.aggregate_id, cached)
        self._states.put(key, cached)
        return appended.event_ids

    async def _confirm(self, command: DecodedCommand, cached: CachedState) -> None:
        """Ask the leader whether the aggregate has moved on, if no append checks that."""
        head = await self._store.head(*command.key, leader=True, known=cached.head)
        if head != cached.head:
            raise Conflict(*command.key, cached.head.version, head.version)

    def _recorded_digest(self, command: DecodedCommand) -> str | None:
        """The digest that is recorded for ever: without data that may have to be forgotten."""
        if command.digest is None or not self.domain.codec.has_personal(command.aggregate):
            return command.digest
        return without_data(command.digest)


def _check_expected(command: DecodedCommand, expected: int, version: int) -> None:
    """Reject a command whose sender expected another version of the aggregate."""
    if expected != version:
        raise Rejected(Conflict.code, str(Conflict(*command.key, expected, version)))


def _names(events: Sequence[Event]) -> str:
    return ", ".join([type(event).__name__ for event in events])
