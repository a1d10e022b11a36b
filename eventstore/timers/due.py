"""Due timers: the commands that the command stream has taken from the stream of timers.

They stay there until they are carried out, so that none is lost while the command queue is full,
and so that what the server queues twice, as after a restore, is the same command.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from eventstore.client.api_answers import decimal
from eventstore.client.client import Client, Msg
from eventstore.errors import PermissionDenied, StreamMissing
from eventstore.jetstream.stored_message import StoredMessage, delete_message, leader_get
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.envelope import parse_timestamp
from eventstore.messages.headers import DUE
from eventstore.messages.subjects import Subject, Subjects
from eventstore.messages.text import make_log_records_safe

_logger = make_log_records_safe(logging.getLogger(__name__))


class Firing(Struct, frozen=True):
    """One firing of a timer: the timer's subject, and the sequence of its command.

    `next` is when the timer fires again, or `purge`. Whoever may send commands may forge it, on
    servers before 2.15.
    """

    timer: str
    sequence: int
    next: str

    @classmethod
    def of(cls, headers: Mapping[str, str], stream: str) -> Firing | None:
        """The firing that a command comes from; None for one that was sent directly."""
        source, _, rest = headers.get(NatsHeader.STREAM_SOURCE, "").partition(" ")
        sequence = decimal(rest.partition(" ")[0])
        timer = headers.get(NatsHeader.SCHEDULER)
        if source != stream or sequence is None or timer is None:
            return None
        return cls(timer, sequence, headers.get(NatsHeader.SCHEDULE_NEXT, ""))

    @property
    def key(self) -> str:
        """What distinguishes it from all others, however often its command is queued."""
        return f"{self.timer}:{self.sequence}:{self.next}"


def due_time(headers: Mapping[str, str]) -> datetime | None:
    """When a timer's command was due; None if it is recurring, or no timer's."""
    try:
        return parse_timestamp(headers[DUE]) if DUE in headers else None
    except ValueError:
        return None


class DueTimers:
    """The due timers of a domain, until their commands are carried out."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._subjects = subjects
        self._stream = subjects.timer_stream

    async def find(self, message: Msg) -> StoredMessage | None:
        """The due timer that a command comes from.

        None for a command that was sent directly, whatever it claims, and for one whose timer is
        removed already. Raises `ClientError`.
        """
        firing = Firing.of(message.headers or {}, self._stream)
        if firing is None:
            return None
        command = Subject.split(message.subject)
        expected = self._subjects.due(command.aggregate, command.action), message.data
        try:
            stored = await leader_get(self._client, self._stream, {"seq": firing.sequence})
        except (StreamMissing, PermissionDenied) as error:
            _logger.warning("a timer that was due cannot be read: %s", error)
            return None
        if stored is None or (stored.subject, stored.payload) != expected:
            return None
        own = dict(message.headers or {})
        del own[NatsHeader.STREAM_SOURCE]
        return stored if stored.headers == own else None

    async def remove(self, timer: StoredMessage) -> None:
        """Remove a due timer, whose command is carried out; raises `ClientError`."""
        try:
            await delete_message(self._client, self._stream, timer.sequence)
        except PermissionDenied as error:
            _logger.warning("a timer that was due remains in its stream: %s", error)
