"""The outbox: sends the commands of a recorded reaction, with the ids that are recorded."""

from __future__ import annotations

from datetime import datetime

import msgspec

from eventstore.commands import CommandClient
from eventstore.messages.context import MessageContext
from eventstore.messages.envelope import derive_id
from eventstore.processes.reactions import Actions, After
from eventstore.processes.records import OutgoingCommand, Reaction, command_of
from eventstore.store.store import EventStore

_encode = msgspec.json.Encoder().encode


def outgoing(actions: Actions, reaction_id: str, now: datetime) -> list[OutgoingCommand]:
    """The commands of a reaction as they are recorded, with ids derived from the reaction's."""
    return [
        OutgoingCommand(
            id=derive_id(reaction_id, f"command/{number}"),
            aggregate=type(sent.command).__aggregate__,
            action=type(sent.command).__action__,
            to=to,
            data=msgspec.json.decode(_encode(sent.command)),
            at=now + sent.delay if isinstance(sent, After) else None,
            timer=sent.timer if isinstance(sent, After) else None,
        )
        for number, (sent, to) in enumerate(actions.sent)
    ]


class Outbox:
    """Sends what the reactions of one process have recorded; sent again, it is carried out once."""

    def __init__(self, process: str, store: EventStore, commands: CommandClient) -> None:
        self._process = process
        self._store = store
        self._commands = commands

    async def send(self, key: str, reaction: Reaction) -> None:
        """Send the commands of a reaction, in order.

        Raises what `CommandClient.send` raises, and `InvalidMessage` for a command that was
        recorded by another release and cannot be read any more.
        """
        context = MessageContext(
            reaction.identity,
            self._process,
            actor=reaction.actor,
            traceparent=reaction.traceparent,
            process=f"{self._process}.{key}",
        )
        with context.begun():
            for each in reaction.data.commands:
                command = command_of(self._store.codec, each)
                await self._commands.send(command, each.to, command_id=each.id)
