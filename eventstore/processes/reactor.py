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
from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any

import msgspec

from eventstore.client.client import Client
from eventstore.commands import CommandClient
from eventstore.commands.state_cache import CachedState
from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.supervisor import Supervisor
from eventstore.errors import (
    ClientError,
    Conflict,
    DuplicateId,
    EventStoreError,
    ProcessLoop,
    ProcessWaits,
)
from eventstore.jetstream.consumer import is_transient
from eventstore.messages.encryption import subjects_in
from eventstore.messages.envelope import Identity, checked_clock, utc_now
from eventstore.messages.events import NewEvent, RecordedEvent
from eventstore.messages.headers import POSITION
from eventstore.messages.outcome import code_of
from eventstore.messages.text import make_log_records_safe, presentable
from eventstore.messages.types import Event
from eventstore.parking.messages import ParkedMessage, ParkedMessages
from eventstore.processes.history import ProcessHistory
from eventstore.processes.instance import Instance
from eventstore.processes.loader import ProcessLoader, context_of
from eventstore.processes.outbox import Outbox, outgoing
from eventstore.processes.process import Process
from eventstore.processes.reactions import Actions
from eventstore.processes.records import CommandRejected, Reacted, Reaction, Trigger
from eventstore.store.append import NO_STREAM, Append, AppendResult
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import EventStore
from eventstore.telemetry import NO_TELEMETRY, Telemetry

