"""Rejections: has the process that sent a command learn, as an event, that it was rejected.

The command worker calls this when the outcome is stored, and before the command is acknowledged: so
at least once, and it is recorded once, for its id is derived from the command's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eventstore.commands.decoding import DecodedCommand
from eventstore.messages.envelope import Identity, derive_id
from eventstore.messages.events import NewEvent
from eventstore.messages.outcome import Outcome
from eventstore.messages.subjects import AGGREGATE_ID
from eventstore.processes.history import ProcessHistory
from eventstore.processes.process import Process
from eventstore.store.store import EventStore


class ProcessRejections:
    """Records rejections, of commands whose rejection a process has a function for."""

    def __init__(self, processes: Iterable[Process[Any]], store: EventStore) -> None:
        self._processes = {each.name: each for each in processes}
        self._store = store

    async def __call__(self, command: DecodedCommand, outcome: Outcome) -> None:
        """Record a rejection; nothing if the command is not one that the process has sent.

        Raises what `EventStore.append` raises.
        """
        name, _, key = (command.process or "").partition(".")
        process = self._processes.get(name)
        if process is None or not AGGREGATE_ID.fullmatch(key):
            return
        if type(command.command) not in process.rejected_types:
            return
        history = ProcessHistory(name, self._store)
        if await history.sent(key, command.identity.id) is None:
            return  # anybody may send a command that says so
        identity = Identity.caused_by(
            command.identity, derive_id(command.identity.id, f"{name}/rejected")
        )
        record = process.records.rejected(
            command_id=command.identity.id,
            aggregate=command.aggregate,
            aggregate_id=command.aggregate_id,
            action=type(command.command).__action__,
            code=outcome.code,
            message="" if self._store.codec.has_personal() else outcome.message,
        )
        new = NewEvent(data=record, identity=identity, actor=command.envelope.actor)
        await self._store.append(name, key, new)
