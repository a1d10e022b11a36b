"""Loads a process: folds its records, and the events that it has reacted to, to its state.

The records name those events and do not copy them. They are read where they are in the log, upcast
by their schema versions, and forgotten with the personal data in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType
from typing import Any

import msgspec

from eventstore.commands.deduplication import CommandDeduplication
from eventstore.commands.state_cache import CachedState, StateCache
from eventstore.concurrency.chunks import map_chunked
from eventstore.decider.decider import Decider
from eventstore.errors import CorruptLog
from eventstore.messages.codec import Codec
from eventstore.messages.events import RecordedEvent
from eventstore.processes.history import ProcessHistory, begins, commands_of
from eventstore.processes.instance import Instance
from eventstore.processes.process import Process
from eventstore.processes.reactions import ProcessContext, Rejection
from eventstore.processes.records import (
    CommandRejected,
    OutgoingCommand,
    Reacted,
    Trigger,
    command_of,
)
from eventstore.store.head import NOTHING
from eventstore.store.snapshots.format import Snapshot
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import EventStore

_AT_ONCE = 32
_NOTHING: Mapping[str, OutgoingCommand] = MappingProxyType({})


class ProcessLoader:
    """Loads the processes of one kind, caches them, and has snapshots taken of them.

    A cached state has two parts: `instance`, what the records say, and `state`, the user's own.
    """

    def __init__(
        self,
        process: Process[Any],
        store: EventStore,
        snapshots: Snapshots | None = None,
        *,
        states: StateCache | None = None,
    ) -> None:
        self._process = process
        self._store = store
        self._history = ProcessHistory(process.name, store)
        self._snapshots = snapshots
        self._states = StateCache() if states is None else states
        store.keyring.on_forgotten(self._states.clear)
        self._decider = _snapshot_decider(process)
        self._type = type(self._decider.initial())

    def known(self, key: str) -> CachedState | None:
        """A process that is cached."""
        return self._states.get((self._process.name, key))

    def keep(self, key: str, cached: CachedState) -> None:
        """Cache a process, and take a snapshot of it if one is due."""
        self._take_snapshot(key, cached)
        self._states.put((self._process.name, key), cached)

    def drop(self, key: str) -> None:
        """Drop a process from the cache."""
        self._states.drop((self._process.name, key))

    async def load(self, key: str, *, leader: bool = False, evolving: bool = True) -> CachedState:
        """Load a process; for `leader` and what is raised, see `EventStore.read`.

        Without `evolving` the user's state is not folded, and not to be used. Also raises what the
        functions of the process raise, and `CorruptLog` for an event that it has reacted to and
        that is in the log no more.
        """
        era = self._states.era
        cached = await self._start(key)
        reading = self._history.read(key, cached.head, leader=leader)
        records = [each async for each in reading]
        events = [each.event for each in records]
        cached.state = await self._folded(key, cached.state, events, evolving)
        for event, head in records:
            cached.head = head
            if isinstance(event.data, Reacted):
                cached.commands.add(event.id)
        cached.era = era
        return cached

    async def data_of(
        self, key: str, trigger: RecordedEvent, known: Mapping[str, OutgoingCommand] = _NOTHING
    ) -> Any:
        """What a function of the process takes for an event: its data, or a `Rejection`.

        `known` are commands that it has sent, by their ids. None if it is the rejection of a
        command that it has not sent since it started.
        """
        if not isinstance(trigger.data, CommandRejected):
            return trigger.data
        command_id = trigger.data.command_id
        sent = known.get(command_id) or await self._history.sent(key, command_id)
        return None if sent is None else _rejection(self._store.codec, sent, trigger.data)

    def joined(self, instance: Instance, state: Any) -> Any:
        """Both parts as they are cached."""
        return self._type(instance, state)

    async def _start(self, key: str) -> CachedState:
        enabled = self._snapshots is not None and self._snapshots.is_enabled_for(self._decider)
        found = None
        if self._snapshots is not None and enabled:
            found = await self._snapshots.load(self._decider, key)
        if found is None:
            seen = CommandDeduplication(filtering=enabled)
            return CachedState(self._decider.initial(), NOTHING, seen)
        seen = CommandDeduplication(found.commands)
        return CachedState(found.state, found.head, seen, found.head.version)

    def _take_snapshot(self, key: str, cached: CachedState) -> None:
        since = cached.head.version - cached.snapshot
        if self._snapshots is not None and self._snapshots.is_due(self._decider, since):
            snapshot = Snapshot(cached.state, cached.head, cached.commands.filter())
            if self._snapshots.save_soon(self._decider, key, snapshot):
                cached.snapshot = cached.head.version

    async def _folded(
        self, key: str, before: Any, records: Sequence[RecordedEvent], evolving: bool
    ) -> Any:
        instance, state = before.instance, before.state
        begin = max(
            (at for at, each in enumerate(records) if begins(each)), default=None
        )  # before it nothing counts for the state
        own = {each.id: each for each in records}
        counting = (each.data for each in records[begin or 0 :])
        needed = [data.trigger for data in counting if isinstance(data, Reacted) and evolving]
        for each in records:
            instance = instance.after(each.data, self._process.name, each.correlation_id)
        if begin is not None:
            state = self._process.initial()
        sent = {each.id: each for record in records for each in commands_of(record)}
        for trigger in await self._triggers(needed, own):
            data = await self.data_of(key, trigger, sent)
            if data is not None:
                state = self._process.evolve(state, data, context_of(key, trigger))
        return self.joined(instance, state)

    async def _triggers(
        self, triggers: Sequence[Trigger], own: Mapping[str, RecordedEvent]
    ) -> list[RecordedEvent]:
        """The events that were reacted to."""
        events = await map_chunked(lambda each: self._event(each, own), triggers, _AT_ONCE)
        return [each for each in events if each is not None]

    async def _event(
        self, trigger: Trigger, own: Mapping[str, RecordedEvent]
    ) -> RecordedEvent | None:
        """The event; None if it is read as fewer parts by now."""
        if trigger.id in own:
            return own[trigger.id]
        parts = await self._store.read_at(trigger.position)
        if not parts or parts[0].id != trigger.id:
            parts = await self._searched(trigger)
        return next((each for each in parts if each.part == trigger.part), None)

    async def _searched(self, trigger: Trigger) -> list[RecordedEvent]:
        """The event wherever it is now: a copy of a log may have other positions."""
        read = self._store.read(trigger.aggregate, trigger.aggregate_id, leader=True)
        async with aclosing(read) as events:
            found = [each async for each in events if each.version == trigger.version]
        if any(each.id != trigger.id for each in found):
            raise CorruptLog(
                f"process {self._process.name}: {trigger.type} {trigger.id}, to which it has "
                f"reacted, is not version {trigger.version} of {trigger.aggregate} "
                f"{trigger.aggregate_id}"
            )
        return found


def context_of(key: str, trigger: RecordedEvent) -> ProcessContext:
    """The context of an event for the functions of a process."""
    return ProcessContext(
        key=key,
        event_id=trigger.id,
        correlation_id=trigger.correlation_id,
        aggregate=trigger.aggregate,
        aggregate_id=trigger.aggregate_id,
        version=trigger.version,
        position=trigger.position,
        time=trigger.time,
        actor=trigger.envelope.actor,
    )


def _rejection(codec: Codec, sent: OutgoingCommand, record: CommandRejected) -> Rejection[Any]:
    command = command_of(codec, sent)
    return Rejection(
        command=command, code=record.code, message=record.message, to=record.aggregate_id
    )


def _snapshot_decider(process: Process[Any]) -> Decider[Any]:
    """What the snapshots of a process are of: both parts of its state."""
    state = type(process.initial())
    joined: Any = msgspec.defstruct(
        "ProcessState", [("instance", Instance), ("state", state)], frozen=True
    )
    return Decider(
        process.name,
        initial=lambda: joined(Instance(), process.initial()),
        snapshot_every=process.snapshot_every,
        state_version=process.state_version,
    )
