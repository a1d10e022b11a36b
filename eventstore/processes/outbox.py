"""The outbox: sends the commands of a recorded reaction, with the ids that are recorded."""

from __future__ import annotations

from datetime import datetime

import msgspec

from eventstore.commands import CommandClient
from eventstore.messages.context import MessageContext
from eventstore.messages.envelope import derive_id
from eventstore.processes.instance import Instance
from eventstore.processes.reactions import Actions, After
from eventstore.processes.records import OutgoingCommand, RecordedReaction, command_of
from eventstore.store.store import EventStore

_TIMERS = "5b0f1f0a-3d0e-5c1c-9f0b-8f5d6a1f7f11"
_encode = msgspec.json.Encoder().encode


def outgoing(actions: Actions, reaction_id: str) -> list[OutgoingCommand]:
    """The commands of a reaction as they are recorded, with ids derived from the reaction's."""
    return [
        OutgoingCommand(
            id=derive_id(reaction_id, f"command/{number}"),
            aggregate=type(sent.command).__aggregate__,
            action=type(sent.command).__action__,
            to=to,
            data=msgspec.json.decode(_encode(sent.command)),
            timer=sent.timer if isinstance(sent, After) else None,
        )
        for number, (sent, to) in enumerate(actions.sent)
    ]


def timers_of(actions: Actions, now: datetime) -> dict[str, datetime]:
    """When the timers of a reaction are due, by name."""
    timers = [sent for sent, _ in actions.sent if isinstance(sent, After)]
    return {each.timer: now + each.delay for each in timers}


class Outbox:
    """Sends what the reactions of one process have recorded; sent again, it is carried out once."""

    def __init__(self, process: str, store: EventStore, commands: CommandClient) -> None:
        self._process = process
        self._store = store
        self._commands = commands

    async def send(self, key: str, reaction: RecordedReaction, instance: Instance) -> None:
        """Send the commands of a reaction, in order, and set and cancel its timers.

        `instance` is what the records say by now: a timer that a later reaction has replaced or
        cancelled is not set again, nor is one cancelled that it has set. Raises what
        `CommandClient.schedule` raises, and `InvalidMessage` for a command that was recorded by
        another release and cannot be read any more.
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
                at = reaction.data.timers.get(each.timer or "")
                if each.timer is None or at is None:
                    command = command_of(self._store.codec, each)
                    await self._commands.send(command, each.to, command_id=each.id)
                elif instance.timers.get(each.timer) == at:
                    await self._set_timer(key, each, each.timer, at)
            for name in reaction.data.cancelled:
                if name not in instance.timers:
                    await self._commands.cancel(_timer_id(self._process, key, name))

    async def _set_timer(self, key: str, sent: OutgoingCommand, name: str, at: datetime) -> None:
        await self._commands.schedule(
            _timer_id(self._process, key, name),
            command_of(self._store.codec, sent),
            sent.to,
            at=at,
            command_id=sent.id,
        )


def _timer_id(process: str, key: str, name: str) -> str:
    """The name of a process's timer among all timers of the domain."""
    return f"{process}-{derive_id(_TIMERS, f'{process}/{key}/{name}')}"
