"""Parked messages: looked at, tried again, or thrown away by a person.

A command is put back on its stream first and deleted second. A crash in between leaves it parked
although it was put back; putting it back again then changes nothing, because it keeps its id. An
event is deleted by its subscriber, once that has handled it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Literal

import msgspec

from eventstore.client.client import Client, Msg
from eventstore.concurrency.keyed import KeyedQueue
from eventstore.errors import EventStoreError, NotParked, RetryOutOfOrder
from eventstore.jetstream.direct_get import DirectReader, StoredMessage
from eventstore.jetstream.erase import erase_message
from eventstore.jetstream.publish import publish_queued
from eventstore.jetstream.vocabulary import SERVER_HEADERS
from eventstore.messages.envelope import REPLY_TO, Header
from eventstore.messages.outcome import Outcome
from eventstore.messages.subjects import NAME, Subjects
from eventstore.parking.record import (
    ParkedRecord,
    earlier_parts,
    is_first_part,
    read_record,
)
from eventstore.parking.retry import ask_to_retry
from eventstore.undecodable import UNDECODABLE

__all__ = [
    "RETRY_OF",
    "ParkedKind",
    "ParkedMessage",
    "ParkedMessages",
    "RetrySummary",
    "UnreadableMessage",
]

RETRY_OF = "X-Retry-Of"
"""The header of a command that was put back: the sequence at which it was parked."""

ParkedKind = Literal["cmd", "event"]

_AT_ONCE = 64


class ParkedMessage(msgspec.Struct, frozen=True):
    """A parked message: its `sequence` in the parked stream, by which it is known, and its record.

    `earlier` are the sequences of the record's other parts.
    """

    sequence: int
    kind: ParkedKind
    record: ParkedRecord
    earlier: tuple[int, ...] = ()

    @property
    def lane(self) -> tuple[str, ...]:
        """What it must be retried in order with; itself where it names no aggregate.

        Else its aggregate, and before that the subscriber of an event, "" for a command.
        """
        record = self.record
        if record.aggregate is None or record.aggregate_id is None:
            return (str(self.sequence),)
        return record.subscriber or "", record.aggregate, record.aggregate_id


class UnreadableMessage(msgspec.Struct, frozen=True):
    """A message of the parked stream that is no record, or not a whole one: `problem` says why.

    It can be looked at and thrown away; `subject`, `headers` and `payload` are its own.
    """

    sequence: int
    kind: ParkedKind
    problem: str
    subject: str
    headers: Mapping[str, str]
    payload: bytes
    earlier: tuple[int, ...] = ()


class RetrySummary(msgspec.Struct, frozen=True):
    """How many were put back or handled, and which were not, by sequence, with the reason."""

    retried: int
    left: Mapping[int, str]


class ParkedMessages:
    """The parked messages of a domain; `timeout` is seconds for each answer.

    Methods raise `StreamMissing` and other `ClientError`s besides what they say.
    """

    def __init__(self, client: Client, subjects: Subjects, *, timeout: float = 5.0) -> None:
        self._client = client
        self._subjects = subjects
        self._stream = subjects.parked_stream
        self._timeout = timeout
        self._leader = DirectReader(client, self._stream, timeout=timeout)

    async def read(
        self,
        after: int = 0,
        *,
        kind: ParkedKind | None = None,
        aggregate: str | None = None,
        aggregate_id: str | None = None,
    ) -> AsyncGenerator[ParkedMessage | UnreadableMessage, None]:
        """What is parked after a sequence, oldest first, up to what is parked now.

        `kind` narrows it to commands ("cmd") or events, the others to an aggregate, which what
        cannot be read is none of. The first parts of a record that was not parked to its end are
        left out.
        """
        subject = self._filter(kind, aggregate)
        async with (
            DirectReader(self._client, self._stream, timeout=self._timeout) as reader,
            aclosing(reader.messages(subject, after)) as stored,
        ):
            async for message in stored:
                with suppress(NotParked):
                    parked = await self._whole(message)
                    if _is_of(parked, aggregate, aggregate_id):
                        yield parked

    async def get(self, sequence: int) -> ParkedMessage:
        """The message parked at a sequence; raises `NotParked`, also where it cannot be read."""
        found = await self.find(sequence)
        if isinstance(found, UnreadableMessage):
            raise NotParked(sequence, found.problem)
        return found

    async def find(self, sequence: int) -> ParkedMessage | UnreadableMessage:
        """What is parked at a sequence, whether or not it can be read; raises `NotParked`."""
        return await self._whole(await self._at(sequence))

    async def retry(
        self, sequence: int, *, out_of_order: bool = False, timeout: float = 30.0
    ) -> ParkedMessage:
        """Put a command back on its subject, or have an event handled by its subscriber again.

        A command keeps its id, its bytes and its own headers; returns when the command stream has
        it and it is no longer parked. An event goes to the handlers of the subscriber that had
        failed, and to no other; returns when they have handled it and it is no longer parked. It
        is handled at least once, as often as this is called before it is no longer parked.

        Raises `NotParked`, `QueueFull`, `RetryFailed` for an event whose subscriber fails again,
        does not run, or has no answer in `timeout` seconds (it may then still succeed), and
        `RetryOutOfOrder` while an older one of the same aggregate (and subscriber) is parked,
        unless `out_of_order`. That older commands which were put back have succeeded is not
        checked.
        """
        message = await self.get(sequence)
        if not out_of_order:
            await self._refuse_if_older(message)
        if not await self._was_handed_again(message, timeout):
            await self._put_back(message)
        return message

    async def retry_all(self, *, timeout: float = 30.0) -> RetrySummary:
        """Retry all that is parked, in the order it was parked in for each aggregate.

        A command that others of its aggregate wait behind must have its outcome first, within
        `timeout` seconds; where it ends in an error again, or has none in time, those behind it
        stay parked. So do the events of an aggregate behind one that its subscriber does not
        handle in that time; a subscriber is given one event after another. What is parked
        meanwhile is not retried, nor what cannot be read.
        """
        every: dict[tuple[str, ...], list[int]] = {}
        unreadable: dict[int, str] = {}
        async with aclosing(self.read()) as messages:
            async for message in messages:
                if isinstance(message, UnreadableMessage):
                    unreadable[message.sequence] = message.problem
                else:
                    every.setdefault(message.lane, []).append(message.sequence)
        left: dict[int, str] = {}

        async def retry_lane(sequences: Sequence[int]) -> None:
            left.update(await self._retry_in_order(sequences, timeout))

        async with KeyedQueue(retry_lane, max_concurrency=_AT_ONCE, max_pending=_AT_ONCE) as lanes:
            for lane, sequences in every.items():
                # A subscriber would have its events wait for each other anyway.
                await lanes.put(lane[0] or lane, sequences)
        retried = sum(map(len, every.values())) - len(left)
        return RetrySummary(retried, dict(sorted({**left, **unreadable}.items())))

    async def discard(self, sequence: int) -> ParkedMessage | UnreadableMessage:
        """Delete a parked message for good, and return what it was; raises `NotParked`."""
        message = await self.find(sequence)
        await self._remove(message)
        return message

    def _filter(self, kind: ParkedKind | None, aggregate: str | None) -> str:
        if kind is None:
            return self._subjects.all_parked
        own = f"{self._subjects.domain}.parked.{kind}"
        if kind == "cmd" and aggregate is not None and NAME.fullmatch(aggregate):
            return f"{own}.{aggregate}.*"
        return f"{own}.>"

    async def _at(self, sequence: int) -> StoredMessage:
        found = await self._leader.leader_next(self._subjects.all_parked, sequence - 1)
        if found is None or found.sequence != sequence:
            raise NotParked(sequence)
        return found

    async def _whole(self, last: StoredMessage) -> ParkedMessage | UnreadableMessage:
        """Put a record together; `last` is the message that counts as the record's own."""
        if is_first_part(last.headers):
            raise NotParked(last.sequence, "this is not the last part of a record")
        kind: ParkedKind = (
            "event" if last.subject.startswith(f"{self._subjects.domain}.parked.event.") else "cmd"
        )
        earlier: tuple[int, ...] = ()
        try:
            named = earlier_parts(last)
            parts = [await self._at(sequence) for sequence in named]
            # Not what is another's: what is discarded takes its parts with it.
            earlier = tuple(part.sequence for part in parts if is_first_part(part.headers))
            record = read_record(parts, last)
        except NotParked as error:
            await self._at(last.sequence)  # else it was discarded meanwhile
            problem = f"a part of the record is missing: {error}"
        except UNDECODABLE as error:
            problem = f"the record cannot be read: {error}"
        else:
            return ParkedMessage(last.sequence, kind, record, earlier)
        own = last.subject, last.headers, last.payload
        return UnreadableMessage(last.sequence, kind, problem, *own, earlier)

    async def _refuse_if_older(self, message: ParkedMessage) -> None:
        if len(message.lane) == 1:
            return
        _, aggregate, aggregate_id = message.lane
        reading = self.read(kind=message.kind, aggregate=aggregate, aggregate_id=aggregate_id)
        async with aclosing(reading) as older:
            async for each in older:
                if each.sequence >= message.sequence:
                    return
                if isinstance(each, ParkedMessage) and each.lane == message.lane:
                    raise RetryOutOfOrder(message.sequence, each.sequence)

    async def _retry_in_order(self, sequences: Sequence[int], timeout: float) -> dict[int, str]:
        """Retry one aggregate's; those that stay parked, with the reason."""
        for number, sequence in enumerate(sequences):
            behind = sequences[number + 1 :]
            try:
                message = await self.get(sequence)
                if await self._was_handed_again(message, timeout):
                    continue
                if not behind:
                    await self._put_back(message)
                    return {}
                outcome = await self._tried(message, timeout)
            except EventStoreError as error:
                return dict.fromkeys(sequences[number:], str(error))
            if outcome is None or outcome.status == "error":
                ended = "has no outcome yet" if outcome is None else "ended in an error again"
                return dict.fromkeys(behind, f"waits: {sequence}, put back before it, {ended}")
        return {}

    async def _tried(self, message: ParkedMessage, timeout: float) -> Outcome | None:
        """Put a command back, and wait for its outcome; None where there is none in time."""
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        async def receive(answer: Msg) -> None:
            outcome = Outcome.of(message.record.command_id or "", answer.data)
            if outcome is not None and not answered.done():
                answered.set_result(outcome)

        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(inbox, receive)
        try:
            await self._put_back(message, {REPLY_TO: inbox})
            async with asyncio.timeout(timeout):
                return await answered
        except TimeoutError:
            return None
        finally:
            await subscription.unsubscribe()

    async def _was_handed_again(self, message: ParkedMessage, timeout: float) -> bool:
        """Whether it is an event; it is then handled by its subscriber."""
        subscriber = message.record.subscriber
        if subscriber is None:
            return False
        await ask_to_retry(self._client, self._subjects, subscriber, message.sequence, timeout)
        return True

    async def _put_back(
        self, message: ParkedMessage, extra: Mapping[str, str] | None = None
    ) -> None:
        record = message.record
        if record.command_id is None:
            raise NotParked(message.sequence, "the record names neither command nor subscriber")
        headers = {
            **_own_headers(record),
            # A command that came in bare has its id from the place it had; that place is gone.
            Header.EVENT_ID: record.command_id,
            RETRY_OF: str(message.sequence),
            **(extra or {}),
        }
        await publish_queued(
            *(self._client, record.subject, record.payload, headers, self._timeout),
            self._subjects.command_stream,
        )
        await self._remove(message)

    async def _remove(self, message: ParkedMessage | UnreadableMessage) -> None:
        # The last part first: without it the others do not count.
        for sequence in (message.sequence, *message.earlier):
            # Its bytes too: there may be personal data in it, and nobody finds it again to forget.
            await erase_message(self._client, self._stream, sequence, self._timeout)


def _is_of(
    parked: ParkedMessage | UnreadableMessage, aggregate: str | None, aggregate_id: str | None
) -> bool:
    if isinstance(parked, UnreadableMessage):
        return aggregate is None and aggregate_id is None
    record = parked.record
    return aggregate in (None, record.aggregate) and aggregate_id in (None, record.aggregate_id)


def _own_headers(record: ParkedRecord) -> dict[str, str]:
    """The original's headers without those the server would act on, as on a repeated id."""
    return {
        name: value for name, value in record.headers.items() if not name.startswith(SERVER_HEADERS)
    }
