"""Loads aggregates: from the snapshot, if there is one, and the events since."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from eventstore.commands.deduplication import CommandDeduplication
from eventstore.commands.state_cache import CachedState
from eventstore.decider.decider import Decider
from eventstore.messages.headers import Header
from eventstore.store.head import NOTHING, Head
from eventstore.store.snapshots.format import Snapshot
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import EventStore


class Loader:
    """Loads aggregates, and has snapshots of them taken."""

    def __init__(self, store: EventStore, snapshots: Snapshots | None) -> None:
        self._store = store
        self._snapshots = snapshots

    async def load(
        self,
        decider: Decider[Any],
        aggregate_id: str,
        *,
        leader: bool = False,
        likely_new: bool = False,
    ) -> CachedState:
        """Load an aggregate; for `leader` and what is raised, see `EventStore.read`.

        One that is `likely_new` is first asked for its last event, in one request with others.
        """
        if likely_new and not leader:
            head = await self._store.last_position(decider.aggregate, aggregate_id)
            if not head:
                return self._empty(decider)
        cached = await self._start(decider, aggregate_id)
        read = self._store.read_stored(
            decider.aggregate, aggregate_id, after=cached.head, leader=leader
        )
        last = None
        async with aclosing(read) as stored:
            async for last, events in stored:
                for event in events:
                    cached.state = decider.evolve(cached.state, event.data)
                cached.commands.add(last.headers[Header.CAUSATION_ID])
        if last is not None:
            cached.head = Head.of(last)
        self.take_snapshot(decider, aggregate_id, cached)
        return cached

    def take_snapshot(self, decider: Decider[Any], aggregate_id: str, cached: CachedState) -> None:
        """Write a snapshot of this state in the background, if one is due."""
        events = cached.head.version - cached.snapshot
        if self._snapshots is not None and self._snapshots.is_due(decider, events):
            snapshot = Snapshot(cached.state, cached.head, cached.commands.filter())
            if self._snapshots.save_soon(decider, aggregate_id, snapshot):
                cached.snapshot = cached.head.version

    async def _start(self, decider: Decider[Any], aggregate_id: str) -> CachedState:
        if self._snapshots is None or not self._snapshots.is_enabled_for(decider):
            return self._empty(decider)
        snapshot = await self._snapshots.load(decider, aggregate_id)
        if snapshot is None:
            return self._empty(decider)
        commands = CommandDeduplication(snapshot.commands)
        return CachedState(snapshot.state, snapshot.head, commands, snapshot.head.version)

    def _empty(self, decider: Decider[Any]) -> CachedState:
        """The state of an aggregate without events, or to read all of its events into."""
        filtering = self._snapshots is not None and self._snapshots.is_enabled_for(decider)
        return CachedState(decider.initial(), NOTHING, CommandDeduplication(filtering=filtering))