_BACKOFF = Backoff(0.05, 2.0)
_MAX_CONFLICTS = 20
_MAX_REMEMBERED = 10_000

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
        snapshots: Snapshots | None = None,
        clock: Callable[[], datetime] = utc_now,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._process = process
        self._name = process.name
        self._client = client
        self._store = store
        self._records = process.records
        self._history = ProcessHistory(process.name, store)
        self._loader = ProcessLoader(process, store, snapshots)
        self._outbox = Outbox(process.name, store, commands)
        self._parked = ParkedMessages(client, store.codec.subjects)
        self._clock = checked_clock(clock)
        self._telemetry = telemetry
        self._depths: OrderedDict[str, int] = OrderedDict()  # of commands that were sent

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
        trigger = Trigger.of(recorded)
        # 2. Load it, unless it is in the cache.
        cached = self._loader.known(key) or await self._loader.load(key, leader=leader)
        own = trigger.reaction_id(self._name)
        # 3. Has it reacted to this event before?
        reaction = None
        if cached.commands.may_hold(own):
            reaction = await self._history.reaction(key, own)
        if reaction is None:
            reaction = await self._react(key, trigger, recorded, cached)
        # 6. Send its commands.
        if reaction is not None:
            instance, _ = self._loader.state_of(cached)
            await self._outbox.send(key, reaction, instance)
            self._note_depth(recorded, reaction)

    async def _react(
        self, key: str, trigger: Trigger, recorded: RecordedEvent, cached: CachedState
    ) -> Reaction | None:
        """Steps 4 and 5; None for an event that passes by."""
        instance, state = self._loader.state_of(cached)
        data = await self._loader.data_of(key, recorded)
        begins = self._process.role_of(data) == "starts" and instance.status != "running"
        passes = data is None or (instance.status != "running" and not begins)
        if passes and not instance.failed:
            await self._confirm(key, cached)
            return None
        self._loader.drop(key)  # a function may change the state that it is given
        try:
            given_up = await self._check_failed(instance, trigger)
            if passes:
                return None
            self._check_loop(instance, recorded)
            context = context_of(key, recorded)
            before = self._process.initial() if begins else state
            state = self._process.evolve(before, data, context)
            actions = self._process.react(state, data, context)
            event = self._reacted(key, recorded, instance, actions)
            event = msgspec.structs.replace(event, begins=begins, given_up=given_up)
            reaction = await self._record(key, recorded, cached, event)
        except Exception as error:
            if not (isinstance(error, EventStoreError) and error.retryable):
                await self._record_failure(key, trigger, recorded, cached, error)
            raise
        after = instance.after(event, self._name, recorded.correlation_id)
        cached.state = self._loader.joined(after, state)
        cached.commands.add(reaction.identity.id)
        self._loader.keep(key, cached)
        return reaction

    def _reacted(
        self, key: str, recorded: RecordedEvent, instance: Instance, actions: Actions
    ) -> Reacted:
        """The reaction as it is recorded; raises `InvalidMessage` for an illegal command."""
        trigger = Trigger.of(recorded)
        own = trigger.reaction_id(self._name)
        for sent, _ in actions.sent:
            self._store.codec.encode(sent.command)
        ended = instance.timers if actions.ends else ()
        return self._records.reacted(
            trigger=trigger,
            commands=outgoing(actions, own, self._clock()),
            cancelled=[*dict.fromkeys((*actions.cancelled, *ended))],
            ends=actions.ends,
            about=self._about(key, recorded, instance),
        )

    def _about(self, key: str, recorded: RecordedEvent, instance: Instance) -> str:
        """Whose personal data the commands may have: that of the event, or of an earlier one."""
        if not self._records.is_personal:
            return ""
        fields = self._store.codec.personal_fields(type(recorded.data))
        subjects = subjects_in(recorded.data, fields, recorded.aggregate_id)
        return min(subjects, default=instance.about or key)

    async def _record(
        self, key: str, recorded: RecordedEvent, cached: CachedState, event: Reacted
    ) -> Reaction:
        """Record a reaction; raises `Conflict` if the process has moved on."""
        reaction = Reaction(
            event,
            Identity.caused_by(recorded.envelope.identity, event.trigger.reaction_id(self._name)),
            recorded.envelope.actor,
            recorded.envelope.traceparent,
        )
        appended = await self._append(key, recorded, cached, event, reaction.identity)
        if appended.duplicate:  # by another process, and perhaps not the same
            raise Conflict(self._name, key, cached.head.version, appended.version)
        cached.head = appended.head
        self._telemetry.count("events_appended", aggregate=self._name)
        return reaction

    async def _record_failure(
        self,
        key: str,
        trigger: Trigger,
        recorded: RecordedEvent,
        cached: CachedState,
        error: Exception,
    ) -> None:
        """Record that the process cannot react to an event, unless it is recorded already."""
        instance, _ = self._loader.state_of(cached)
        if trigger.reaction_id(self._name) in instance.failed:
            return
        is_personal = self._store.codec.has_personal()
        reason = type(error).__name__ if is_personal else presentable(str(error) or repr(error))
        event = self._records.failed(trigger=trigger, code=code_of(error), reason=reason)
        own = trigger.failure_id(self._name, cached.head.version)
        identity = Identity.caused_by(recorded.envelope.identity, own)
        await self._append(key, recorded, cached, event, identity)

    async def _append(
        self,
        key: str,
        recorded: RecordedEvent,
        cached: CachedState,
        event: Event,
        identity: Identity,
    ) -> AppendResult:
        envelope = recorded.envelope
        new = NewEvent(
            data=event, identity=identity, actor=envelope.actor, traceparent=envelope.traceparent
        )
        (appended,) = await self._store.append_all(
            Append(
                aggregate=self._name,
                aggregate_id=key,
                events=[new],
                expected=cached.head if cached.head.version else NO_STREAM,
                known_new=True,  # the process was searched for the id
            )
        )
        return appended

    async def _confirm(self, key: str, cached: CachedState) -> None:
        """Ask the leader whether the process has moved on, before an event passes by."""
        head = await self._store.head(self._name, key, leader=True, known=cached.head)
        if head != cached.head:
            raise Conflict(self._name, key, cached.head.version, head.version)

    def _check_loop(self, instance: Instance, recorded: RecordedEvent) -> None:
        limit = self._process.max_reactions
        count = instance.recent.get(recorded.correlation_id, 0)
        depth = self._depths.get(recorded.causation_id, 0)
        if max(count, depth) >= limit:
            raise ProcessLoop(
                f"process {self._name} has reacted {limit} times within the correlation "
                f"{recorded.correlation_id}, and seems to loop by its own commands; if it does "
                "not, raise its max_reactions, and retry this event"
            )

    def _note_depth(self, recorded: RecordedEvent, reaction: Reaction) -> None:
        """Remember of how many reactions the commands of this one are a consequence."""
        depth = self._depths.get(recorded.causation_id, 0) + 1
        for each in reaction.data.commands:
            self._depths[each.id] = depth
        while len(self._depths) > _MAX_REMEMBERED:
            self._depths.popitem(last=False)

    async def _check_failed(self, instance: Instance, trigger: Trigger) -> list[str]:
        """The failures that were given up, by the ids of their reactions.

        Raises `ProcessWaits` if the process waits for an earlier event that is still parked.
        """
        own = trigger.reaction_id(self._name)
        given_up = []
        for reaction_id, failed in instance.failed.items():
            if reaction_id == own or failed.position > trigger.position:
                continue
            if await self._is_parked(failed):
                raise ProcessWaits(
                    f"process {self._name} has failed at {failed.type} {failed.id} of "
                    f"{failed.aggregate} {failed.aggregate_id}; retry or discard that first"
                )
            given_up.append(reaction_id)
        return given_up

    async def _is_parked(self, trigger: Trigger) -> bool:
        reading = self._parked.read(
            kind="event", aggregate=trigger.aggregate, aggregate_id=trigger.aggregate_id
        )
        async with aclosing(reading) as parked:
            async for each in parked:
                if isinstance(each, ParkedMessage) and self._is_of(each, trigger):
                    return True
        return False

    def _is_of(self, parked: ParkedMessage, trigger: Trigger) -> bool:
        record = parked.record
        is_own = record.subscriber == self._name
        return is_own and record.headers.get(POSITION) == str(trigger.position)
