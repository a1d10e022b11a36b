"""Parked messages: listed, retried or discarded.

A command is first requeued on its stream and then deleted. After a crash in between it is still
parked; requeueing it once more has no effect, because its id remains the same. An event is deleted
by its subscriber, once that has handled it.
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
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.publish import Draft, publish_queued
from eventstore.jetstream.stored_message import StoredMessage, erase_message
from eventstore.jetstream.vocabulary import SERVER_HEADERS
from eventstore.messages.headers import REPLY_TO, Header
from eventstore.messages.outcome import Outcome
from eventstore.messages.subjects import NAME, Subjects
from eventstore.messages.undecodable import UNDECODABLE
from eventstore.parking.record import ParkedRecord, earlier_parts, is_first_part, read_record
from eventstore.parking.retry import request_retry

RETRY_OF = "X-Retry-Of"
"""The header of a requeued command: the sequence at which it was parked."""

ParkedKind = Literal["cmd", "event"]

_MAX_CONCURRENCY = 64


class ParkedMessage(msgspec.Struct, frozen=True):
    """A parked message: its `sequence` in the parked stream, which is its id, and its record.

    `earlier` are the sequences of the record's other parts.
    """

    sequence: int
    kind: ParkedKind
    record: ParkedRecord
    earlier: tuple[int, ...] = ()

    @property
    def queue_key(self) -> tuple[str, ...]:
        """The key of the messages that are retried in order with it.

        The subscriber of an event ("" for a command) and the aggregate; its sequence if it names no
        aggregate.
        """
        record = self.record
        if record.aggregate is None or record.aggregate_id is None:
            return (str(self.sequence),)
        return record.subscriber or "", record.aggregate, record.aggregate_id


class UnreadableMessage(msgspec.Struct, frozen=True):
    """A message of the parked stream that is not a complete record; `problem` is the reason.

    It can be inspected and discarded; `subject`, `headers` and `payload` are its own.
    """

    sequence: int
    kind: ParkedKind
    problem: str
    subject: str
    headers: Mapping[str, str]
    payload: bytes
    earlier: tuple[int, ...] = ()


class RetrySummary(msgspec.Struct, frozen=True):
    """How many were requeued or handled, and why others were not, by sequence."""

    retried: int
    left: Mapping[int, str]


class ParkedMessages:
    """The parked messages of a domain; all methods also raise `StreamMissing` and `ClientError`."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._subjects = subjects
        self._stream = subjects.parked_stream
        self._leader = DirectReader(client, self._stream)

    async def read(
        self,
        after: int = 0,
        *,
        kind: ParkedKind | None = None,
        aggregate: str | None = None,
        aggregate_id: str | None = None,
    ) -> AsyncGenerator[ParkedMessage | UnreadableMessage, None]:
        """The messages parked after a sequence, oldest first, up to the current end.

        `kind` restricts them to commands ("cmd") or events, the others to an aggregate, which
        excludes unreadable messages. Parts of an incomplete record are skipped.
        """
        subject = self._filter(kind, aggregate)
        async with aclosing(self._leader.messages(subject, after)) as stored:
            async for message in stored:
                with suppress(NotParked):
                    parked = await self._assemble(message)
                    if _matches(parked, aggregate, aggregate_id):
                        yield parked

    async def get(self, sequence: int) -> ParkedMessage:
        """The message parked at a sequence; raises `NotParked`, also if it cannot be read."""
        found = await self.find(sequence)
        if isinstance(found, UnreadableMessage):
            raise NotParked(sequence, found.problem)
        return found

    async def find(self, sequence: int) -> ParkedMessage | UnreadableMessage:
        """The message parked at a sequence, readable or not; raises `NotParked`."""
        return await self._assemble(await self._at(sequence))

    async def retry(
        self, sequence: int, *, out_of_order: bool = False, timeout: float = 30.0
    ) -> ParkedMessage:
        """Requeue a command on its subject, or have an event handled once more by its subscriber.

        A command keeps its id, payload and headers; returns when the command stream has stored it
        and it is no longer parked. An event is passed to the subscriber that failed, and to no
        other; returns when that has handled it and it is no longer parked. It is handled at least
        once, and once for each call until it is no longer parked.

        Raises `NotParked`, `QueueFull`, `RetryFailed` for an event whose subscriber fails again,
        does not run, or does not reply within `timeout` seconds (it may then still succeed), and
        `RetryOutOfOrder` while an older one of the same aggregate (and subscriber) is parked,
        unless `out_of_order`. That older, requeued commands have succeeded is not checked.
        """
        message = await self.get(sequence)
        if not out_of_order:
            await self._refuse_if_older(message)
        if not await self._redelivered_event(message, timeout):
            await self._requeue(message)
        return message

    async def retry_all(self, *, timeout: float = 30.0) -> RetrySummary:
        """Retry all parked messages, those of an aggregate in the order in which they were parked.

        A command is followed by the next one of its aggregate when it has an outcome, within
        `timeout` seconds; if it ends in an error again, or has none in time, the later ones stay
        parked. So do the events of an aggregate after one that its subscriber does not handle in
        that time; a subscriber handles one event after another. Messages that are parked meanwhile,
        and unreadable ones, are not retried.
        """
        sequences_by_key: dict[tuple[str, ...], list[int]] = {}
        unreadable: dict[int, str] = {}
        async with aclosing(self.read()) as messages:
            async for message in messages:
                if isinstance(message, UnreadableMessage):
                    unreadable[message.sequence] = message.problem
                else:
                    sequences_by_key.setdefault(message.queue_key, []).append(message.sequence)
        left: dict[int, str] = {}

        async def retry_queue(sequences: Sequence[int]) -> None:
            left.update(await self._retry_in_order(sequences, timeout))

        async with KeyedQueue(
            retry_queue, max_concurrency=_MAX_CONCURRENCY, max_pending=_MAX_CONCURRENCY
        ) as queue:
            for queue_key, sequences in sequences_by_key.items():
                # A subscriber handles its events one after another anyway.
                await queue.put(queue_key[0] or queue_key, sequences)
        retried = sum(map(len, sequences_by_key.values())) - len(left)
        return RetrySummary(retried, dict(sorted({**left, **unreadable}.items())))

    async def discard(self, sequence: int) -> ParkedMessage | UnreadableMessage:
        """Delete a parked message irrevocably, and return it; raises `NotParked`."""
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

    async def _assemble(self, last: StoredMessage) -> ParkedMessage | UnreadableMessage:
        if is_first_part(last.headers):
            raise NotParked(last.sequence, "this is not the last part of a record")
        kind: ParkedKind = (
            "event" if last.subject.startswith(f"{self._subjects.domain}.parked.event.") else "cmd"
        )
        earlier: tuple[int, ...] = ()
        try:
            sequences = earlier_parts(last)
            parts = [await self._at(sequence) for sequence in sequences]
            # Only its own parts, because a discard deletes them too.
            earlier = tuple(part.sequence for part in parts if is_first_part(part.headers))
            record = read_record(parts, last)
        except NotParked as error:
            await self._at(last.sequence)  # raises if it was discarded meanwhile
            problem = f"a part of the record is missing: {error}"
        except UNDECODABLE as error:
            problem = f"the record cannot be read: {error}"
        else:
            return ParkedMessage(last.sequence, kind, record, earlier)
        own = last.subject, last.headers, last.payload
        return UnreadableMessage(last.sequence, kind, problem, *own, earlier)

    async def _refuse_if_older(self, message: ParkedMessage) -> None:
        if len(message.queue_key) == 1:
            return
        _, aggregate, aggregate_id = message.queue_key
        reading = self.read(kind=message.kind, aggregate=aggregate, aggregate_id=aggregate_id)
        async with aclosing(reading) as older:
            async for each in older:
                if each.sequence >= message.sequence:
                    return
                if isinstance(each, ParkedMessage) and each.queue_key == message.queue_key:
                    raise RetryOutOfOrder(message.sequence, each.sequence)

    async def _retry_in_order(self, sequences: Sequence[int], timeout: float) -> dict[int, str]:
        """Retry the messages of one aggregate; returns those that stay parked, with the reason."""
        for number, sequence in enumerate(sequences):
            behind = sequences[number + 1 :]
            try:
                message = await self.get(sequence)
                if await self._redelivered_event(message, timeout):
                    continue
                if not behind:
                    await self._requeue(message)
                    return {}
                outcome = await self._outcome_of_retry(message, timeout)
            except EventStoreError as error:
                return dict.fromkeys(sequences[number:], str(error))
            if outcome is None or outcome.status == "error":
                ended = "has no outcome yet" if outcome is None else "ended in an error again"
                return dict.fromkeys(behind, f"waits: {sequence}, requeued before it, {ended}")
        return {}

    async def _outcome_of_retry(self, message: ParkedMessage, timeout: float) -> Outcome | None:
        """Requeue a command, and wait for its outcome; None if there is none in time."""
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        async def receive(answer: Msg) -> None:
            outcome = Outcome.of(message.record.command_id or "", answer.data)
            if outcome is not None and not answered.done():
                answered.set_result(outcome)

        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(inbox, receive)
        try:
            await self._requeue(message, {REPLY_TO: inbox})
            async with asyncio.timeout(timeout):
                return await answered
        except TimeoutError:
            return None
        finally:
            await subscription.unsubscribe()

    async def _redelivered_event(self, message: ParkedMessage, timeout: float) -> bool:
        """Have an event handled by its subscriber; False for a command."""
        subscriber = message.record.subscriber
        if subscriber is None:
            return False
        await request_retry(self._client, self._subjects, subscriber, message.sequence, timeout)
        return True

    async def _requeue(
        self, message: ParkedMessage, extra: Mapping[str, str] | None = None
    ) -> None:
        record = message.record
        if record.command_id is None:
            raise NotParked(message.sequence, "the record names neither command nor subscriber")
        # The original's headers without those that the server would evaluate.
        own = {k: v for k, v in record.headers.items() if not k.startswith(SERVER_HEADERS)}
        headers = {
            **own,
            # A command without an id had one from its sequence, which a requeued one does not have.
            Header.EVENT_ID: record.command_id,
            RETRY_OF: str(message.sequence),
            **(extra or {}),
        }
        draft = Draft.of(record.subject, headers, record.payload, "command")
        await publish_queued(self._client, draft, stream=self._subjects.command_stream)
        await self._remove(message)

    async def _remove(self, message: ParkedMessage | UnreadableMessage) -> None:
        # The last part first: without it the record does not exist.
        for sequence in (message.sequence, *message.earlier):
            # Its bytes too: personal data in it could not be found later to be forgotten.
            await erase_message(self._client, self._stream, sequence)


def _matches(
    parked: ParkedMessage | UnreadableMessage, aggregate: str | None, aggregate_id: str | None
) -> bool:
    if isinstance(parked, UnreadableMessage):
        return aggregate is None and aggregate_id is None
    record = parked.record
    return aggregate in (None, record.aggregate) and aggregate_id in (None, record.aggregate_id)
