"""The timers of a domain: set, listed, cancelled, and made due at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from eventstore.client.api_answers import Success
from eventstore.client.client import Client
from eventstore.errors import InvalidMessage, InvalidTimer, JetStreamError, NoTimer
from eventstore.jetstream.api import stream_request
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.publish import Draft, check_sizes, publish_acked
from eventstore.jetstream.stored_message import leader_get
from eventstore.jetstream.vocabulary import Api, ErrorCode, NatsHeader
from eventstore.messages.envelope import new_id
from eventstore.messages.subjects import Subjects
from eventstore.timers.schedule import AT_ONCE
from eventstore.timers.timer import Timer, read_timer, scheduled


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
            raise InvalidTimer(
                f"{draft.headers[NatsHeader.SCHEDULE]!r}: {error.description}; recurring timers "
                "need nats-server 2.14"
            ) from error
        raise
    return ack.seq


class _Purged(Success, frozen=True):
    """The answer to a purge."""

    purged: int = 0


class Timers:
    """The timers of a domain; all methods raise `StreamMissing` and other `ClientError`s."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._subjects = subjects
        self._stream = subjects.timer_stream

    async def cancel(self, name: str, timeout: float = 5.0) -> bool:
        """Cancel a timer; returns whether one of that name was waiting."""
        answer = await stream_request(
            self._client,
            Api.STREAM_PURGE,
            self._stream,
            body={"filter": self._subjects.timer(name)},
            answer=_Purged,
            timeout=timeout,
        )
        return answer.purged > 0

    async def get(self, name: str) -> Timer:
        """The waiting timer of that name; raises `NoTimer`, and `InvalidMessage` for another."""
        subject = self._subjects.timer(name)
        message = await leader_get(self._client, self._stream, {"last_by_subj": subject})
        if message is None:
            raise NoTimer(f"no timer {name} is waiting")
        return read_timer(message, self._subjects)

    async def read(self) -> AsyncGenerator[Timer, None]:
        """All waiting timers, in the order in which they were set."""
        async with (
            DirectReader(self._client, self._stream) as reader,
            aclosing(reader.messages(self._subjects.timer())) as stored,
        ):
            async for message in stored:
                with suppress(InvalidMessage):
                    yield read_timer(message, self._subjects)

    async def fire(self, name: str) -> None:
        """Make a timer due now; a recurring one remains, and is due once more.

        Raises `NoTimer` if none is waiting, or if it fires in this moment.
        """
        timer = await self.get(name)
        schedule = {NatsHeader.SCHEDULE: AT_ONCE}
        if timer.is_recurring:
            name = f"{name}-{new_id()}"
        else:
            schedule |= {NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE: str(timer.sequence)}
        to = timer.aggregate, timer.action
        headers, payload = timer.headers, timer.payload
        draft = scheduled(self._subjects, name, *to, schedule, headers, payload, timer.type)
        try:
            await set_timer(self._client, draft, stream=self._stream)
        except JetStreamError as error:
            if error.err_code == ErrorCode.WRONG_LAST_SEQUENCE:
                raise NoTimer(f"timer {name} fired, or was set again, in this moment") from error
            raise
