"""The timers of a domain: set, listed, cancelled, and made due at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import timedelta

from msgspec import Struct

from eventstore.client.api_answers import StreamInfo
from eventstore.client.client import Client
from eventstore.errors import InvalidMessage, InvalidTimer, JetStreamError, NoTimer
from eventstore.jetstream.api import stream_request
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.publish import Draft, check_sizes, publish_acked
from eventstore.jetstream.stored_message import StoredMessage, delete_message, leader_get
from eventstore.jetstream.vocabulary import CONFLICTS, Api, ErrorCode, NatsHeader
from eventstore.messages.envelope import new_id, parse_timestamp, utc_now
from eventstore.messages.subjects import Subjects
from eventstore.timers.schedule import AT_ONCE, MAX_NAME, check_stored_name, time_in
from eventstore.timers.timer import Timer, read_timer, scheduled

_CLOCK_SKEW = timedelta(seconds=0.5)


async def set_timer(client: Client, draft: Draft, timeout: float = 5.0, *, stream: str) -> int:
    """Set a timer, instead of one with the same name; returns its sequence in the stream.

    Raises `EventTooLarge`, and `InvalidTimer` for a schedule that the server does not take.
    """
    check_sizes([draft], client.max_payload)
    try:
        ack = await publish_acked(
            client, draft.subject, draft.payload, draft.lines, timeout, stream
        )
    except JetStreamError as error:
        if error.err_code in (ErrorCode.SCHEDULE_INVALID, ErrorCode.TIME_ZONE_INVALID):
            raise InvalidTimer(_refused(draft, error)) from error
        raise
    return ack.seq


def _refused(draft: Draft, error: JetStreamError) -> str:
    pattern = draft.headers[NatsHeader.SCHEDULE]
    zone = draft.headers.get(NatsHeader.SCHEDULE_TIME_ZONE)
    shown = repr(pattern) if zone is None else f"{pattern!r} in the time zone {zone!r}"
    return f"the server refuses {shown}: {error.description} (recurring timers need 2.14)"


def _is_due(message: StoredMessage) -> bool:
    """Whether a timer may be due by now, by the server's clock."""
    try:
        at = parse_timestamp(time_in(message.headers.get(NatsHeader.SCHEDULE, "")) or "")
    except ValueError:
        return False
    return at <= utc_now() + _CLOCK_SKEW


class TimerCounts(Struct, frozen=True):
    """How many timers wait, and how many are due whose commands are not carried out yet."""

    waiting: int
    due: int


class Timers:
    """The timers of a domain.

    Those of users of other accounts are called `{user}:{name}`. All methods raise `InvalidTimer`
    for an illegal name, `StreamMissing` and other `ClientError`s.
    """

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._subjects = subjects
        self._stream = subjects.timer_stream

    async def cancel(self, name: str, timeout: float = 5.0) -> bool:
        """Cancel a timer; returns whether one of that name was waiting, and will not fire.

        False also for one that is due in this moment, by the clock of this process, as the server
        may be firing it. A recurring one may be, too, and counts as cancelled.
        """
        while (message := await self._last(name, timeout)) is not None:
            if await delete_message(self._client, self._stream, message.sequence, timeout):
                return not _is_due(message)
        return False

    async def get(self, name: str) -> Timer:
        """The waiting timer of that name; raises `NoTimer`, and `InvalidMessage` for another."""
        message = await self._last(name)
        if message is None:
            raise NoTimer(f"no timer {name} is waiting")
        return read_timer(message, self._subjects)

    async def read(self) -> AsyncGenerator[Timer, None]:
        """All waiting timers, in the order in which they were set."""
        reader = DirectReader(self._client, self._stream)
        async with aclosing(reader.messages(self._subjects.timer())) as stored:
            async for message in stored:
                with suppress(InvalidMessage):
                    yield read_timer(message, self._subjects)

    async def counts(self) -> TimerCounts:
        """How many timers there are; fast however many wait."""
        info = await stream_request(
            self._client,
            Api.STREAM_INFO,
            self._stream,
            body={"subjects_filter": self._subjects.due()},
            answer=StreamInfo,
        )
        due = sum((info.state.subjects or {}).values())
        return TimerCounts(max(0, info.state.messages - due), due)

    async def fire(self, name: str) -> None:
        """Make a timer due now; a recurring one remains, and is due once more.

        Raises `NoTimer` if none is waiting, or if it fires in this moment.
        """
        timer = await self.get(name)
        if timer.is_recurring:
            once = f"-{new_id()}"
            await self._set(timer, f"{name[: MAX_NAME - len(once)]}{once}", AT_ONCE)
        elif await self._set(timer, name, AT_ONCE, timer.sequence) is None:
            raise NoTimer(f"timer {name} fired, or was set again, in this moment")

    async def _set(
        self, timer: Timer, name: str, pattern: str, expected: int | None = None
    ) -> int | None:
        """Set a timer with another pattern; None if `expected` is not the sequence it replaces."""
        schedule = {NatsHeader.SCHEDULE: pattern}
        if expected is not None:
            schedule[NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE] = str(expected)
        to = timer.aggregate, timer.action
        headers, payload = timer.headers, timer.payload
        draft = scheduled(self._subjects, name, *to, schedule, headers, payload, timer.type)
        try:
            return await set_timer(self._client, draft, stream=self._stream)
        except JetStreamError as error:
            if error.err_code in CONFLICTS:
                return None
            raise

    async def _last(self, name: str, timeout: float = 5.0) -> StoredMessage | None:
        request = {"last_by_subj": self._subjects.timer(check_stored_name(name))}
        return await leader_get(self._client, self._stream, request, timeout=timeout)
