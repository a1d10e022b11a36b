"""What a process records: events of its own aggregate, whose id is the process's key.

`Reacted` names the event that it has reacted to, which stays where it is in the log, and the
commands that it sends for it, with their ids: an outbox. `Failed` names an event that it could not
react to, `CommandRejected` a command of its own that was rejected.

Each process has classes of its own: the name of an event's type is unique in a domain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Struct

from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Identity, derive_id
from eventstore.messages.events import RecordedEvent
from eventstore.messages.personal import Personal, personal_fields
from eventstore.messages.types import Command, Event, MessageType


class Trigger(Struct, frozen=True, kw_only=True):
    """The event that a process reacts to: its id, and where it is in the log.

    `part` is its number if an older event is read as several.
    """

    id: str
    type: str
    aggregate: str
    aggregate_id: str
    version: int
    position: int
    part: int = 0

    @classmethod
    def of(cls, recorded: RecordedEvent) -> Trigger:
        """The reference to an event."""
        return cls(
            id=recorded.id,
            type=recorded.type,
            aggregate=recorded.aggregate,
            aggregate_id=recorded.aggregate_id,
            version=recorded.version,
            position=recorded.position,
            part=recorded.part,
        )

    def reaction_id(self, process: str) -> str:
        """The id of the process's reaction to it, always the same."""
        return derive_id(self.id, f"{process}/reacted/{self.part}")

    def failure_id(self, process: str, attempt: int) -> str:
        """The id of the process's failure at it, each time that it is tried again."""
        return derive_id(self.id, f"{process}/failed/{self.part}/{attempt}")


class OutgoingCommand(Struct, frozen=True, kw_only=True):
    """A command that a process sends, at once or when the timer of this name is due."""

    id: str
    aggregate: str
    action: str
    to: str
    data: dict[str, Any]
    timer: str | None = None


class Reacted(Event):
    """The process has reacted to an event: the base of each process's class.

    `begins`: it started, again or not; `ends`: it has ended. `timers` are those that it sets, by
    name, with when they are due, and `cancelled` others. `given_up` are events that it had failed
    at and that nobody will retry, by the ids of the reactions to them. `about` is whose personal
    data may be in the commands.
    """

    trigger: Trigger
    commands: list[OutgoingCommand] = msgspec.field(default_factory=list)
    timers: dict[str, datetime] = msgspec.field(default_factory=dict)
    cancelled: list[str] = msgspec.field(default_factory=list)
    begins: bool = False
    ends: bool = False
    given_up: list[str] = msgspec.field(default_factory=list)
    about: str = ""


class RecordedReaction(NamedTuple):
    """A recorded reaction: what it says, its ids, and what is passed on from its event."""

    data: Reacted
    identity: Identity
    actor: str | None
    traceparent: str | None

    @classmethod
    def of(cls, recorded: RecordedEvent, data: Reacted) -> RecordedReaction:
        """The reaction as it was recorded, with its data."""
        envelope = recorded.envelope
        return cls(data, envelope.identity, envelope.actor, envelope.traceparent)


class Failed(Event):
    """The process could not react to an event, which is parked; it takes no other meanwhile."""

    trigger: Trigger
    code: str
    reason: str


class CommandRejected(Event):
    """A command of the process was rejected."""

    command_id: str
    aggregate: str
    aggregate_id: str
    action: str
    code: str
    message: str = ""


class Records:
    """The classes of the records of one process, which reacts to these events."""

    def __init__(self, process: str, events: Iterable[type[Event]]) -> None:
        prefix = "".join(word.capitalize() for word in re.split(r"[-_]", process))
        self.is_personal = any(personal_fields(each) for each in events)
        self.reacted: type[Reacted] = _record(
            f"{prefix}Reacted", Reacted, process, "reacted", self._private()
        )
        self.failed: type[Failed] = _record(f"{prefix}Failed", Failed, process, "failed")
        self.rejected: type[CommandRejected] = _record(
            f"{prefix}CommandRejected", CommandRejected, process, "command_rejected"
        )

    def _private(self) -> dict[str, Any]:
        """Fields that are encrypted if the events of the process have personal data."""
        if not self.is_personal:
            return {}
        mark = Personal(subject="about", forgotten=[])
        return {"commands": Annotated[list[OutgoingCommand], mark]}


def command_of(codec: Codec, sent: OutgoingCommand) -> Command:
    """The command as it was sent; raises `UnknownType` and `InvalidPayload`."""
    return codec.decode_command(sent.aggregate, sent.action, msgspec.json.encode(sent.data))


def _record(
    name: str, base: type[Any], aggregate: str, action: str, fields: dict[str, Any] | None = None
) -> Any:
    annotated = fields or {}
    namespace = {"__annotations__": annotated, "__module__": __name__, "__doc__": base.__doc__}
    defaults: dict[str, Any] = {field: msgspec.field(default_factory=list) for field in annotated}
    return MessageType(name, (base,), namespace | defaults, subject=f"{aggregate}.{action}")
