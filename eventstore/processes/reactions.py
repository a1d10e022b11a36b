"""Reactions: what a process has done when an event arrives, as plain values.

    return [
        Send(ReserveStock(order=context.key, quantity=2), event.article),
        After(CancelOrder(reason="not paid"), minutes=15, name="payment"),
    ]

A command returned as it is goes to the aggregate whose id is the key of the process.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from msgspec import Struct

from eventstore.errors import DeciderError
from eventstore.messages.subjects import AggregateId, check_aggregate_id, check_name
from eventstore.messages.types import Command

C = TypeVar("C", bound=Command)


class Send(Struct, Generic[C], frozen=True):
    """Send a command, by default to the aggregate whose id is the key of the process.

    Raises `InvalidId` for an illegal aggregate id.
    """

    command: C
    to: AggregateId | None = None

    def __post_init__(self) -> None:
        """Check the id."""
        if self.to is not None:
            check_aggregate_id(self.to)


class After(Send[C], Generic[C], frozen=True, kw_only=True):
    """Send a command later: a timer, which is cancelled when the process ends.

    Another timer of the same `name` replaces it, and `Cancel(name)` cancels it; by default its name
    is that of the command's type. Raises `DeciderError` unless the time is positive.
    """

    days: float = 0
    hours: float = 0
    minutes: float = 0
    seconds: float = 0
    name: str | None = None

    def __post_init__(self) -> None:
        """Check the id, the time and the name."""
        super().__post_init__()
        if self.delay <= timedelta():
            command = type(self.command).__name__
            raise DeciderError(f"After({command}) needs a time, such as minutes=15")
        check_name("timer", self.timer)

    @property
    def delay(self) -> timedelta:
        """The time from the reaction to the command."""
        return timedelta(
            days=self.days, hours=self.hours, minutes=self.minutes, seconds=self.seconds
        )

    @property
    def timer(self) -> str:
        """The timer's name."""
        return _timer_name(type(self.command)) if self.name is None else self.name


class Cancel(Struct, frozen=True):
    """Cancel a timer by its name, or by the type of its command; nothing happens without one."""

    timer: str | type[Command]

    @property
    def name(self) -> str:
        """The timer's name."""
        return self.timer if isinstance(self.timer, str) else _timer_name(self.timer)


class End(enum.Enum):
    """The type of `END`."""

    END = "end"


END = End.END
"""Ends the process: its timers are cancelled, and later events pass it by."""

Action = Command | Send[Any] | Cancel | End
"""One thing that a process does."""

Reaction = Action | Iterable[Action] | None
"""What a process does when an event arrives: one thing, several, or nothing."""


class Rejection(Struct, Generic[C], frozen=True, kw_only=True):
    """A command of the process was rejected; arrives as an event does, and once.

    `code` is the decider's, and stable; `message` is for people, and empty in a domain with
    personal data. `to` is the aggregate that rejected it.
    """

    command: C
    code: str
    message: str = ""
    to: str = ""


class ProcessContext(Struct, frozen=True, kw_only=True):
    """The context of an event, for functions of processes that take it as a third parameter.

    Processes have no clock and no random source of their own: `time` is that of the event (UTC),
    new ids are derived from `event_id`. `key` is the process's, the others are the event's; a
    rejection is an event of the process itself.
    """

    key: str
    event_id: str
    correlation_id: str
    aggregate: str
    aggregate_id: str
    version: int
    position: int
    time: datetime
    actor: str | None = None


class Actions(Struct, frozen=True):
    """The actions of one reaction, sorted by kind.

    `sent` are the commands, timers included, each with the id of its aggregate.
    """

    sent: tuple[tuple[Send[Any], str], ...] = ()
    cancelled: tuple[str, ...] = ()
    ends: bool = False


def actions_of(reaction: Any, key: str, where: str) -> Actions:
    """The actions of a reaction; `where` names the function for the text of an error.

    Raises `DeciderError` for a value that is none.
    """
    several = reaction if isinstance(reaction, Iterable) else [reaction]
    actions = [] if reaction is None else list(several)
    for each in actions:
        if not isinstance(each, Command | Send | Cancel | End):
            raise DeciderError(
                f"{where} returned {type(each).__name__}; it must return commands, Send, After, "
                "Cancel or END, or None"
            )
    sent = [Send(each) if isinstance(each, Command) else each for each in actions]
    return Actions(
        tuple((each, str(each.to or key)) for each in sent if isinstance(each, Send)),
        tuple(each.name for each in actions if isinstance(each, Cancel)),
        END in actions,
    )


def _timer_name(command: type[Command]) -> str:
    """The name of a timer that has none of its own, such as `order-cancel`."""
    return f"{command.__aggregate__}-{command.__action__}"[:64]
