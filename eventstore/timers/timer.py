"""A timer as a message: how it is set, and how it is read from its stream."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from eventstore.errors import InvalidMessage
from eventstore.jetstream.publish import Draft
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.vocabulary import SERVER_HEADERS, NatsHeader
from eventstore.messages.envelope import parse_timestamp
from eventstore.messages.headers import DUE, ID_DERIVED, Header
from eventstore.messages.subjects import Subject, Subjects
from eventstore.messages.undecodable import UNDECODABLE
from eventstore.timers.schedule import Schedule, time_in

_OF_EACH_FIRING = {Header.EVENT_ID, Header.TIMESTAMP, Header.TRACEPARENT, ID_DERIVED}
_OF_A_ROOT = {Header.CORRELATION_ID, Header.CAUSATION_ID}


class Timer(msgspec.Struct, frozen=True):
    """A timer that is waiting, or whose command is not carried out yet.

    `due` is None if it is recurring; then `schedule` is its cron expression, in `time_zone` (UTC if
    that is None), and each time it is due its command gets an id of its own. `headers` and
    `payload` are the command's.
    """

    name: str
    sequence: int
    aggregate: str
    action: str
    due: datetime | None
    schedule: str
    time_zone: str | None
    headers: Mapping[str, str]
    payload: bytes

    @property
    def is_recurring(self) -> bool:
        """Whether it is due more than once."""
        return self.due is None

    @property
    def type(self) -> str:
        """The type of its command."""
        return self.headers.get(Header.EVENT_TYPE, "")

    @property
    def aggregate_id(self) -> str | None:
        """The aggregate that its command is for; None if each time creates one."""
        return self.headers.get(Header.AGGREGATE_ID)

    @property
    def command_id(self) -> str | None:
        """The id of its command; None if it is recurring."""
        return self.headers.get(Header.EVENT_ID)

    @property
    def data(self) -> Any:
        """The command's payload as plain JSON; its text if it is none."""
        try:
            return msgspec.json.decode(self.payload or b"{}")
        except UNDECODABLE:
            return self.payload.decode(errors="replace")


def timer_draft(
    command: Draft, name: str, schedule: Schedule, subjects: Subjects, *, creates: bool = False
) -> Draft:
    """The message that sets a timer for a command, given as it would be sent now.

    It has no `Nats-Msg-Id`: a timer that is set, cancelled and set again must not be taken for a
    repetition. The command of a recurring one gets its ids when it is due, as one without any, and
    if `creates`, the id of its aggregate as well.
    """
    to = Subject.split(command.subject)
    headers = command.headers
    without = {Header.MESSAGE_ID}
    if schedule.is_recurring:
        without |= _OF_EACH_FIRING
        if headers[Header.CAUSATION_ID] == headers[Header.EVENT_ID]:
            without |= _OF_A_ROOT
        if creates:
            without.add(Header.AGGREGATE_ID)
    return scheduled(
        *(subjects, name, to.aggregate, to.action),
        schedule.headers,
        {key: value for key, value in headers.items() if key not in without},
        command.payload,
        command.type,
    )


def scheduled(
    subjects: Subjects,
    name: str,
    aggregate: str,
    action: str,
    schedule: Mapping[str, str],
    headers: Mapping[str, str],
    payload: bytes,
    type: str,  # noqa: A002
) -> Draft:
    """The message that sets a timer, with a schedule's headers and those of its command."""
    target = {NatsHeader.SCHEDULE_TARGET: subjects.due(aggregate, action)}
    subject = subjects.new_timer(name, aggregate, action)
    return Draft.of(subject, {**headers, **schedule, **target}, payload, type)


def read_timer(message: StoredMessage, subjects: Subjects) -> Timer:
    """A timer as it is stored; raises `InvalidMessage` for a message that is none."""
    headers = message.headers
    target = Subject.split(headers.get(NatsHeader.SCHEDULE_TARGET, ""))
    return Timer(
        name=message.subject.removeprefix(subjects.timer("")),
        sequence=message.sequence,
        aggregate=target.aggregate,
        action=target.action,
        due=_due(headers),
        schedule=headers.get(NatsHeader.SCHEDULE, ""),
        time_zone=headers.get(NatsHeader.SCHEDULE_TIME_ZONE),
        headers=_without(headers, SERVER_HEADERS),
        payload=message.payload,
    )


def _due(headers: Mapping[str, str]) -> datetime | None:
    pattern = headers.get(NatsHeader.SCHEDULE, "")
    time = time_in(pattern)
    if time is None:
        return None
    for text in (headers.get(DUE, ""), time):
        try:
            return parse_timestamp(text)
        except ValueError:
            continue
    raise InvalidMessage(f"the schedule {pattern[:80]!r} has no time")


def _without(headers: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {name: value for name, value in headers.items() if not name.startswith(prefix)}
