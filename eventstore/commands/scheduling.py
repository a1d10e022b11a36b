"""Commands for later: what a timer's command is called, and what its sender gets back."""

from __future__ import annotations

from datetime import datetime

import msgspec

from eventstore.commands.command_message import CommandMessage
from eventstore.errors import InvalidTimer
from eventstore.messages.envelope import MessageId, derive_id
from eventstore.messages.subjects import AggregateId, Subjects
from eventstore.messages.types import Command
from eventstore.timers.schedule import Delay, Schedule, WhenPast

_NAMESPACE = "5d2a3f0e-8f1c-5b8e-9a51-0c6e0f6f7d15"


class ScheduledCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command that the server has accepted for later; it is durable.

    `name` cancels it, or replaces it by another. `at` is when it is due; None if it is recurring.
    Then `command_id` is None as well, because each time it is due it gets an id of its own; and
    `aggregate_id`, if each time creates an aggregate.
    """

    name: str
    command_id: str | None
    correlation_id: str | None
    aggregate_id: str | None
    at: datetime | None


def timer_command_id(
    subjects: Subjects,
    name: str | None,
    schedule: Schedule,
    command: Command,
    aggregate_id: AggregateId | None,
) -> str | None:
    """The id of the command of a named timer: the same if the same is set again.

    So nobody needs to remember an id to repeat a request whose answer was lost, even if the timer
    has fired meanwhile; with another time it is another command. None without a name.
    """
    if name is None or schedule.at is None:
        return None
    cls = type(command)
    parts = (
        *(subjects.domain, name, schedule.at.isoformat()),
        *(cls.__aggregate__, cls.__action__, str(aggregate_id or "")),
    )
    return derive_id(_NAMESPACE, "/".join(parts))


def scheduled_command(
    message: CommandMessage, name: str, schedule: Schedule, *, creates: bool
) -> ScheduledCommand:
    """What the sender of a timer's command gets back."""
    identity, recurring = message.identity, schedule.is_recurring
    is_root = identity.id == identity.correlation_id
    return ScheduledCommand(
        name=name,
        command_id=None if recurring else identity.id,
        correlation_id=None if recurring and is_root else identity.correlation_id,
        aggregate_id=None if recurring and creates else message.envelope.aggregate_id,
        at=schedule.at,
    )


def schedule_of(
    now: datetime,
    *,
    at: datetime | None,
    after: Delay | None,
    cron: str | None,
    time_zone: str | None,
    past: WhenPast,
    command_id: MessageId | None,
    expected: int | None,
) -> Schedule:
    """The schedule that the arguments of `CommandClient.schedule` say.

    Raises `InvalidTimer` for what does not go together, and `TimerInPast`.
    """
    if [at, after, cron].count(None) != 2:
        raise InvalidTimer(
            "a timer needs either a time (at), a delay (after), or a cron expression (cron)"
        )
    if cron is None:
        if time_zone is not None:
            raise InvalidTimer("a time zone is for cron expressions only")
        return Schedule.once(now, at=at, after=after, past=past)
    if command_id is not None:
        raise InvalidTimer("each command of a recurring timer has an own id: leave command_id out")
    if expected is not None:
        raise InvalidTimer("a recurring timer cannot expect a version, which changes each time")
    return Schedule.recurring(cron, time_zone)
