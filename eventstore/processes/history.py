"""The history of a process: its records, as they are in the log."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from eventstore.messages.events import RecordedEvent
from eventstore.processes.records import OutgoingCommand, Reacted, RecordedReaction
from eventstore.store.head import NOTHING, Head
from eventstore.store.store import EventStore


class Record(NamedTuple):
    """A record, and the head of the process after it."""

    event: RecordedEvent
    head: Head


class ProcessHistory:
    """Reads the records of the processes of one kind; raises what `EventStore.read` raises."""

    def __init__(self, process: str, store: EventStore) -> None:
        self._process = process
        self._store = store

    async def read(
        self, key: str, after: Head = NOTHING, *, leader: bool = False
    ) -> AsyncGenerator[Record, None]:
        """The records after a head, oldest first."""
        read = self._store.read_stored(self._process, key, after=after, leader=leader)
        async with aclosing(read) as stored:
            async for message, events in stored:
                for event in events:
                    yield Record(event, Head.of(message))

    async def sent(self, key: str, command_id: str) -> OutgoingCommand | None:
        """The command of this id that the process has sent since it started.

        None for another's, and for one that it had sent before it started again.
        """
        found = None
        async with aclosing(self.read(key, leader=True)) as records:
            async for event, _ in records:
                if begins(event):
                    found = None
                found = next((each for each in commands_of(event) if each.id == command_id), found)
        return found

    async def reaction(self, key: str, reaction_id: str) -> RecordedReaction | None:
        """The recorded reaction of this id; None if there is none."""
        async with aclosing(self.read(key, leader=True)) as records:
            async for event, _ in records:
                if event.id == reaction_id and isinstance(event.data, Reacted):
                    return RecordedReaction.of(event, event.data)
        return None


def begins(event: RecordedEvent) -> bool:
    """Whether the process starts, or starts again, with this record."""
    return isinstance(event.data, Reacted) and event.data.begins


def commands_of(event: RecordedEvent) -> list[OutgoingCommand]:
    """The commands that a record sends."""
    return event.data.commands if isinstance(event.data, Reacted) else []
