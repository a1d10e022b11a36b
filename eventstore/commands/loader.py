"""Loading: an aggregate as it stands, from its snapshot if it has one, and the events since."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from eventstore.commands.deduplication import CommandDeduplication
from eventstore.commands.state_cache import CachedState
from eventstore.decider.decider import Decider
from eventstore.messages.envelope import Header
from eventstore.store.snapshots.format import Snapshot
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import NOTHING, EventStore, Head

__all__ = ["Loader"]


class Loader:
    """Loads aggregates, and sees to it that their snapshots are taken."""

    def __init__(self, store: EventStore, snapshots: Snapshots | None) -> None:
        self._store = store
        self._snapshots = snapshots

    async def load(
        self, decider: Decider[Any], aggregate_id: str, *, leader: bool = False
    ) -> CachedState:
        """The aggregate as the log has it; `leader`, and what is raised: see `EventStore.read`."""
        kept = await self._beginning(decider, aggregate_id)
        read = self._store.read_stored(
            decider.aggregate, aggregate_id, after=kept.head, leader=leader
        )
        async with aclosing(read) as stored:
            async for message, events in stored:
                for event in events:
                    kept.state = decider.evolve(kept.state, event.data)
                kept.head = Head.of(message)
                kept.commands.add(message.headers[Header.CAUSATION_ID])
        self.take_snapshot(decider, aggregate_id, kept)
        return kept

    def take_snapshot(self, decider: Decider[Any], aggregate_id: str, kept: CachedState) -> None:
        """Have a snapshot of this state written in the background, if one is due."""
        events = kept.head.version - kept.snapshot
        if self._snapshots is not None and self._snapshots.is_due(decider, events):
            snapshot = Snapshot(kept.state, kept.head, kept.commands.filter())
            if self._snapshots.save_soon(decider, aggregate_id, snapshot):
                kept.snapshot = kept.head.version

    async def _beginning(self, decider: Decider[Any], aggregate_id: str) -> CachedState:
        if self._snapshots is None or not self._snapshots.is_enabled_for(decider):
            return CachedState(decider.initial(), NOTHING, CommandDeduplication())
        snapshot = await self._snapshots.load(decider, aggregate_id)
        if snapshot is None:
            return CachedState(decider.initial(), NOTHING, CommandDeduplication(filtering=True))
        commands = CommandDeduplication(snapshot.commands)
        return CachedState(snapshot.state, snapshot.head, commands, snapshot.head.version)
