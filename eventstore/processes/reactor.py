"""The reactor: has one process react to one event, exactly once.

1. Which process is the event for?
2. Load it, unless it is in the cache.
3. Has it reacted to this event before? Then only step 6.
4. React: the state after the event, and the commands, all in memory.
5. Record the reaction, which raises `Conflict` if the process has moved on: then from step 2.
6. Send its commands, with the recorded ids. Then the event is acknowledged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from eventstore.client.client import Client
from eventstore.commands import CommandClient
from eventstore.commands.state_cache import CachedState, StateCache
from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.supervisor import Supervisor
from eventstore.errors import (
    ClientError,
    Conflict,
    DeciderError,
    DuplicateId,
    EventStoreError,
    HandlerFailed,
)
from eventstore.jetstream.consumer import is_transient
from eventstore.messages.envelope import checked_clock, utc_now
from eventstore.messages.events import RecordedEvent
from eventstore.messages.text import make_log_records_safe
from eventstore.messages.types import Event
from eventstore.parking.messages import ParkedMessages
from eventstore.processes.guards import FailureGuard, LoopGuard
from eventstore.processes.history import ProcessHistory
from eventstore.processes.instance import Instance
from eventstore.processes.loader import ProcessLoader, context_of
from eventstore.processes.outbox import Outbox, outgoing, timers_of
from eventstore.processes.process import Process
from eventstore.processes.reactions import Actions
from eventstore.processes.recorder import Recorder
from eventstore.processes.records import CommandRejected, Reacted, RecordedReaction, Trigger
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import EventStore
from eventstore.telemetry import NO_TELEMETRY, Telemetry

_BACKOFF = Backoff(0.05, 2.0)
_MAX_CONFLICTS = 20
_OF_FUNCTIONS = DeciderError | HandlerFailed

_logger = make_log_records_safe(logging.getLogger(__name__))


class Reactor:
    """Has the processes of one kind react to events.

    What cannot be reached at the moment is waited for. Any other error is recorded by the process
    that fails, and raised: the event is to be parked.
    """

    def __init__(
        self,
        process: Process[Any],
        client: Client,
        store: EventStore,
        commands: CommandClient,
        *,
        states: StateCache | None = None,
        snapshots: Snapshots | None = None,
        clock: Callable[[], datetime] = utc_now,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._process = process
        self._name = process.name
        self._client = client
        self._store = store
        self._history = ProcessHistory(process.name, store)
        self._loader = ProcessLoader(process, store, snapshots, states=states)
        self._recorder = Recorder(process, store, telemetry)
        self._outbox = Outbox(process.name, store, commands)
        self._loops = LoopGuard(process.name, process.max_reactions)
        self._failures = FailureGuard(process.name, ParkedMessages(client, store.codec.subjects))
        self._clock = checked_clock(clock)
        self._telemetry = telemetry

    async def handle(self, event: Event, recorded: RecordedEvent) -> None:
        """React to an event; returns when its commands are accepted.

        Raises what the process's functions raise, `ProcessError`, and `EventStoreError`s that no
        retry can help.
        """

        async def attempt() -> None:
            await self._handle(event, recorded)

        what = f"process {self._name}, {recorded.type} at position {recorded.position}"
        await Supervisor(what, _logger, _BACKOFF, passes=self._may_pass).run(attempt)

    def _may_pass(self, error: Exception) -> bool:
        if self._client.is_closed or not isinstance(error, EventStoreError):
            return False
        return error.retryable or (isinstance(error, ClientError) and is_transient(error))

    async def _handle(self, event: Event, recorded: RecordedEvent) -> None:
        # 1. Which process is the event for?
        is_own = isinstance(event, CommandRejected)
        key = recorded.aggregate_id if is_own else self._process.key_of(event, recorded)
        if key is None:
            return
        for conflicts in range(_MAX_CONFLICTS):
            try:
                await self._attempt(key, recorded, leader=conflicts > 0)
            except (Conflict, DuplicateId):
                self._loader.drop(key)
                self._telemetry.count("conflicts", aggregate=self._name)
            else:
                return
        await self._attempt(key, recorded, leader=True)

    async def _attempt(self, key: str, recorded: RecordedEvent, *, leader: bool) -> None:
        # 2. Load it, unless it is in the cache.
        cached = self._loader.known(key) or await self._load(key, recorded, leader=leader)
        # 3. Has it reacted to this event before?
        own = Trigger.of(recorded).reaction_id(self._name)
        reaction = None
        if cached.commands.may_hold(own):
            reaction = await self._history.reaction(key, own)
        if reaction is None:
            reaction = await self._reaction(key, recorded, cached)
        # 6. Send its commands.
        if reaction is not None:
            await self._outbox.send(key, reaction, cached.state.instance)
            self._loops.note(recorded, reaction)

    async def _load(self, key: str, recorded: RecordedEvent, *, leader: bool) -> CachedState:
        try:
            return await self._loader.load(key, leader=leader)
        except Exception as error:  # of a function, at an earlier event
            if not (isinstance(error, EventStoreError) and not isinstance(error, _OF_FUNCTIONS)):
                cached = await self._loader.load(key, leader=True, evolving=False)
                await self._recorder.record_failure(key, recorded, cached, error)
            raise

    async def _reaction(
        self, key: str, recorded: RecordedEvent, cached: CachedState
    ) -> RecordedReaction | None:
        """The reaction, recorded and cached; None for an event that passes by."""
        instance: Instance = cached.state.instance
        data = await self._loader.data_of(key, recorded)
        runs = instance.status == "running"
        passes = data is None or not (runs or self._process.role_of(data) == "starts")
        if passes and not instance.failed:
            await self._confirm(key, cached)
            return None
        self._loader.drop(key)  # a function may change the state that it is given
        try:
            given_up = await self._failures.check(instance, Trigger.of(recorded))
            if passes:
                return None
            return await self._react(key, recorded, cached, data, given_up)
        except Exception as error:
            if not (isinstance(error, EventStoreError) and error.retryable):
                await self._recorder.record_failure(key, recorded, cached, error)
            raise

    async def _react(
        self,
        key: str,
        recorded: RecordedEvent,
        cached: CachedState,
        data: Any,
        given_up: list[str],
    ) -> RecordedReaction:
        instance: Instance = cached.state.instance
        self._loops.check(instance, recorded)
        # 4. React.
        begins = instance.status != "running"
        context = context_of(key, recorded)
        before = self._process.initial() if begins else cached.state.state
        state = self._process.evolve(before, data, context)
        actions = self._process.react(state, data, context)
        event = self._reacted(recorded, instance, actions, begins, given_up)
        # 5. Record the reaction.
        reaction = await self._recorder.record(key, recorded, cached, event)
        after = instance.after(reaction.data, self._name, recorded.correlation_id)
        cached.state = self._loader.joined(after, state)
        cached.commands.add(reaction.identity.id)
        self._loader.keep(key, cached)
        return reaction

    def _reacted(
        self,
        recorded: RecordedEvent,
        instance: Instance,
        actions: Actions,
        begins: bool,
        given_up: list[str],
    ) -> Reacted:
        """The reaction as it is recorded; raises `InvalidMessage` for an illegal command."""
        trigger = Trigger.of(recorded)
        for sent, _ in actions.sent:
            self._store.codec.encode(sent.command)
        ended = instance.timers if actions.ends else ()
        return self._process.records.reacted(
            trigger=trigger,
            commands=outgoing(actions, trigger.reaction_id(self._name)),
            timers=timers_of(actions, self._clock()),
            cancelled=[*dict.fromkeys((*actions.cancelled, *ended))],
            begins=begins,
            ends=actions.ends,
            given_up=given_up,
        )

    async def _confirm(self, key: str, cached: CachedState) -> None:
        """Ask the leader whether the process has moved on, before an event passes by."""
        head = await self._store.head(self._name, key, leader=True, known=cached.head)
        if head != cached.head:
            raise Conflict(self._name, key, cached.head.version, head.version)
