"""The way of one command: load, decide, append, outcome; again from the load after a conflict."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import datetime

from eventstore.commands.decoding import DecodedCommand
from eventstore.commands.digest import is_other, without_data
from eventstore.commands.loader import Loader
from eventstore.commands.outcomes import Outcomes
from eventstore.commands.state_cache import CachedState, StateCache
from eventstore.concurrency.backoff import Backoff
from eventstore.decider.decider import CommandContext, Domain
from eventstore.errors import (
    CommandIdReused,
    Conflict,
    DeciderError,
    DuplicateId,
    InvalidMessage,
    Rejected,
    SubjectForgotten,
)
from eventstore.jetstream.direct_get import StoredMessage
from eventstore.messages.envelope import COMMAND_DIGEST, NO_COMMAND, Header, NewEvent, utc_now
from eventstore.messages.outcome import Outcome
from eventstore.messages.types import Event
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import EventStore, Head
from eventstore.telemetry import NO_TELEMETRY, Telemetry
from eventstore.text import presentable

__all__ = ["CommandHandler"]

_BACKOFF = Backoff(0.005, 0.25, jitter=1.0)


class CommandHandler:
    """Carries out commands, one after another for each aggregate, many aggregates at once.

    The caller sees to it that no two commands on one aggregate are under way at a time; other
    processes may handle the same aggregate, which costs a conflict and a fresh load.
    `max_conflicts` bounds how often one command is decided anew. `clock` says when a command is
    decided, which is also its events' time. `snapshots` are taken of deciders that want some.
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
        self._domain = domain
        self._outcomes = outcomes
        self._states = StateCache() if states is None else states
        self._loader = Loader(store, snapshots)
        store.keyring.on_forgotten(self._states.clear)
        self._clock = clock
        self._max_conflicts = max_conflicts
        self._telemetry = telemetry

    async def handle(self, accepted: DecodedCommand, *, again: bool = False) -> Outcome:
        """Carry a command out and say what became of it; `again` where it was delivered before.

        A command whose outcome is known and final, or whose events stand, is answered with that
        and decides nothing. Raises `CommandIdReused` where that is known to be another command's,
        `Conflict` after too many of them, `DeciderError` for events that may not be in the log, and
        what the store and a decider that is at fault raise; the command can then be handled again.
        """
        with self._telemetry.span(
            "command",
            traceparent=accepted.envelope.traceparent,
            type=accepted.envelope.type,
            aggregate_id=accepted.aggregate_id,
        ) as span:
            outcome = await self._handle(accepted, span.traceparent, again=again)
            span.set(outcome=outcome.status, code=outcome.code)
        return outcome

    async def _handle(
        self, accepted: DecodedCommand, traceparent: str | None, *, again: bool
    ) -> Outcome:
        known = await self._known(accepted, again=again)
        if known is not None:
            return known
        again = False
        for conflicts in range(1, self._max_conflicts + 1):
            try:
                return await self._try(accepted, traceparent, again=again)
            except (Conflict, DuplicateId):
                again = True
                self._states.drop(accepted.key)
                self._telemetry.count("conflicts", aggregate=accepted.aggregate)
            await asyncio.sleep(_BACKOFF.delay(conflicts))
        return await self._try(accepted, traceparent, again=again)

    async def _known(self, accepted: DecodedCommand, *, again: bool) -> Outcome | None:
        """The outcome that is kept; where that is another command's, the one of its own events."""
        own = accepted.identity.id
        try:
            return await self._outcomes.final(own, digest=accepted.digest, again=again)
        except CommandIdReused:
            kept = await self._load(accepted, leader=True)
            first = None
            if kept.commands.may_hold(own):
                first = await self._first_outcome(accepted, kept)
            if first is None:
                raise
            return first

    async def _try(
        self, accepted: DecodedCommand, traceparent: str | None, *, again: bool
    ) -> Outcome:
        # A replica that lags may have led to the conflict, and would to the next one.
        kept = self._states.get(accepted.key) or await self._load(accepted, leader=again)
        if kept.commands.may_hold(accepted.identity.id):
            first = await self._first_outcome(accepted, kept)
            if first is not None:
                return first
        now = self._clock()
        try:
            with self._telemetry.span("decide", aggregate=accepted.aggregate):
                events = self._decide(accepted, kept, now)
        except Rejected as rejection:
            await self._confirm(accepted, kept)
            return _rejected(accepted, kept, rejection)
        if not events:
            await self._confirm(accepted, kept)
            return _success(accepted, kept.head, (), "nothing to change")
        with self._telemetry.span(
            "append", traceparent=traceparent, aggregate=accepted.aggregate, events=len(events)
        ) as span:
            try:
                return await self._append(accepted, kept, events, now, span.traceparent)
            except SubjectForgotten as refusal:
                await self._confirm(accepted, kept)
                return _rejected(accepted, kept, Rejected(refusal.code, str(refusal)))

    def _decide(
        self, accepted: DecodedCommand, kept: CachedState, now: datetime
    ) -> tuple[Event, ...]:
        context = CommandContext(
            command_id=accepted.identity.id,
            correlation_id=accepted.identity.correlation_id,
            aggregate_id=accepted.aggregate_id,
            time=now,
            actor=accepted.envelope.actor,
            authenticated_as=accepted.envelope.authenticated_as,
        )
        decider = self._domain.decider(accepted.aggregate)
        return decider.decide(kept.state, accepted.command, context)

    async def _append(
        self,
        accepted: DecodedCommand,
        kept: CachedState,
        events: tuple[Event, ...],
        now: datetime,
        traceparent: str | None,
    ) -> Outcome:
        decider = self._domain.decider(accepted.aggregate)
        try:
            # Folded first: events that the decider cannot evolve by must not get into the log.
            state = decider.fold(map(self._domain.codec.as_read, events), kept.state)
            appended = await self._store.append(
                *accepted.key,
                [NewEvent(data=data, timestamp=now, traceparent=traceparent) for data in events],
                expected=kept.head,
                cause=accepted.identity,
                actor=accepted.envelope.actor,
                known_new=True,  # the ids are derived from the command's, which was looked for
                authenticated_as=accepted.envelope.authenticated_as,
                command_digest=self._recorded_digest(accepted),
            )
        except InvalidMessage as error:
            raise DeciderError(f"{accepted.aggregate} decided what cannot be: {error}") from error
        if appended.duplicate:
            # Recorded by an earlier try, whose events need not be the same as these.
            raise Conflict(*accepted.key, kept.head.version, appended.version)
        self._telemetry.count("events_appended", len(events), aggregate=accepted.aggregate)
        kept.commands.add(accepted.identity.id)
        kept.state, kept.head = state, appended.head
        self._loader.take_snapshot(decider, accepted.aggregate_id, kept)
        self._states.put(accepted.key, kept)
        return _success(accepted, appended.head, appended.event_ids, _names(events))

    async def _load(self, accepted: DecodedCommand, *, leader: bool) -> CachedState:
        with self._telemetry.span("load", aggregate=accepted.aggregate) as span:
            decider = self._domain.decider(accepted.aggregate)
            era = self._states.era
            kept = await self._loader.load(decider, accepted.aggregate_id, leader=leader)
            kept.era = era
            span.set(version=kept.head.version)
        self._states.put(accepted.key, kept)
        return kept

    async def _confirm(self, accepted: DecodedCommand, kept: CachedState) -> None:
        """Ask the leader whether the aggregate has moved on, for no append will tell."""
        head = await self._store.head(*accepted.key, leader=True, known=kept.head)
        if head != kept.head:
            raise Conflict(*accepted.key, kept.head.version, head.version)

    async def _first_outcome(self, accepted: DecodedCommand, kept: CachedState) -> Outcome | None:
        """The outcome as it was given first, from the events that stand; None if none does.

        Facts are no command's: those that name themselves as their cause, or are marked. What a
        worker recorded before there were digests has neither mark nor digest.
        """
        caused, commands = list[StoredMessage](), set[str]()
        async with aclosing(self._store.read_stored(*accepted.key, leader=True)) as stored:
            async for message, _ in stored:
                cause = message.headers[Header.CAUSATION_ID]
                commands.add(cause)
                if cause == accepted.identity.id:
                    caused.append(message)
        if not caused:
            kept.commands.learn(commands)
            self._states.put(accepted.key, kept)
            return None
        own = [each for each in caused if not _is_fact(each)]
        if not own or is_other(accepted.digest, own[0].headers.get(COMMAND_DIGEST)):
            raise CommandIdReused(accepted.identity.id, by_fact=not own)
        ids = tuple(each.headers[Header.EVENT_ID] for each in own)
        names = ", ".join(each.headers[Header.EVENT_TYPE] for each in own)
        return _success(accepted, Head.of(own[-1]), ids, names)

    def _recorded_digest(self, accepted: DecodedCommand) -> str | None:
        """The digest to be kept for ever: not of what may have to be forgotten."""
        if accepted.digest is None or not self._domain.codec.has_personal(accepted.aggregate):
            return accepted.digest
        return without_data(accepted.digest)


def _is_fact(message: StoredMessage) -> bool:
    headers = message.headers
    is_root = headers[Header.EVENT_ID] == headers[Header.CAUSATION_ID]
    return is_root or headers.get(COMMAND_DIGEST) == NO_COMMAND


def _success(
    accepted: DecodedCommand, head: Head, event_ids: tuple[str, ...], text: str
) -> Outcome:
    return Outcome(
        status="success",
        message=text,
        code="ok",
        command_id=accepted.identity.id,
        aggregate=accepted.aggregate,
        aggregate_id=accepted.aggregate_id,
        version=head.version,
        position=head.position,
        event_ids=event_ids,
    )


def _rejected(accepted: DecodedCommand, kept: CachedState, rejection: Rejected) -> Outcome:
    return Outcome(
        status="rejected",
        message=presentable(rejection.message),
        code=presentable(rejection.code),
        command_id=accepted.identity.id,
        aggregate=accepted.aggregate,
        aggregate_id=accepted.aggregate_id,
        version=kept.head.version,
        position=kept.head.position,
    )


def _names(events: Sequence[Event]) -> str:
    return ", ".join(type(event).__name__ for event in events)
